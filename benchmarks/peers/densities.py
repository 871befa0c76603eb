"""Log densities of a peer's models beside those of ours, at the same points.

Both are densities of the constrained sites, without Jacobians. Handed over are [2, point] for every
target, ours first, less the value at the first point: a constant is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro import poutine

from benchmarks.contestants import NUMPYRO
from benchmarks.ours import sampled
from benchmarks.targets import ILL_CONDITIONED
from benchmarks.worker import Stopwatch, hand_over, options
from pyro_ebm.annealing.freeze import as_target

POINTS, SPREAD = 5, 0.3


def points(name: str) -> tuple[list[dict[str, np.ndarray]], list[float]]:
    """Values by site, deterministic ones too, and our log density at each."""
    model, args, kwargs = sampled(name)
    target = as_target(model, args, kwargs)
    positions = SPREAD * torch.randn(POINTS, target.dim)
    values = target.constrain(positions)
    rows = [{site: value[i] for site, value in values.items()} for i in range(POINTS)]
    if name == ILL_CONDITIONED:
        densities = [float(target.log_density(position)) for position in positions]
    else:
        densities = []
        for row in rows:
            trace = poutine.trace(poutine.condition(model, row)).get_trace(*args, **kwargs)
            densities.append(float(trace.log_prob_sum()))
    return [{site: value.numpy() for site, value in row.items()} for row in rows], densities


def numpyro_densities(name: str, rows: list[dict[str, np.ndarray]]) -> list[float]:
    """NumPyro's, in float64."""
    import jax
    from numpyro.infer.util import log_density

    from benchmarks.peers.numpyro_models import MODELS, arguments

    jax.config.update("jax_enable_x64", True)
    data = arguments(name)
    return [float(log_density(MODELS[name], (), data, row)[0]) for row in rows]


def pymc_densities(name: str, rows: list[dict[str, np.ndarray]]) -> list[float]:
    """PyMC's."""
    from pymc.model.transform.conditioning import remove_value_transforms

    from benchmarks.peers.pymc_models import model

    plain = remove_value_transforms(model(name))
    log_density: Any = plain.compile_logp(jacobian=False, mode="FAST_COMPILE")
    names = [variable.name for variable in plain.value_vars]
    return [float(log_density(_only(row, names))) for row in rows]


def _only(row: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    return {name: row[name] for name in names}


def main() -> None:
    """Evaluate the models that the options name."""
    watch = Stopwatch()
    given = options()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    densities = numpyro_densities if given["library"] == NUMPYRO else pymc_densities
    found = []
    for name in given["targets"]:
        rows, ours = points(name)
        pair = np.array([ours, densities(name, rows)])
        found.append(pair - pair[:, :1])
    watch.lap("densities")
    hand_over(found, watch)


if __name__ == "__main__":
    main()
