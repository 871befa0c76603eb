"""Loads a posterior by name: the model, what it is called with, and what its marginals must be.

Eleven posteriors are posteriordb's, each judged by the summary of 10,000 nearly independent
draws; German credit and Brownian motion are inference_gym's. Every file names its source.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .eight_schools import eight_schools
from .gaussian_process import gp_regr
from .mixture import low_dim_gauss_mix
from .regressions import (
    blr,
    german_credit,
    kidscore_interaction,
    kidscore_momiq,
    logearn_height_male,
    logmesquite,
    nes,
)
from .sequences import ar_k, brownian_motion, brownian_motion_unknown_scales, garch11

NUMBERS = Path(__file__).parent.parent / "data"


class Entry(NamedTuple):
    """A model and the names, in its file of numbers, of what it is called with."""

    model: Callable[..., Any]
    inputs: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()


POSTERIORDB = {
    "arK": Entry(ar_k, ("K", "y")),
    "blr": Entry(blr, ("X",), ("y",)),
    "eight_schools": Entry(eight_schools, ("sigma",), ("y",)),
    "garch11": Entry(garch11, ("sigma1", "y")),
    "gp_regr": Entry(gp_regr, ("x",), ("y",)),
    "kidscore_interaction": Entry(kidscore_interaction, ("mom_hs", "mom_iq"), ("kid_score",)),
    "kidscore_momiq": Entry(kidscore_momiq, ("mom_iq",), ("kid_score",)),
    "logearn_height_male": Entry(logearn_height_male, ("height", "male"), ("earn",)),
    "logmesquite": Entry(
        logmesquite,
        ("diam1", "diam2", "canopy_height", "total_height", "density", "group"),
        ("weight",),
    ),
    "low_dim_gauss_mix": Entry(low_dim_gauss_mix, ("y",)),
    "nes": Entry(
        nes,
        ("real_ideo", "race_adj", "age_discrete", "educ1", "gender", "income"),
        ("partyid7",),
    ),
}
INFERENCE_GYM = {
    "brownian_motion": Entry(brownian_motion, ("innovation", "observation", "observed"), ("y",)),
    "brownian_motion_unknown_scales": Entry(brownian_motion_unknown_scales, ("observed",), ("y",)),
    "german_credit": Entry(german_credit, ("X", "prior_scale"), ("y",)),
    "german_credit_wide": Entry(german_credit, ("X", "prior_scale"), ("y",)),
}


@dataclass(frozen=True)
class Posterior:
    """A model as it is called, and what is known of its posterior.

    `reference` maps a parameter such as "beta[1]" to its mean, sd, mcse_mean and, for posteriordb,
    ess and quantiles q05 to q95; `exact`, where quadrature reaches, to mean and sd alone. `extract`
    maps a site, deterministic ones included, to its parameters in the order of its elements.
    `log_z` is the log evidence with its standard error, where known.
    """

    name: str
    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reference: Mapping[str, Mapping[str, float]]
    exact: Mapping[str, Mapping[str, float]]
    extract: Mapping[str, tuple[str, ...]]
    log_z: tuple[float, float] | None

    def marginals(self, draws: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Turn {site: [*sample, *event]} into {parameter: [*sample]}, in the reference's names."""
        found = {}
        for site, parameters in self.extract.items():
            values = np.asarray(draws[site])
            if parameters == (site,):
                found[site] = values
            else:
                found |= dict(zip(parameters, np.moveaxis(values, -1, 0), strict=True))
        return found


def load(name: str) -> Posterior:
    """The posterior of that name, its data in torch's default dtype."""
    if name in POSTERIORDB:
        entry, folder = POSTERIORDB[name], NUMBERS / "posteriordb"
    elif name in INFERENCE_GYM:
        entry, folder = INFERENCE_GYM[name], NUMBERS / "inference_gym"
    else:
        raise ValueError(f"Expected one of {[*POSTERIORDB, *INFERENCE_GYM]}, got {name!r}.")
    numbers = json.loads((folder / f"{name}.json").read_text())
    data = read_data(numbers, folder)
    extract: dict[str, tuple[str, ...]] = {}
    for parameter in numbers["reference"]:
        site = parameter.partition("[")[0]
        extract[site] = (*extract.get(site, ()), parameter)
    return Posterior(
        name=name,
        model=entry.model,
        args=tuple(data[key] for key in entry.inputs),
        kwargs={key: data[key] for key in entry.observed},
        reference=numbers["reference"],
        exact=numbers.get("exact", {}),
        extract=extract,
        log_z=tuple(numbers["log_z"]) if "log_z" in numbers else None,
    )


def read_data(numbers: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Columns and numbers as real tensors, indices as integer ones, an integer as it is."""
    columns = dict(numbers["data"])
    if "table" in numbers:
        with np.load(folder / numbers["table"]) as table:
            columns |= dict(table)
    real = torch.get_default_dtype()
    data = {
        name: column if isinstance(column, int) else torch.as_tensor(column, dtype=real)
        for name, column in columns.items()
    }
    return data | {name: torch.tensor(index) for name, index in numbers.get("indices", {}).items()}
