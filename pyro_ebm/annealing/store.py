"""The folder of an estimate that is made, and its beginning, its end and its being taken up again.

``run.npz`` says what the run is and never changes; ``stages`` holds what it has done
(:mod:`.journal`), and ``estimate.npz`` what there is to read of it: the estimate, or before there
is one what the rounds that still adapt have made of it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pyro_ebm.mcmc import checkpoint
from pyro_ebm.mcmc.api.folder import (
    ESTIMATE,
    ESTIMATE_FORMAT,
    alone,
    check_free,
    check_same,
    claim,
    probes,
    somewhere,
    warn_if_elsewhere,
)
from pyro_ebm.mcmc.api.identity import Identity
from pyro_ebm.mcmc.checkpoint import Saved
from pyro_ebm.target import Target

from .journal import Journal
from .log_z import LogZ
from .stored import restored, saved

_RUN, _STAGES = "run.npz", "stages"


class Place(NamedTuple):
    """Where a run is kept, by which method it is, and the seconds between two of its states."""

    path: Path
    method: str
    seconds: float

    @property
    def resume(self) -> str:
        """The call that goes on with it."""
        return f"{self.method}.resume(path, model)"


class Store:
    """The folder of a run that is going on."""

    def __init__(self, place: Place, run: Saved) -> None:
        self.path, self._run = place.path, run
        self.journal = Journal(place.path / _STAGES, place.seconds)
        self._written = False

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self._run.about["attrs"]["seed"])

    @property
    def is_empty(self) -> bool:
        """Whether the run has left nothing but its name."""
        return not self._written and self.journal.is_empty

    def result(self, target: Target) -> LogZ | None:
        """The estimate of a finished run, None before.

        :raises ValueError: the file is damaged.
        """
        contents = checkpoint.read(self.path / ESTIMATE)
        return restored(contents, target) if contents.about["attrs"]["complete"] else None

    def write(self, estimate: LogZ) -> None:
        """Make this what there is to read.

        :raises OSError: the disk is full; what there was before is then still there.
        """
        checkpoint.write(self.path / ESTIMATE, saved(estimate))
        self._written = True


def read_run(place: Place) -> Saved:
    """What the folder of a run says of it.

    :raises FileNotFoundError: there is no estimate.
    :raises ValueError: the file is damaged, or the run is of another method or format.
    """
    path = place.path
    if not (path / _RUN).exists() or not (path / ESTIMATE).exists():
        raise FileNotFoundError(
            f"{path} holds no estimate that {place.method}(..., store=) has written."
        )
    run = checkpoint.read(path / _RUN)
    if run.about["format"] != ESTIMATE_FORMAT:
        raise ValueError(
            f"{path} was written by another version of pyro_ebm, in format {run.about['format']}; "
            f"this one reads format {ESTIMATE_FORMAT}."
        )
    method = run.about["method"]
    if method != place.method:
        raise ValueError(f"{path} is a run of {method}: go on with {method}.resume(path, model).")
    return run


@contextlib.contextmanager
def new(
    place: Place,
    target: Target,
    *,
    identity: Identity,
    options: Mapping[str, Any],
    attributes: Mapping[str, Any],
    first: LogZ,
) -> Iterator[Store]:
    """The folder of a new run; it is gone again where the run leaves nothing in it.

    :param options: in values that JSON keeps.
    :param first: what there is to read before there is anything.
    :raises FileExistsError: something is there already.
    """
    names = {site.name for site in target.sites}
    about = {
        "format": ESTIMATE_FORMAT,
        "method": place.method,
        "identity": identity,
        "options": dict(options),
        "attrs": {**attributes, "torch_version": str(torch.__version__)},
    }
    run = Saved(probes(target, somewhere(target), names), about)
    claim(place.path, place.resume)
    store = None
    try:
        with alone(place.path):
            (place.path / _STAGES).mkdir()
            checkpoint.write(place.path / ESTIMATE, saved(first))
            checkpoint.write(place.path / _RUN, run)
            store = Store(place, run)
            with _closed(store, place):
                yield store
    finally:
        if store is None or store.is_empty:
            shutil.rmtree(place.path, ignore_errors=True)


@contextlib.contextmanager
def taken_up(
    place: Place, target: Target, *, identity: Identity, attributes: Mapping[str, Any]
) -> Iterator[Store]:
    """The folder of an earlier run.

    :raises RuntimeError: another process is writing to it.
    :raises ValueError: the run is one of something else.
    """
    with alone(place.path):
        run = read_run(place)
        check_same(place.path, run, target, identity)
        warn_if_elsewhere(place.path, run.about["attrs"], attributes)
        store = Store(place, run)
        with _closed(store, place):
            yield store


def check_new(place: Place) -> None:
    """Refuse to write over anything.

    :raises FileExistsError: something is there already.
    """
    check_free(place.path, place.resume)


@contextlib.contextmanager
def _closed(store: Store, place: Place) -> Iterator[None]:
    """Write the latest state at the end, and say where it is."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):
            store.journal.write()
        if not store.is_empty:
            error.add_note(
                f"What was estimated is in {store.path}: from_store() reads it, and "
                f"{place.resume} goes on with the run."
            )
        raise
    store.journal.write()
