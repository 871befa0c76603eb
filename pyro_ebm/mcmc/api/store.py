"""A run on disk: a folder to which draws go while the run goes on, with the state to go on from.

``run.npz`` says what the run is and never changes; ``checkpoint.npz`` holds the state between two
blocks of steps and how many draws each chain had then. Draws made after it may be on disk as well;
a run that goes on makes them again, the same, and writes them over. The folder is a Zarr group.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from .. import checkpoint
from ..checkpoint import Saved
from ..draws import StoredDraws
from ..run import RunState
from .identity import Identity
from .stored_group import Layout, StoredGroup, constrain_in_pieces
from .zarr_array import consolidate, write_metadata

_RUN, _STATE = "run.npz", "checkpoint.npz"
_FORMAT = 1
RESUME = "MCMC.resume(path, kernel)"
# What changes its size while a run goes on: rows of checkpoints of trees, versions of a metric.
_FREE_AXES = {
    r"state\.chain\.(inner\.)?checkpoints\.\w+": 0,
    r"state\.chain\.(inner\.)?checked": 0,
    r"state\.chain\.(inner\.)?checkpoints": 1,
    r".*\.metric\.\w+": 0,
}


class Contents(NamedTuple):
    """What a folder holds beside its draws."""

    run: Saved
    checkpoint: Saved

    @property
    def layout(self) -> Layout:
        """The widths of its arrays."""
        return Layout.of(self.run.about["layout"])

    @property
    def num_draws(self) -> int:
        """The number of draws that every chain has."""
        return min(self.checkpoint.about["num_samples"], int(self.checkpoint.arrays["kept"].min()))

    def derived(self, prefix: str = "") -> np.ndarray:
        """How many draws of every chain have their sites."""
        known = f"{prefix}derived" in self.checkpoint.arrays
        return _counts_in(self, f"{prefix}derived" if known else f"{prefix}kept")

    def array(self, name: str) -> Tensor | None:
        """One of the arrays of the run as a tensor, None where it has none."""
        found = self.run.arrays.get(name)
        return None if found is None else torch.from_numpy(found)


def has_begun(path: Path) -> bool:
    """Whether the folder holds a run that can go on."""
    return (path / _RUN).exists() and (path / _STATE).exists()


def read_contents(path: Path) -> Contents:
    """What the folder of a run says of it.

    :raises FileNotFoundError: there is no run.
    :raises ValueError: a file is cut off or damaged, or from a later version of this package.
    """
    if not has_begun(path):
        raise FileNotFoundError(f"{path} holds no run that MCMC(..., store=) has written.")
    contents = Contents(checkpoint.read(path / _RUN), checkpoint.read(path / _STATE))
    if contents.run.about["format"] != _FORMAT:
        raise ValueError(
            f"{path} was written by another version of pyro_ebm, in format "
            f"{contents.run.about['format']}; this one reads format {_FORMAT}."
        )
    return contents


class StoreOptions(NamedTuple):
    """Which coordinates to store, how many draws, and the seconds between two checkpoints."""

    coordinates: Tensor | None
    num_samples: int
    seconds: float


class _Counted(NamedTuple):
    """A state, and how many draws and draws of warm-up every chain had kept then."""

    state: RunState
    kept: Tensor
    warmup_kept: Tensor | None


def _counts_in(contents: Contents, name: str) -> np.ndarray:
    """Draws of every chain [chains] as a checkpoint counts them; none where there is none yet.

    :raises ValueError: they are no numbers of draws.
    """
    none = np.zeros(contents.layout.chains, dtype=np.int64)
    found = contents.checkpoint.arrays.get(name, none)
    if found.shape != none.shape or found.dtype != none.dtype or bool((found < 0).any()):
        raise ValueError(
            f"{_STATE} is damaged: expected {name} as numbers of draws of {len(none)} chains, got "
            f"{found.dtype} of shape {found.shape}."
        )
    return found


class RunStore:
    """The folder of a run that is going on; the sampling loop writes to it.

    :param contents: what it holds, the checkpoint of an earlier run among it.
    """

    def __init__(
        self, path: Path, contents: Contents, target: Target, options: StoreOptions
    ) -> None:
        self.path, self._seconds = path, options.seconds
        self._num_samples = num_samples = options.num_samples
        self._saved: Saved | None = contents.checkpoint if contents.checkpoint.arrays else None
        # A run that is told to end earlier than it was to leaves its plan as it was.
        self._planned = max(num_samples, contents.checkpoint.about.get("num_samples", 0))
        self._spent = float(contents.checkpoint.about.get("sampling_time", 0.0))
        self._began = self._last = time.monotonic()
        # Two states: all draws of the one before the last flush are surely on disk.
        self._latest: _Counted | None = None
        self._safe: _Counted | None = None
        layout, about = contents.layout, contents.run.about
        constrain = constrain_in_pieces(target, options.coordinates)
        like = torch.empty((), dtype=target.dtype, device=target.device)
        new = self._saved is None

        def draws(group: StoredGroup, rows: int, name: str) -> StoredDraws:
            before = _counts_in(contents, name)
            group.check(int(before.max()))
            if not new:
                # What a kill or a disk has damaged of that by which others read the arrays.
                group.sync(min(rows, int(before.min())))
            kept = torch.from_numpy(before).to(target.device)
            return StoredDraws(rows, layout.coordinates, like, group, kept)

        kind: dict[str, Any] = {"constrain": constrain, "create": new}
        self._groups = [StoredGroup(path, layout, derived=contents.derived(), **kind)]
        self.draws = draws(self._groups[0], num_samples, "kept")
        self.warmup_draws: StoredDraws | None = None
        if about["save_warmup"]:
            steps = about["warmup_steps"]
            ready = contents.derived("warmup_")
            warm = StoredGroup(path, layout, prefix="warmup_", derived=ready, **kind)
            self._groups.append(warm)
            self.warmup_draws = draws(warm, steps, "warmup_kept")
        self._flushed = self.draws.written

    @property
    def sampling_time(self) -> float:
        """Seconds that the run has taken, interruptions not counted."""
        return self._spent + time.monotonic() - self._began

    @property
    def group(self) -> StoredGroup:
        """The arrays of the draws."""
        return self._groups[0]

    @property
    def warmup_group(self) -> StoredGroup | None:
        """The arrays of the warm-up, where it is kept."""
        return self._groups[1] if len(self._groups) > 1 else None

    def begin(self, state: RunState) -> RunState:
        """The first state of a new run, or the saved one in its place.

        :raises ValueError: the saved state is that of another kernel.
        """
        if self._saved is None:
            self._latest = _Counted(state, *self._counts())
            try:
                self.checkpoint(finished=False)
            except OSError:
                self._latest = None
                raise
            return state
        arrays = {k: v for k, v in self._saved.arrays.items() if k.startswith("state.")}
        try:
            saved: RunState = checkpoint.rebuild(state, arrays, "state", free=_FREE_AXES)
        except ValueError as error:
            raise ValueError(f"{self.path / _STATE} is another kernel's: {error}") from error
        self._latest = _Counted(saved, *self._counts())
        return saved

    def save(self, state: RunState) -> None:
        """Remember the state, and write it when it is time.

        :raises OSError: the disk is full.
        """
        if self.draws.written is not self._flushed:
            self._safe, self._flushed = self._latest, self.draws.written
        self._latest = _Counted(state, *self._counts())
        if time.monotonic() - self._last >= self._seconds:
            self.checkpoint(finished=False)

    def checkpoint(self, *, finished: bool) -> None:
        """Write the draws and the latest state; of the draws first, so that they are there.

        :raises OSError: the disk is full; the checkpoint before is then still there.
        :raises Exception: sites cannot be evaluated; all else is then written.
        """
        self.draws.flush()
        if self.warmup_draws is not None:
            self.warmup_draws.flush()
        # Sites may need more memory than there is: the draws shall have counted by then.
        self._write(finished=False)
        failed = self._derive()
        if self.warmup_draws is not None:
            failed = failed or self._derive(warmup=True)
        self._write(finished=finished and failed is None)
        self._last = time.monotonic()
        if failed is not None:
            raise failed

    def _write(self, *, finished: bool) -> None:
        """Write the latest state, and how many draws and sites there were then."""
        assert self._latest is not None
        state, kept, warmup_kept = self._latest
        arrays = checkpoint.flatten(state, "state") | {"kept": kept.cpu().numpy()}
        arrays["derived"] = np.minimum(self._groups[0].derived, arrays["kept"])
        self._groups[0].sync(min(self._planned, int(kept.min())))
        if self.warmup_draws is not None and warmup_kept is not None:
            self._groups[1].sync(min(self.warmup_draws.rows, int(warmup_kept.min())))
            arrays["warmup_kept"] = warmup_kept.cpu().numpy()
            arrays["warmup_derived"] = np.minimum(self._groups[1].derived, arrays["warmup_kept"])
        about = {
            "num_samples": self._planned,
            "finished": finished and self._num_samples == self._planned,
            "sampling_time": self.sampling_time,
            "gradient_steps": state.num_steps,
            "warmup_gradient_steps": state.warmup_num_steps,
        }
        consolidate(self.path)
        checkpoint.write(self.path / _STATE, Saved(arrays, about))

    def _derive(self, *, warmup: bool = False) -> Exception | None:
        """Fill in the sites; what keeps them from being evaluated."""
        draws = self.warmup_draws if warmup else self.draws
        assert draws is not None
        try:
            draws.derive()
        except Exception as error:
            return error
        return None

    @property
    def begun(self) -> bool:
        """Whether there is a state to go on from."""
        return self._latest is not None

    def close(self, *, finished: bool) -> None:
        """The last checkpoint; where it cannot be written, what is on disk already counts.

        :raises Exception: the disk is full, or a site cannot be evaluated.
        """
        failed: Exception | None = None
        for draws in (self.draws, self.warmup_draws):
            try:
                if draws is not None:
                    draws.close()
            except Exception as error:
                failed = error
        if failed is not None:
            for counted in (self._latest, self._safe):
                if counted is not None and self._has_draws_of(counted):
                    self._latest = counted
                    with contextlib.suppress(Exception):
                        self.checkpoint(finished=False)
                    break
            raise failed
        if self.begun:
            self.checkpoint(finished=finished)

    def _has_draws_of(self, counted: _Counted) -> bool:
        """Whether all draws that there were at a state are on disk."""
        whole = bool((counted.kept <= self.draws.written).all())
        if self.warmup_draws is None or counted.warmup_kept is None:
            return whole
        return whole and bool((counted.warmup_kept <= self.warmup_draws.written).all())

    def _counts(self) -> tuple[Tensor, Tensor | None]:
        before = self.warmup_draws
        return self.draws.kept, None if before is None else before.kept


def create(path: Path, run: Saved) -> None:
    """Say in the folder of a new run what it is."""
    write_metadata(path, {"node_type": "group"})
    checkpoint.write(path / _RUN, run)


def about_run(*, identity: Identity, layout: Layout, **more: Any) -> dict[str, Any]:
    """What ``run.npz`` says of a run in JSON."""
    return {"format": _FORMAT, "identity": identity, "layout": layout._asdict(), **more}
