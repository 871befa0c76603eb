"""A run of learning on disk: one file, replaced whole, which PyTorch reads without pickled code."""

from __future__ import annotations

import time
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_FILE = "learning.pt"


class Kept(NamedTuple):
    """All that a run could go on from; ``state`` is that of the objective, ``about`` says what."""

    step: int
    seed: int
    about: dict[str, str]
    options: dict[str, Any]
    parameters: list[Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None
    state: Any
    generator: Tensor
    average: list[Tensor] | None
    good: list[list[Tensor]]
    best: float
    looks: list[tuple[float, ...]]
    more: list[tuple[float, float]]
    energies: list[Tensor]
    kept_negatives: list[Tensor]
    probed: Tensor

    def filled(self, example: Any) -> Any:
        """The state of the objective, as a nest like the example.

        :raises ValueError: it has another form: the objective is another.
        """
        leaves, form = pytree.tree_flatten(example)
        if len(leaves) != len(self.state) or any(
            isinstance(a, Tensor) != isinstance(b, Tensor)
            or (isinstance(a, Tensor) and a.shape != b.shape)
            for a, b in zip(leaves, self.state, strict=True)
        ):
            raise ValueError(
                "expected the objective and the batch size that the run was begun with, got an "
                "objective whose state has another form."
            )
        return pytree.tree_unflatten(self.state, form)

    def check(self, about: dict[str, str]) -> None:
        """Refuse to go on with something else than the run was begun with.

        :raises ValueError: the energy, the objective or the data are others.
        """
        for name, now in about.items():
            if self.about[name] != now:
                raise ValueError(
                    f"expected the {name} that the run was begun with, {self.about[name]}, got "
                    f"{now}."
                )

    def with_learned(self, state: Any, old: Any, new: list[Tensor]) -> Any:
        """The state with some of its tensors, by identity, replaced by others."""
        places = {id(before): after for before, after in zip(old, new, strict=True)}
        return pytree.tree_map(lambda leaf: places.get(id(leaf), leaf), state)


class Folder:
    """The folder of one run.

    :param path: where it is.
    :param seconds: the time between two states.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        if not seconds > 0.0:
            raise ValueError(f"checkpoint_seconds must be positive, got {seconds}.")
        self.path, self.seconds = path, seconds
        self._written = time.monotonic()

    @classmethod
    def new(cls, path: str | PathLike[str], seconds: float) -> Folder:
        """A folder for a new run.

        :raises FileExistsError: something is there already.
        """
        folder = cls(Path(path), seconds)
        if folder.path.exists():
            raise FileExistsError(
                f"expected no {folder.path} yet, as a new run goes there. Go on with the run in it "
                "by resume_fit(store, ...), or give another name."
            )
        folder.path.mkdir(parents=True)
        return folder

    @classmethod
    def opened(cls, path: str | PathLike[str], seconds: float) -> tuple[Folder, Kept]:
        """The folder of an earlier run, and its last state.

        :raises FileNotFoundError: no state was kept there.
        :raises ValueError: it was kept by another version.
        """
        folder = cls(Path(path), seconds)
        file = folder.path / _FILE
        if not file.exists():
            raise FileNotFoundError(
                f"expected a run of fit(..., store={str(path)!r}) with a state in {folder.path}, "
                "found none."
            )
        found = torch.load(file, weights_only=True)
        if set(found) != set(Kept._fields):
            raise ValueError(
                f"expected a run kept by this version in {folder.path}, found one of another. "
                "Begin anew with fit(..., store=)."
            )
        return folder, Kept(**found)

    def due(self) -> bool:
        """Whether it is time for another state."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, kept: Kept) -> None:
        """Keep a state; that before it stays until this one is whole."""
        leaves, _ = pytree.tree_flatten(kept.state)
        plain = kept._asdict() | {
            "state": [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        }
        partial = self.path / f"{_FILE}.part"
        torch.save(plain, partial)
        partial.replace(self.path / _FILE)
        self._written = time.monotonic()
