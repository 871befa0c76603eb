"""Learning curves as an xarray dataset, with errors over data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .population import Found

if TYPE_CHECKING:
    import xarray as xr

_NAMES = {
    "training_loss": "training loss <E>/P",
    "training_error": "training error",
    "generalisation_error": "generalisation error",
    "test_error": "test error",
    "overlap": "overlap R with the teacher",
    "log_z": "log Z over N, relative to the prior",
    "entropy": "entropy s, relative to the prior",
    "free_energy": "free energy f",
}


class Row(NamedTuple):
    """What was found at one number of examples P."""

    num_examples: int
    found: Found


def dataset(
    rows: Sequence[Row], temperatures: Sequence[float], num_weights: int, details: Mapping[str, Any]
) -> xr.Dataset:
    """Means over data sets with their standard errors, over alpha and temperature."""
    import xarray as xr

    every = [_with_thermodynamics(row, temperatures, num_weights) for row in rows]
    variables: dict[str, Any] = {}
    for name in every[0]:
        values = torch.stack([row[name] for row in every])
        spread = values.std(-1) / math.sqrt(values.shape[-1])
        told = {"long_name": _NAMES.get(name, name)}
        about = {"long_name": f"standard error of {told['long_name']}"}
        axes = ("alpha", "temperature")
        variables[name] = (axes, values.mean(-1).numpy(), told)
        variables[f"{name}_error"] = (axes, spread.numpy(), about)
        variables[f"{name}_by_data_set"] = ((*axes, "data_set"), values.numpy(), told)
    reached = torch.stack([row.found.reached.double().mean(-1) for row in rows])
    told = {"long_name": "share of data sets where weights without error were found, if wanted"}
    variables["reached"] = (("alpha", "temperature"), reached.numpy(), told)
    alphas = [row.num_examples / num_weights for row in rows]
    return xr.Dataset(
        variables,
        coords={
            "alpha": ("alpha", alphas, {"long_name": "examples per weight P/N"}),
            "temperature": ("temperature", list(temperatures), {"long_name": "temperature T"}),
        },
        attrs=dict(details),
    )


def _with_thermodynamics(
    row: Row, temperatures: Sequence[float], num_weights: int
) -> dict[str, Tensor]:
    """What was looked at, and what log Z adds to it, each [t, D]; per weight."""
    values = dict(row.found.means)
    if bool(row.found.log_z.isnan().all()):
        return values
    t = torch.tensor(temperatures, dtype=torch.float64)[:, None]
    log_z = row.found.log_z / num_weights
    heat = values["training_loss"] * row.num_examples / num_weights
    values["log_z"] = log_z
    values["entropy"] = log_z + torch.where(t > 0, heat / t, 0.0)
    values["free_energy"] = -t * log_z
    return values
