"""A run from wherever it is kept: a file of ArviZ data, or the folder of a run on disk."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyro_ebm.inference_data import datasets_of, parsed_attributes, read_netcdf
from pyro_ebm.mcmc.api import from_store
from pyro_ebm.mcmc.api.diagnose_data import numeric_draws
from pyro_ebm.mcmc.api.folder import ESTIMATE_GROUP


class BadInput(Exception):
    """What is asked for cannot be had from what is given; the message says why, in a sentence."""


class Run(NamedTuple):
    """ArviZ data, its groups by name, its attributes, and what was to be told while it was read."""

    path: Path
    data: Any
    groups: Mapping[str, Any]
    attrs: Mapping[str, Any]
    told: tuple[str, ...]

    @property
    def is_estimate(self) -> bool:
        """Whether it is an estimate of log Z."""
        return ESTIMATE_GROUP in self.groups or "log_z" in self.attrs


def read_run(path: Path) -> Run:
    """The run in a ``.nc`` file or in the folder of a ``store=``.

    :raises BadInput: there is none, it is damaged, or has no draws.
    :raises ImportError: h5netcdf is missing.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        data = _read(path)
    groups = datasets_of(data)
    if not groups:
        raise BadInput(f"{path} holds no draws and no estimate yet.")
    told = tuple(str(w.message) for w in caught if w.category is UserWarning)
    attrs = parsed_attributes({**data.attrs, **next(iter(groups.values())).attrs})
    run = Run(path, data, groups, attrs, told)
    if not run.is_estimate and "posterior" in groups:
        _check_draws(run)
    return run


def not_finite(run: Run) -> str | None:
    """In words which variables of the posterior hold numbers that are not finite, and in how many
    draws; None where none does."""
    said = []
    for name, values in numeric_draws(run.groups["posterior"]).items():
        finite = np.isfinite(values).reshape(*values.shape[:2], -1).all(-1)
        if not finite.all():
            said.append(f"{name} in {int((~finite).sum())} of {finite.size} draws")
    return "NaN or infinity stands for " + ", ".join(said) if said else None


def _read(path: Path) -> Any:
    if not path.exists():
        raise BadInput(f"There is no {path}: give a .nc file, or the folder of a run on disk.")
    if not (path.is_file() or path.is_dir()):
        # Opening a pipe would wait for who writes to it.
        raise BadInput(
            f"{path} is neither a file nor a folder, but a pipe, a socket or a device: give a .nc "
            "file, or the folder of a run on disk."
        )
    try:
        return from_store(path) if path.is_dir() else read_netcdf(path)
    except KeyError as error:
        raise BadInput(f"{path} is damaged, or of another version: it lacks {error}.") from error
    except (OSError, ValueError) as error:
        raise BadInput(str(error)) from error


def _check_draws(run: Run) -> None:
    drawn = numeric_draws(run.groups["posterior"])
    if not drawn:
        raise BadInput(f"{run.path} holds no numbers with chains and draws in its posterior.")
    if 0 in next(iter(drawn.values())).shape[:2]:
        raise BadInput(f"{run.path} holds a posterior without draws.")
