"""A run in shards on disk: a folder with a file that says what the run is, and a folder a shard.

``shards.npz`` holds what a shard that is not begun yet needs, and by which a resumed run is seen to
be the same: the seed, options, starts that were given, identity and probes of the density. Every
shard has the folder of an ordinary run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import checkpoint
from ..checkpoint import Saved
from .shard import ShardDraws, in_folder
from .store import has_begun, read_contents

_FILE, _FORMAT = "shards.npz", 1
_GIVEN = "initial_params/"


class ShardedRun(NamedTuple):
    """What the folder says of its run."""

    saved: Saved

    @property
    def seed(self) -> int:
        """The seed of the run, from which those of its shards come."""
        return int(self.saved.about["attrs"]["seed"])

    @property
    def gear(self) -> str | None:
        """The gear of all shards, where the run has one."""
        return self.saved.about["attrs"].get("gear")

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of MCMC that the run keeps, ``num_samples`` and ``shard_size`` among them;
        ``num_chains`` are all chains."""
        plain = dict(self.saved.about["options"])
        plain["sites"] = None if plain["sites"] is None else tuple(plain["sites"])
        return plain

    @property
    def num_shards(self) -> int:
        """How many shards the run has."""
        options = self.saved.about["options"]
        return -(-options["num_chains"] // options["shard_size"])

    @property
    def chains_of_shard(self) -> int:
        """How many chains a shard has."""
        options = self.saved.about["options"]
        return min(options["num_chains"], options["shard_size"])

    @property
    def initial_params(self) -> dict[str, np.ndarray] | None:
        """Starts that were given, of all chains."""
        found = {
            name.removeprefix(_GIVEN): value
            for name, value in self.saved.arrays.items()
            if name.startswith(_GIVEN)
        }
        return found or None

    def asked(self, num_samples: int) -> ShardedRun:
        """The same run, asked for another number of draws."""
        about = self.saved.about
        options = {**about["options"], "num_samples": num_samples}
        least = min(about["least"], num_samples)
        about = {**about, "options": options, "least": least}
        return ShardedRun(self.saved._replace(about=about))


def new_run(
    options: dict[str, Any],
    *,
    probes: dict[str, np.ndarray],
    initial_params: dict[str, np.ndarray] | None,
    **about: Any,
) -> ShardedRun:
    """What the folder of a new run says of it.

    :param about: identity and attributes.
    """
    given = {_GIVEN + name: value for name, value in (initial_params or {}).items()}
    least = options["num_samples"]
    about = {"format": _FORMAT, "options": options, "least": least, **about}
    return ShardedRun(Saved({**probes, **given}, about))


def is_sharded(path: Path) -> bool:
    """Whether the folder is that of a run in shards."""
    return (path / _FILE).exists()


def write_run(path: Path, run: ShardedRun) -> None:
    """Say in a folder what its run is.

    :raises OSError: the disk is full.
    """
    checkpoint.write(path / _FILE, run.saved)


def read_run(path: Path) -> ShardedRun:
    """What a folder says of its run.

    :raises ValueError: the file is damaged, or of another version.
    """
    run = ShardedRun(checkpoint.read(path / _FILE))
    if run.saved.about["format"] != _FORMAT:
        raise ValueError(
            f"{path} was written by another version of pyro_ebm, in format "
            f"{run.saved.about['format']}; this one reads format {_FORMAT}."
        )
    return run


def resumed_options(path: Path, num_samples: int | None) -> dict[str, Any]:
    """The arguments of MCMC with which a run in shards goes on.

    :param num_samples: another number of draws than before.
    :raises ValueError: the file is damaged, or fewer draws are asked for than a shard has.
    """
    run = read_run(path)
    options = run.options
    if num_samples is not None:
        most = max(draws_of_shard(path, index) for index in range(run.num_shards))
        if num_samples < most:
            raise ValueError(
                f"num_samples must be at least the {most} draws that chains have in {path}, got "
                f"{num_samples}."
            )
        options["num_samples"] = num_samples
    given = run.initial_params
    if given is not None:
        options["initial_params"] = {n: torch.from_numpy(v.copy()) for n, v in given.items()}
    return options


def folder_of_shard(path: Path, index: int) -> Path:
    """Where a shard is kept."""
    return path / f"shard-{index:04d}.zarr"


def draws_of_shard(path: Path, index: int) -> int:
    """How many draws every chain of a shard has on disk."""
    folder = folder_of_shard(path, index)
    return read_contents(folder).num_draws if has_begun(folder) else 0


def ended_shards(path: Path, run: ShardedRun) -> tuple[int, list[int]]:
    """The shards that have the fewest draws that the run was ever asked for, and how many all have.

    Where it was later asked for more and some have them, that is what the shortest has.
    """
    counts = {i: draws_of_shard(path, i) for i in range(run.num_shards)}
    ended = [i for i, number in counts.items() if number >= run.saved.about["least"]]
    return min((counts[i] for i in ended), default=0), ended


def read_shards(path: Path, indices: Sequence[int], rows: int) -> Iterator[ShardDraws]:
    """So many draws of every chain of some shards: one after another is mapped."""
    for index in indices:
        yield in_folder(folder_of_shard(path, index), rows)
