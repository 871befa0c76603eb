"""One shard of a run: an ordinary run of some of its chains, wherever it is made.

With a folder a shard is a run on disk like any other: killed, it goes on where it was.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pyro_ebm.shards import Surroundings, within

from .folder import alone
from .inputs import as_array
from .record import RunRecord
from .store import Contents, has_begun, read_contents
from .stored_group import StoredGroup


class Shard(NamedTuple):
    """What a worker is told: MCMC itself, a kernel, other arguments, those of the model.

    ``gear`` is that of all shards, None where an earlier version has begun the run.
    ``initial_params`` are those of this shard's chains; ``folder`` is where it is kept, if anywhere
    but in memory.
    """

    mcmc: Any
    kernel: Any
    options: Mapping[str, Any]
    args: tuple
    kwargs: Mapping[str, Any]
    surroundings: Surroundings
    seed: int
    gear: str | None
    initial_params: Mapping[str, np.ndarray] | None
    folder: Path | None


class ShardDraws(NamedTuple):
    """What a shard has drawn, in arrays: positions [chain, draw, coordinate] and statistics
    [chain, draw]; a shard with a folder leaves them there. ``told`` are warnings."""

    attrs: Mapping[str, Any]
    positions: np.ndarray | None = None
    statistics: Mapping[str, np.ndarray] = {}
    warmup_positions: np.ndarray | None = None
    warmup_statistics: Mapping[str, np.ndarray] = {}
    superchains: np.ndarray | None = None
    stored: Mapping[str, np.ndarray] = {}
    warmup_stored: Mapping[str, np.ndarray] = {}
    told: tuple[tuple[type[Warning], str], ...] = ()


def run_shard(shard: Shard) -> ShardDraws:
    """Make the draws of a shard, or those that are missing in its folder.

    :raises KeyboardInterrupt: Ctrl-C ended it before it had them all.
    """
    with within(shard.surroundings, shard.seed), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mcmc = _new_or_left(shard)
        mcmc.run(*shard.args, **shard.kwargs)
        record = mcmc.last_record
    if not record.complete:
        raise KeyboardInterrupt
    told = tuple((warning.category, str(warning.message)) for warning in caught)
    if shard.folder is not None:
        return ShardDraws({}, told=told)
    return _in_memory(record)._replace(told=told)


def _new_or_left(shard: Shard) -> Any:
    """The run of a shard, or what an earlier worker has left of it."""
    folder = shard.folder
    if folder is not None and folder.exists():
        if has_begun(folder):
            names = ("num_samples", "checkpoint_seconds", "chain_batch_size")
            asked = {name: shard.options[name] for name in names}
            return shard.mcmc.resume(folder, shard.kernel, disable_progbar=True, **asked)
        # The worker was killed before there was anything to go on from.
        with alone(folder):
            shutil.rmtree(folder)
    given = shard.initial_params
    starts = None
    if given is not None:
        starts = {name: torch.from_numpy(value.copy()) for name, value in given.items()}
    mcmc = shard.mcmc(
        shard.kernel,
        initial_params=starts,
        disable_progbar=True,
        store=folder,
        **shard.options,
    )
    # A seed that was drawn could be that of another shard.
    mcmc.seed, mcmc.gear = shard.seed, shard.gear
    return mcmc


def _in_memory(record: RunRecord) -> ShardDraws:
    before, seen = record.warmup_positions, record.warmup_statistics or {}
    ids = record.superchain_ids
    return ShardDraws(
        dict(record.attrs),
        as_array(record.positions),
        {name: as_array(value) for name, value in record.statistics.items()},
        None if before is None else as_array(before),
        {name: as_array(value) for name, value in seen.items()},
        None if ids is None else as_array(ids),
    )


def in_folder(folder: Path, rows: int | None = None) -> ShardDraws:
    """What the folder of a shard holds, mapped from the disk.

    :param rows: so many draws of every chain; all unless given.
    """
    contents = read_contents(folder)
    number = contents.num_draws if rows is None else rows
    positions, statistics, sites = _stage(folder, contents, "", number)
    found = ShardDraws(
        attributes_of(contents),
        positions,
        statistics,
        superchains=contents.run.arrays.get("superchains"),
        stored=sites,
    )
    about = contents.run.about
    if not about["save_warmup"]:
        return found
    kept = min(int(contents.checkpoint.arrays["warmup_kept"].min()), about["warmup_steps"])
    before, seen, warm_sites = _stage(folder, contents, "warmup_", kept)
    return found._replace(warmup_positions=before, warmup_statistics=seen, warmup_stored=warm_sites)


def attributes_of(contents: Contents) -> dict[str, Any]:
    """The attributes of a run on disk."""
    now = dict(contents.checkpoint.about)
    return {**contents.run.about["attrs"], "complete": now.pop("finished"), **now}


def _stage(
    folder: Path, contents: Contents, prefix: str, rows: int
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Positions, statistics and, where all are there, sites."""
    group = StoredGroup(folder, contents.layout, prefix=prefix)
    positions = group.positions(rows).permute(2, 0, 1).numpy()
    statistics = {name: value.T.numpy() for name, value in group.statistics(rows).items()}
    ready = rows <= int(contents.derived(prefix).min())
    return positions, statistics, group.sites(rows) if ready else {}
