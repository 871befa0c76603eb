"""Several runs of one model as one: their chains one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_ebm.inference_data import DATA_GROUPS, native, to_attributes
from pyro_ebm.mcmc.api.merging import merged_attributes, merged_superchains

from .read import BadInput, Run, read_run

# What says how one of the runs was made, and no longer how all were.
_OF_ONE = ("created_at", "diagnosis")


def merge(paths: Sequence[Path], out: Path) -> Any:
    """Write the runs at some paths as ArviZ data of all their chains.

    :returns: the data.
    :raises BadInput: runs of different models, data or lengths, or the same run twice.
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
        _check_same(runs[0], run)
    _check_fresh(runs)
    attrs = _attributes(runs)
    datasets = {name: _joined(name, runs, attrs) for name in _common_groups(runs)}
    data = native(datasets, attrs)
    data.to_netcdf(str(out), engine="h5netcdf")
    return data


def _common_groups(runs: Sequence[Run]) -> list[str]:
    return [name for name in runs[0].groups if all(name in run.groups for run in runs)]


def _check_same(first: Run, other: Run) -> None:
    """Refuse a run of another model, by what is different."""

    def refuse(why: str) -> None:
        raise BadInput(f"{other.path} is a run of another model than {first.path}: {why}.")

    one, two = first.groups["posterior"], other.groups["posterior"]
    for name in sorted({*map(str, one.data_vars), *map(str, two.data_vars)}):
        if name not in two.data_vars:
            refuse(f"it has no variable {name!r}")
        if name not in one.data_vars:
            refuse(f"it has a variable {name!r} too")
        shapes = [
            {axis: size for axis, size in group[name].sizes.items() if axis != "chain"}
            for group in (one, two)
        ]
        lengths = [shape.pop("draw", 0) for shape in shapes]
        if shapes[0] != shapes[1]:
            refuse(f"its {name!r} is of shape {shapes[1]}, not {shapes[0]}")
        if lengths[0] != lengths[1]:
            raise BadInput(
                f"{other.path} has chains of {lengths[1]} draws and {first.path} of {lengths[0]}: "
                "only chains of one length can be merged."
            )
    for group in DATA_GROUPS:
        held = [run.groups.get(group, {}) for run in (first, other)]
        for name in sorted({*map(str, held[0]), *map(str, held[1])}):
            if name not in held[0] or name not in held[1]:
                refuse(f"only one of them has the data {name!r}")
            values = [np.asarray(part[name]) for part in held]
            if values[0].shape != values[1].shape or not _equal(*values):
                refuse(f"its data {name!r} are others")
    for name, what in (("sampler", "sampler"), ("model_graph", "sites or their distributions")):
        values = [run.attrs.get(name) for run in (first, other)]
        if name == "model_graph" and None not in values and values[0] != values[1]:
            refuse(f"its {what} are others")
    if first.attrs.get("thinning", 1) != other.attrs.get("thinning", 1):
        raise BadInput(
            f"{other.path} keeps every {other.attrs.get('thinning', 1)}th transition and "
            f"{first.path} every {first.attrs.get('thinning', 1)}th: they cannot be merged."
        )


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    return bool(np.array_equal(one, two, equal_nan=one.dtype.kind == "f"))


def _check_fresh(runs: Sequence[Run]) -> None:
    """Refuse the same chains twice: they would count double."""
    seen: dict[str, Run] = {}
    for run in runs:
        posterior = run.groups["posterior"]
        key = "".join(np.asarray(posterior[name]).tobytes().hex()[:400] for name in posterior)
        if key in seen:
            raise BadInput(
                f"{run.path} and {seen[key].path} hold the same draws: they would count double."
            )
        seen[key] = run


def _attributes(runs: Sequence[Run]) -> dict[str, Any]:
    parts = [
        {name: value for name, value in run.attrs.items() if name not in _OF_ONE} for run in runs
    ]
    about: dict[str, Any] = {
        "num_chains": sum(run.groups["posterior"].sizes["chain"] for run in runs),
        "merged_from": [str(run.path) for run in runs],
        "complete": all(run.attrs.get("complete", True) for run in runs),
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
    if name == "warmup_posterior" or name.startswith("warmup_"):
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
