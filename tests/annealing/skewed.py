"""A posterior that is far from symmetric, with its evidence by quadrature."""

import math
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch

from pyro_ebm import Target

COUNTS = torch.tensor([0.0, 1.0, 0.0])
PRIOR_SD = 2.0


class Case(NamedTuple):
    """What a run of :func:`counts` on ``COUNTS`` has to come to."""

    target: Target
    log_z: float


def counts(y):
    """Poisson counts whose rate is log-normal: the likelihood falls off on one side only."""
    log_rate = pyro.sample("log_rate", dist.Normal(0.0, PRIOR_SD))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Poisson(log_rate.exp()), obs=y)


def skewed_case() -> Case:
    """The evidence by the trapezoid on a grid far out into both tails."""
    grid = torch.linspace(-24.0, 12.0, 20_001, dtype=torch.float64)
    prior = -0.5 * (grid / PRIOR_SD).square() - math.log(PRIOR_SD) - 0.5 * math.log(2 * math.pi)
    likelihood = COUNTS.sum() * grid - len(COUNTS) * grid.exp() - torch.lgamma(COUNTS + 1.0).sum()
    log_z = float(torch.trapezoid((prior + likelihood).exp(), grid).log())
    return Case(Target.from_model(counts, COUNTS), log_z)
