"""What a run has done, one file a stage: then it can be stopped anywhere and go on.

A run is a sequence of loops (:mod:`.loop`), and what lies between them follows from their last
states. Of every loop that is finished the last state is kept, with the state of the random
generator then; of the one that is going on, from time to time, the latest. A run that is taken up
again does all that it did, but a loop that is finished gives back its state at once, and the one
that was going on goes on where it was: so every number comes out as it would have.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pyro_ebm.mcmc import checkpoint
from pyro_ebm.mcmc.checkpoint import Saved

from .loop import Loop, S

_GENERATOR = "generator"


class _Latest(NamedTuple):
    """A state that is not on disk, of the loop of this name, and where it goes."""

    file: Path
    name: str
    state: Any
    generator: torch.Tensor


class Journal:
    """The files of the loops of a run, in the order in which they are run.

    :param seconds: the time between two states of a loop that is going on.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._number = 0
        self._last = time.monotonic()
        self._latest: _Latest | None = None

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._number:04d}.npz"

    @property
    def knows_next(self) -> bool:
        """Whether the loop that comes next was run before, as far as it came."""
        return self._file.exists()

    @property
    def is_empty(self) -> bool:
        """Whether no loop has left a state."""
        return next(self._folder.glob("*.npz"), None) is None

    def kept(self, stage: str, loop: Loop[S]) -> Loop[S]:
        """The loop, begun where it was left, with its states kept.

        :raises OSError: in the loop, when the disk is full; the state before is then still there.
        :raises ValueError: in the loop, where the file is damaged or of another version.
        """
        file, name = self._file, f"{stage}: {loop.kind.__name__}"
        self._number += 1

        def look(state: S) -> S:
            self._latest = _Latest(file, name, state, loop.generator.get_state())
            if loop.finished(state) or time.monotonic() - self._last >= self._seconds:
                self.write()
            return state

        def begin() -> S:
            return _read(file, name, loop) if file.exists() else look(loop.begin())

        return replace(loop, begin=begin, step=lambda state: look(loop.step(state)))

    def write(self) -> None:
        """Write the latest state, where it is not on disk.

        :raises OSError: the disk is full.
        """
        if self._latest is None:
            return
        file, name, state, generator = self._latest
        arrays = checkpoint.flatten(state, "state") | {_GENERATOR: generator.numpy()}
        checkpoint.write(file, Saved(arrays, {"stage": name}))
        self._latest, self._last = None, time.monotonic()

    def write_shard(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep what a shard has given.

        :raises OSError: the disk is full.
        """
        checkpoint.write(self._folder / f"{name}.npz", Saved(arrays, {"stage": name}))

    def read_shard(self, name: str) -> dict[str, np.ndarray] | None:
        """What a shard has given in an earlier run; None where it had not ended.

        :raises ValueError: the file is damaged.
        """
        file = self._folder / f"{name}.npz"
        if not file.exists():
            return None
        try:
            return checkpoint.read(file).arrays
        except ValueError as error:
            raise ValueError(f"{error} Delete it, and the run makes it anew.") from error


def _read(file: Path, name: str, loop: Loop[S]) -> S:
    """The state of a loop, which sets the generator too."""
    try:
        arrays, about = checkpoint.read(file)
    except ValueError as error:
        raise ValueError(f"{error} Delete it, and the run makes it anew.") from error
    if about["stage"] != name:
        raise ValueError(
            f"{file} was written by another version of pyro_ebm: it is of the stage "
            f"{about['stage']!r}, where this version has {name!r}."
        )
    generator = torch.from_numpy(arrays.pop(_GENERATOR))
    try:
        state: S = checkpoint.restored(loop.kind, arrays, "state", loop.generator.device)
    except ValueError as error:
        raise ValueError(f"{file} was written by another version of pyro_ebm: {error}") from error
    loop.generator.set_state(generator)
    return state
