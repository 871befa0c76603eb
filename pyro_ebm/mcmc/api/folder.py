"""The folder of a run on disk: who may write to it, and whether its run is that of what is here."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from ..checkpoint import Saved
from .identity import Identity, density_differs, differences, values_differ

# What there is to read of an estimate of log Z.
ESTIMATE, ESTIMATE_FORMAT, ESTIMATE_GROUP = "estimate.npz", 1, "annealing"
_PROBES = 8
_PROBE = ("probe", "probe_log_density", "probe_gradient")
_PROBED = "probe_site:"


def claim(path: Path, resume: str) -> None:
    """Make the folder of a new run; of several processes one makes it.

    :raises FileExistsError: something is there already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        check_free(path, resume)
        raise


def check_free(path: Path, resume: str) -> None:
    """Refuse to write over anything.

    :param resume: the call that goes on with a run.
    :raises FileExistsError: something is there already.
    """
    if path.exists():
        # Every run has one that says what it is.
        holds = any(path.glob("*.npz"))
        way = f"Go on with the run in it by {resume}, or give" if holds else "It holds no run: give"
        raise FileExistsError(f"store={str(path)!r} exists already. {way} a new name.")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing to the same run, where the system can.

    :raises RuntimeError: one does.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (path / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"{path} is being written by another process.") from error
        yield


def probes(target: Target, start: Tensor, sites: Collection[str]) -> dict[str, np.ndarray]:
    """Log densities, gradients and values of sites at a few of the starts [dim, chains]."""
    chosen = torch.linspace(0, start.shape[1] - 1, min(start.shape[1], _PROBES)).long()
    points = start[:, chosen.to(start.device)].contiguous()
    found = (points, *target.in_pieces(points))
    values = {_PROBED + n: v for n, v in target.constrain(points.T).items() if n in sites}
    named = {**dict(zip(_PROBE, found, strict=True)), **values}
    return {name: value.cpu().numpy() for name, value in named.items()}


def somewhere(target: Target) -> Tensor:
    """Positions [dim, n] at which densities are compared, finite ones where there are some."""
    generator = torch.Generator(target.device).manual_seed(0)
    try:
        return target.initial_positions(_PROBES, generator=generator)
    except ValueError:
        kind = {"dtype": target.dtype, "device": target.device}
        return torch.randn(target.dim, _PROBES, generator=generator, **kind)


def check_same(path: Path, run: Saved, target: Target, now: Identity) -> None:
    """Refuse to go on with another model, other data or other settings.

    :param run: what the folder says of its run, its :func:`probes` among it.
    :raises ValueError: saying what differs.
    """
    found = differences(run.about["identity"], now)
    if not found:
        points, old, old_gradient = (
            torch.from_numpy(run.arrays[name]).to(target.device) for name in _PROBE
        )
        seen = density_differs((old, old_gradient), target.in_pieces(points))
        found = [] if seen is None else [seen]
        known = {
            name.removeprefix(_PROBED): torch.from_numpy(value).to(target.device)
            for name, value in run.arrays.items()
            if name.startswith(_PROBED)
        }
        found += values_differ(known, target.constrain(points.T))
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise ValueError(
            f"{path} is the run of something else: {shown}. Resume it with the model, the data "
            "and the settings that it was begun with, or begin another with another store=."
        )


def warn_if_elsewhere(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Tell where the same draws cannot be promised, as sums are rounded in another order."""
    now = {**now, "torch_version": str(torch.__version__)}
    changed = [
        f"{name} was {before[name]} and is {now[name]}"
        for name in ("torch_version", "num_threads")
        if before[name] != now[name]
    ]
    if changed:
        warnings.warn(
            f"{path}: {' and '.join(changed)}. The run goes on rightly, but its draws need not be "
            "those that it would have made without the interruption.",
            stacklevel=3,
        )
