"""What is sampled, and what is known of it; free of torch, as every peer reads it.

The suite is posteriordb's eleven models, German credit and Brownian motion as tests/models has
them, and a 100-d Gaussian of random directions whose sds go from 0.1 to 10. Two centred Gaussians
with independent coordinates stand beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_DATA = Path(__file__).parent.parent / "tests" / "data"

EIGHT_SCHOOLS = "eight_schools"
ILL_CONDITIONED = "gaussian_100d"
SUITE = (
    *("arK", "blr", EIGHT_SCHOOLS, "garch11", "gp_regr", "kidscore_interaction", "kidscore_momiq"),
    *("logearn_height_male", "logmesquite", "low_dim_gauss_mix", "nes", "german_credit"),
    *("brownian_motion_unknown_scales", ILL_CONDITIONED),
)
INDEPENDENT = {
    "20-d Gaussian, scales 0.01 to 1": np.logspace(-2, 0, 20),
    "100-d standard normal": np.ones(100),
}
# Regressions on raw predictors, and directions at random, have posteriors so narrow and slanted
# that a metric with correlations is due.
SLANTED = {
    *("arK", "blr", "logearn_height_male", "kidscore_interaction", "kidscore_momiq"),
    *("logmesquite", "nes", ILL_CONDITIONED),
}
# From starts within 2 of the origin a chain may end where one component takes all the points.
NEAR_STARTS = {"low_dim_gauss_mix": 0.5}
RADIUS = 2.0
# Of a sum of two numbers in float32.
_ROUNDING = 1e-6
_SEED, _DIM, _LEAST_SD, _GREATEST_SD = 20, 100, 0.1, 10.0


class Reference(NamedTuple):
    """Means, sds and the means' standard errors, [parameter] in the order of ``parameters``."""

    parameters: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    mean_error: np.ndarray


@cache
def directions() -> np.ndarray:
    """The principal directions of the ill-conditioned Gaussian, as columns [100, 100]."""
    return np.linalg.qr(np.random.RandomState(_SEED).normal(size=(_DIM, _DIM)))[0]


def precision_matrix() -> np.ndarray:
    """The inverse of its covariance matrix, [100, 100]."""
    sd = np.geomspace(_LEAST_SD, _GREATEST_SD, _DIM)
    return (directions() / sd**2) @ directions().T


def numbers(name: str) -> dict[str, Any]:
    """The stored numbers of a model of tests/models."""
    return json.loads(_file(name).read_text())


def data(name: str) -> dict[str, Any]:
    """The data of a model by name: float arrays, integer arrays of indices, and plain integers."""
    stored = numbers(name)
    columns = dict(stored["data"])
    if "table" in stored:
        with np.load(_file(name).parent / stored["table"]) as table:
            columns |= dict(table)
    read = {
        key: column if isinstance(column, int) else np.asarray(column, dtype=float)
        for key, column in columns.items()
    }
    return read | {key: np.asarray(index) for key, index in stored.get("indices", {}).items()}


def reference(name: str) -> Reference:
    """What the posterior's marginals must be; without error where they are known exactly."""
    if name in INDEPENDENT or name == ILL_CONDITIONED:
        sd = INDEPENDENT[name] if name in INDEPENDENT else _sds()
        names = tuple(f"x[{i}]" for i in range(1, len(sd) + 1))
        zeros = np.zeros(len(sd))
        return Reference(names, zeros, sd, zeros)
    stored = numbers(name)
    rows = [_row(key, stored) for key in stored["reference"]]
    return Reference(tuple(stored["reference"]), *np.array(rows).T)


def sites(name: str) -> set[str]:
    """The sites that the reference's parameters belong to."""
    return {parameter.partition("[")[0] for parameter in reference(name).parameters}


def arranged(name: str, found: Mapping[str, Any]) -> np.ndarray:
    """Draws [chain, draw, parameter] of what was found by site [chain, draw, *event]."""
    columns = []
    for parameter in reference(name).parameters:
        site, _, place = parameter.partition("[")
        values = np.asarray(found[site])
        columns.append(values[..., int(place[:-1]) - 1] if place else values)
    return np.stack(columns, axis=-1)


def outside_support(name: str, draws: np.ndarray) -> float:
    """The share of draws outside a support that depends on other sites; 0 where there is none."""
    if name != "garch11":
        return 0.0
    place = reference(name).parameters.index
    total = draws[..., place("alpha1")] + draws[..., place("beta1")]
    return float((total > 1.0 + _ROUNDING).mean())


def _file(name: str) -> Path:
    found = list(_DATA.glob(f"*/{name}.json"))
    if len(found) != 1:
        raise ValueError(f"Expected one of {SUITE}, got {name!r}.")
    return found[0]


def _sds() -> np.ndarray:
    sd = np.geomspace(_LEAST_SD, _GREATEST_SD, _DIM)
    return np.sqrt((directions() ** 2) @ sd**2)


def _row(parameter: str, stored: Mapping[str, Any]) -> tuple[float, float, float]:
    """Mean, sd and the error of the mean."""
    exact = stored.get("exact", {})
    if parameter in exact:
        return exact[parameter]["mean"], exact[parameter]["sd"], 0.0
    known = stored["reference"][parameter]
    return known["mean"], known["sd"], known["mcse_mean"]
