"""From a plain {group: {variable: array}} to what the installed ArviZ calls native.

ArviZ 0.23 has InferenceData, ArviZ 1 xarray's DataTree; both are groups of datasets whose axes have
names. Variables of a sampled group are [chain, draw, *event]; data, and the groups that are called
plain, are [*event]. Three rules make the names safe, and the attribute ``renamed_variables`` lists
what they changed:

- ``chain`` and ``draw`` belong to ArviZ: a variable of that name gets ``_variable`` behind it;
- an axis that is called like any variable, or like these two, gets ``_dim`` behind its name, in
  every group: the variable keeps its own;
- netCDF reads ``/`` as a path, and has no empty names: they become ``.`` and ``unnamed``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_DIMS = ("chain", "draw")
DATA_GROUPS = ("observed_data", "constant_data", "predictions_constant_data")
# HDF5 keeps an attribute in 64 KiB.
_LONGEST_ATTRIBUTE = 30_000


def to_inference_data(
    groups: Mapping[str, Mapping[str, np.ndarray]],
    *,
    dims: Mapping[str, Sequence[str]] = {},
    coords: Mapping[str, Any] = {},
    attrs: Mapping[str, object] = {},
    plain_groups: Collection[str] = (),
) -> Any:
    """ArviZ data from plain arrays: InferenceData, or DataTree from ArviZ 1.

    :param groups: arrays by group and variable.
    :param dims: the names of a variable's axes beside chain and draw, by variable, or by
        ``"group/variable"`` where a group differs. A variable with fewer axes takes the first
        names; axes without one are called ``variable_dim_0``, ``variable_dim_1`` and so on.
    :param coords: labels by axis; 0, 1, ... where there are none.
    :param attrs: go to every group. Numbers and strings stay as they are, the rest becomes JSON.
    :param plain_groups: groups beside those of data whose arrays have no chain and draw axes.
    :raises ValueError: an array without chain and draw axes in a sampled group, or labels of
        another number than the axis has elements.
    """
    variables = list(dict.fromkeys(name for group in groups.values() for name in group))
    names = _variable_names(variables)
    axes = _Axes(taken=set(names.values()))
    labels = {axes.name(axis): np.asarray(values) for axis, values in coords.items()}
    renamed = {old: new for old, new in names.items() if old != new}
    attributes = to_attributes(
        {
            "created_at": datetime.now(UTC).isoformat(),
            **attrs,
            **({"renamed_variables": renamed} if renamed else {}),
        }
    )
    datasets = {}
    for group, contents in groups.items():
        first = () if group in (*DATA_GROUPS, *plain_groups) else SAMPLE_DIMS
        data = {}
        for name, values in contents.items():
            array = np.asarray(values)
            if array.ndim < len(first):
                raise ValueError(
                    f"expected {group}/{name} to be [chain, draw, *event], got shape {array.shape}."
                )
            given = dims.get(f"{group}/{name}", dims.get(name, ()))
            rest = axes.complete(given, names[name], array.ndim - len(first))
            data[names[name]] = ((*first, *rest), array)
        datasets[group] = _dataset(group, data, labels, attributes)
    return native(datasets, attributes)


class _Axes:
    """The names of axes, kept clear of the names of variables."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken | set(SAMPLE_DIMS)

    def name(self, axis: str) -> str:
        return _free(_plain(axis), "_dim", self.taken)

    def complete(self, given: Sequence[str], variable: str, rank: int) -> list[str]:
        found = [self.name(axis) for axis in list(given)[:rank]]
        found += [self.name(f"{variable}_dim_{i}") for i in range(len(found), rank)]
        if len(set(found)) < len(found):
            raise ValueError(f"expected different names for the axes of {variable}, got {found}.")
        return found


def _variable_names(variables: Iterable[str]) -> dict[str, str]:
    """Per variable a name that ArviZ and netCDF accept, all different."""
    variables = list(variables)
    names = {name: name for name in variables if _plain(name) == name and name not in SAMPLE_DIMS}
    for name in variables:
        if name not in names:
            plain = _plain(name)
            names[name] = _free(plain, "_variable", {*names.values(), *SAMPLE_DIMS})
    return names


