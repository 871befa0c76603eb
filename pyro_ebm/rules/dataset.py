"""Learning curves as an xarray dataset, with errors over data sets, or over populations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing.weights import effective_sample_sizes

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
    "effective_populations": "number of populations that carry the mean",
}


class Row(NamedTuple):
    """What was found at one number of examples P."""

    num_examples: int
    found: Found


class Summary(NamedTuple):
    """By name: means and their errors, each [t], and what every data set, or population, gave
    [t, D]."""

    mean: dict[str, Tensor]
    error: dict[str, Tensor]
    each: dict[str, Tensor]


Summarise = Callable[[Row, Sequence[float], int], Summary]


def dataset(
    rows: Sequence[Row],
    temperatures: Sequence[float],
    num_weights: int,
    details: Mapping[str, Any],
    summarise: Summarise,
    *,
    over: str,
) -> xr.Dataset:
    """Means with their standard errors, over alpha and temperature.

    :param over: what errors are over, "data_set" or "population".
    """
    import xarray as xr

    every = [summarise(row, temperatures, num_weights) for row in rows]
    variables: dict[str, Any] = {}
    axes = ("alpha", "temperature")
    for name in every[0].mean:
        told = {"long_name": _NAMES.get(name, name)}
        mean = torch.stack([summary.mean[name] for summary in every])
        variables[name] = (axes, mean.numpy(), told)
        if name in every[0].error:
            error = torch.stack([summary.error[name] for summary in every])
            about = {"long_name": f"standard error of {told['long_name']}"}
            variables[f"{name}_std_error"] = (axes, error.numpy(), about)
        if name in every[0].each:
            each = torch.stack([summary.each[name] for summary in every])
            variables[f"{name}_by_{over}"] = ((*axes, over), each.numpy(), told)
    reached = torch.stack([row.found.reached.double().mean(-1) for row in rows])
    share = f"share of {over.replace('_', ' ')}s where weights without error were found, if wanted"
    told = {"long_name": share}
    variables["reached"] = (axes, reached.numpy(), told)
    alphas = [row.num_examples / num_weights for row in rows]
    return xr.Dataset(
        variables,
        coords={
            "alpha": ("alpha", alphas, {"long_name": "examples per weight P/N"}),
            "temperature": ("temperature", list(temperatures), {"long_name": "temperature T"}),
        },
        attrs=dict(details),
    )


def over_data_sets(row: Row, temperatures: Sequence[float], num_weights: int) -> Summary:
    """Means over data sets, and their errors by how these differ.

    The mean of log Z is wanted, and the logarithm of an estimate lies low by half its relative
    variance: that is added.
    """
    found = row.found
    known = not bool(found.log_z.isnan().all())
    log_z = found.log_z + 0.5 * found.variance if known else None
    each = _with_thermodynamics(found.means, log_z, row.num_examples, temperatures, num_weights)
    return Summary(
        {name: values.mean(-1) for name, values in each.items()},
        {name: values.std(-1) / math.sqrt(values.shape[-1]) for name, values in each.items()},
        each,
    )


def over_populations(row: Row, temperatures: Sequence[float], num_weights: int) -> Summary:
    """Of one data set: Z is the mean over populations, each of which counts by its own; errors by
    leaving one out after the other. A population that finds nothing has Z = 0."""
    found = row.found
    number = found.log_z.shape[1]
    weights = torch.where(found.reached, found.log_z, -math.inf)

    def pooled(chosen: Tensor) -> dict[str, Tensor]:
        log_weights = weights[:, chosen]
        total = log_weights.logsumexp(1, keepdim=True)
        shares = (log_weights - total).exp()
        means = {
            name: torch.where(shares == 0, 0.0, shares * values[:, chosen]).sum(1)
            for name, values in found.means.items()
        }
        log_z = torch.where(total[:, 0].isfinite(), total[:, 0] - math.log(len(chosen)), math.nan)
        return _with_thermodynamics(means, log_z, row.num_examples, temperatures, num_weights)

    every = torch.arange(number, device="cpu")
    mean = pooled(every)
    left_out = [pooled(every[every != one]) for one in range(number)]
    error = {}
    for name in mean:
        values = torch.stack([each[name] for each in left_out])
        error[name] = ((number - 1) * values.var(0, correction=0)).sqrt()
    each = _with_thermodynamics(
        found.means, found.log_z, row.num_examples, temperatures, num_weights
    )
    mean["effective_populations"] = effective_sample_sizes(weights)
    return Summary(mean, error, each)


def _with_thermodynamics(
    means: Mapping[str, Tensor],
    log_z: Tensor | None,
    num_examples: int,
    temperatures: Sequence[float],
    num_weights: int,
) -> dict[str, Tensor]:
    """What was looked at, [t] or [t, D], and what log Z adds to it, if known; per weight."""
    values = dict(means)
    if log_z is None:
        return values
    t = torch.tensor(temperatures, dtype=torch.float64, device="cpu").reshape(
        -1, *[1] * (log_z.dim() - 1)
    )
    heat = values["training_loss"] * num_examples / num_weights
    values["log_z"] = log_z / num_weights
    values["entropy"] = log_z / num_weights + torch.where(t > 0, heat / t, 0.0)
    values["free_energy"] = -t * log_z / num_weights
    return values
