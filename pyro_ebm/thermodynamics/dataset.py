"""Estimates across temperatures as an xarray dataset, with units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .estimates import Estimates

if TYPE_CHECKING:
    import xarray as xr

_ENERGY, _NONE = "energy", "1"
_KNOWN = {
    "log_z": ("log Z", _NONE),
    "free_energy": ("free energy F", _ENERGY),
    "internal_energy": ("internal energy U", _ENERGY),
    "entropy": ("entropy S", "k_B"),
    "heat_capacity": ("heat capacity C", "k_B"),
    "magnetization": ("magnetisation <|m|>", _NONE),
    "susceptibility": ("susceptibility", "1 / energy"),
    "binder_cumulant": ("Binder's cumulant", _NONE),
}


def dataset(
    temperatures: Tensor,
    found: Estimates,
    *,
    reliable: bool,
    why: str,
    details: Mapping[str, Any],
) -> xr.Dataset:
    """One variable a quantity, and one its standard error."""
    import xarray as xr

    variables = {}
    for name, values in found.values.items():
        long_name, units = _KNOWN.get(name, (name, ""))
        attributes = {"long_name": long_name, "units": units}
        error = {**attributes, "long_name": f"standard error of {long_name}"}
        variables[name] = ("temperature", values.cpu().numpy(), attributes)
        variables[f"{name}_error"] = ("temperature", found.errors[name].cpu().numpy(), error)
    variables["ess"] = (
        "temperature",
        found.ess.cpu().numpy(),
        {"long_name": "effective number of draws", "units": _NONE},
    )
    axis = ("temperature", temperatures.cpu().numpy(), {"long_name": "T", "units": "energy / k_B"})
    return xr.Dataset(
        variables,
        coords={"temperature": axis},
        attrs={
            "k_B": 1,
            "units": "k_B = 1: temperatures are in the units of the energy",
            "reliable": int(reliable),
            "why": why,
            **details,
        },
    )
