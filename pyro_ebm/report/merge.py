"""Several runs of one model as one: their chains one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyro_ebm.inference_data import DATA_GROUPS, native, to_attributes
from pyro_ebm.mcmc.api.merging import merged_attributes, merged_superchains

from .read import BadInput, Run, not_finite, read_run
from .same import check_fresh, check_same, difference, unchecked

# What says how one of the runs was made, and no longer how all were.
_OF_ONE = ("created_at", "diagnosis")


class Merged(NamedTuple):
    """ArviZ data, and what was to be told while it was put together."""

    data: Any
    told: tuple[str, ...]


def merge(paths: Sequence[Path], out: Path) -> Merged:
    """Write the runs at some paths as ArviZ data of all their chains.

    :raises BadInput: runs of different models, data or lengths, or the same chains twice.
    :raises ImportError: h5netcdf is missing.
    :raises OSError: the file cannot be written.
    """
    if len(paths) < 2:
        raise BadInput(f"There is nothing to merge: expected two runs or more, got {len(paths)}.")
    if out.exists():
        raise BadInput(f"{out} exists already: give another name with -o.")
    runs = [read_run(path) for path in paths]
    for run in runs:
        if run.is_estimate or "posterior" not in run.groups:
            raise BadInput(f"{run.path} holds no chains of a run of MCMC.")
    for run in runs[1:]:
        check_same(runs[0], run)
    check_fresh(runs)
    silence = unchecked(runs)
    attrs = _attributes(runs, silence)
    datasets = {name: _joined(name, runs, attrs) for name in _common_groups(runs)}
    data = native(datasets, attrs)
    data.to_netcdf(str(out), engine="h5netcdf")
    bad = {run.path: not_finite(run) for run in runs}
    told = [
        f"Warning: in {path} {why}, and so it does in what is written. Look at that run alone."
        for path, why in bad.items()
        if why is not None
    ]
    return Merged(data, (*told, *([] if silence is None else [silence])))


def _common_groups(runs: Sequence[Run]) -> list[str]:
    """The groups that all runs have, of the prior those that can be put together."""
    first = runs[0]
    return [
        name
        for name in first.groups
        if all(name in run.groups and difference(name, first, run) is None for run in runs)
    ]


def _attributes(runs: Sequence[Run], silence: str | None) -> dict[str, Any]:
    parts = [
        {name: value for name, value in run.attrs.items() if name not in _OF_ONE} for run in runs
    ]
    about: dict[str, Any] = {
        "num_chains": sum(run.groups["posterior"].sizes["chain"] for run in runs),
        "merged_from": [str(run.path) for run in runs],
        "complete": all(run.attrs.get("complete", True) for run in runs),
        **({} if silence is None else {"unchecked": silence, "distribution": None}),
    }
    return to_attributes(merged_attributes(parts, about))


def _joined(name: str, runs: Sequence[Run], attrs: dict[str, Any]) -> Any:
    """A group of all runs; of data, which are the same, that of the first."""
    import xarray as xr

    parts = [run.groups[name] for run in runs]
    if name in DATA_GROUPS or "chain" not in parts[0].dims:
        return parts[0].assign_attrs(attrs)
    shared = [v for v in parts[0].data_vars if all(v in part for part in parts)]
    parts = [part[shared] for part in parts]
    if name.startswith("warmup_"):
        rows = min(part.sizes["draw"] for part in parts)
        parts = [part.isel(draw=slice(rows)) for part in parts]
    joined: Any = xr.concat(parts, "chain", join="override", combine_attrs="drop")
    joined = joined.assign_coords(chain=np.arange(joined.sizes["chain"])).assign_attrs(attrs)
    if "superchain" in shared:
        ids = merged_superchains([np.asarray(part["superchain"])[:, 0] for part in parts])
        assert ids is not None
        values = np.broadcast_to(ids[:, None], joined["superchain"].shape).astype(np.int32)
        joined["superchain"] = (joined["superchain"].dims, values)
    return joined
