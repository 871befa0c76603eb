"""A run on disk as ArviZ data, without its model."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pyro_ebm.inference_data import to_inference_data

from .store import Contents, read_contents
from .stored_group import DISCRETE_STATISTICS, StoredGroup


def from_store(path: str | PathLike[str]) -> Any:
    """The run in a folder that ``MCMC(..., store=path)`` writes, as far as it has come.

    It may be finished, interrupted or still going on; what counts are the draws that every chain
    had at the last checkpoint. They are mapped from the disk: what is not looked at is not read.
    Where the model could not be evaluated any more, the last draws are there as unconstrained
    coordinates only; a warning tells how many.
    Log likelihoods and energies need the model: ``MCMC.resume(path, kernel)`` and ``to_arviz()``.

    :returns: InferenceData, or DataTree from ArviZ 1.
    :raises FileNotFoundError: there is no run.
    :raises ValueError: a file is cut off or damaged.
    """
    folder = Path(path)
    contents = read_contents(folder)
    about, now = contents.run.about, contents.checkpoint.about
    groups: dict[str, dict[str, np.ndarray]] = _sampled(folder, contents, "", contents.num_draws)
    if about["save_warmup"]:
        kept = int(contents.checkpoint.arrays["warmup_kept"].min())
        rows = min(kept, about["warmup_steps"])
        groups |= _sampled(folder, contents, "warmup_", rows)
    for name, value in contents.run.arrays.items():
        group, _, variable = name.partition("/")
        if group in ("observed_data", "constant_data"):
            groups.setdefault(group, {})[variable] = value
    attributes = {
        **about["attrs"],
        "complete": now["finished"],
        **{name: value for name, value in now.items() if name != "finished"},
    }
    return to_inference_data(
        groups,
        dims={name: tuple(axes) for name, axes in about["dims"].items()},
        coords={name: np.asarray(labels) for name, labels in about["coords"].items()},
        attrs=attributes,
    )


def _sampled(
    folder: Path, contents: Contents, prefix: str, rows: int
) -> dict[str, dict[str, np.ndarray]]:
    """The groups of one stage."""
    group = StoredGroup(folder, contents.layout, prefix=prefix)
    positions = group.positions(rows).permute(2, 0, 1).numpy()
    statistics = {name: value.T.numpy() for name, value in group.statistics(rows).items()}
    ids = contents.run.arrays.get("superchains")
    if ids is not None:
        shape = positions.shape[:2]
        statistics["superchain"] = np.broadcast_to(ids[:, None], shape).astype(np.int32)
    stored = contents.run.arrays.get("coordinates")
    if stored is None:
        stored = np.arange(positions.shape[2])
    ready = min(rows, int(contents.derived(prefix).min()))
    if ready < rows:
        warnings.warn(
            f"{folder}: of {rows} draws of every chain {ready} have values of sites, as the model "
            f"could not be evaluated. All are in {prefix}unconstrained_posterior and "
            f"{prefix}sample_stats; MCMC.resume(path, kernel).run() fills in the sites.",
            stacklevel=3,
        )
    unconstrained = {}
    # The states of a discrete energy are not stored under a second name.
    if not contents.run.about["unconstrained"]:
        told = (*DISCRETE_STATISTICS, "superchain")
        statistics = {name: value for name, value in statistics.items() if name in told}
    for name, (offset, shape) in contents.run.about["unconstrained"].items():
        first = int(np.searchsorted(stored, offset))
        part = positions[..., first : first + int(np.prod(shape))]
        unconstrained[name] = part.reshape(*part.shape[:2], *shape)
    found = {
        f"{prefix}posterior": group.sites(ready),
        f"{prefix}unconstrained_posterior": unconstrained,
        f"{prefix}sample_stats": statistics,
    }
    return {name: values for name, values in found.items() if values}