def _plain(name: str) -> str:
    return name.replace("/", ".") or "unnamed"


def _free(name: str, suffix: str, taken: set[str]) -> str:
    while name in taken:
        name += suffix
    return name


def _dataset(
    group: str,
    data: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    labels: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
) -> Any:
    import xarray as xr

    sizes: dict[str, int] = {}
    for name, (axes, array) in data.items():
        for axis, size in zip(axes, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"expected one size for the axis {axis!r} of {group}, got {sizes[axis]} and, "
                    f"in {name!r}, {size}."
                )
    coords = {}
    for axis, size in sizes.items():
        values = labels.get(axis, np.arange(size))
        if values.shape != (size,):
            raise ValueError(
                f"expected {size} labels for the axis {axis!r} of {group}, got {values.shape}."
            )
        coords[axis] = values
    return xr.Dataset(dict(data), coords=coords, attrs=dict(attributes))


def native(datasets: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    """Datasets by group as what the installed ArviZ calls native."""
    # ArviZ takes as long to import as torch: only who wants its data pays for it.
    import arviz
    import xarray as xr

    filled = {group: data for group, data in datasets.items() if data.data_vars}
    if hasattr(arviz, "InferenceData") and int(arviz.__version__.partition(".")[0]) < 1:
        return arviz.InferenceData(dict(attributes), False, **filled)
    tree = xr.DataTree.from_dict(filled)
    tree.attrs.update(attributes)
    return tree


def read_netcdf(path: Path) -> Any:
    """ArviZ data from a netCDF file, read into memory.

    :raises ImportError: h5netcdf is missing.
    :raises ValueError: the file is not one of ArviZ data.
    """
    import arviz

    if importlib.util.find_spec("h5netcdf") is None:
        raise ImportError(
            "To read netCDF files h5netcdf is needed, which is not installed. Install it with "
            "pip install 'pyro_ebm[netcdf]'."
        )
    try:
        data: Any = arviz.from_netcdf(str(path), engine="h5netcdf")
        found = {name: dataset.load() for name, dataset in datasets_of(data).items()}
        data.close()
    except Exception as error:  # h5py and xarray raise whatever a broken file makes them stumble on
        raise ValueError(f"{path} is no file of ArviZ data, or damaged: {error}") from error
    if not found:
        raise ValueError(f"{path} holds no group of ArviZ data.")
    return native(found, next(iter(found.values())).attrs)


def datasets_of(data: Any) -> dict[str, Any]:
    """The groups of ArviZ data as xarray's datasets, by name."""
    if hasattr(data, "to_dataset"):
        return {name: node.to_dataset() for name, node in data.children.items() if node.has_data}
    return {name: data[name] for name in data.groups()}


def parsed_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as they were before :func:`to_inference_data` made JSON of some."""
    found = {}
    for name, value in attrs.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, str) and plain[:1] in ("[", "{"):
            with contextlib.suppress(ValueError):
                plain = json.loads(plain)
        found[name] = plain
    return found


def print_table(data: Any, *, interval_probability: float) -> None:
    """Print ArviZ's summary of the posterior.

    :param data: what :func:`to_inference_data` gives.
    """
    import arviz

    summary: Any = arviz.summary
    option = "hdi_prob" if int(arviz.__version__.partition(".")[0]) < 1 else "ci_prob"
    print(summary(data, **{option: interval_probability}).to_string())


def to_attributes(attrs: Mapping[str, object]) -> dict[str, str | int | float]:
    """Attributes that netCDF can hold; None is left out."""
    found: dict[str, str | int | float] = {}
    for name, value in attrs.items():
        if value is None:
            continue
        if isinstance(value, bool | np.bool_):
            found[name] = int(value)
        elif isinstance(value, str | float | np.floating):
            found[name] = value if isinstance(value, str) else float(value)
        elif isinstance(value, int | np.integer) and -(2**63) <= int(value) < 2**63:
            found[name] = int(value)
        else:
            found[name] = json.dumps(value, default=_as_json)
        text = found[name]
        if isinstance(text, str) and len(text) > _LONGEST_ATTRIBUTE:
            found[name] = f"{text[:_LONGEST_ATTRIBUTE]} ... ({len(text)} characters)"
    return found


def _as_json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
