"""Bases in closed form, and paths from them: nothing here is searched for or learned."""

import math

import torch

from pyro_ebm.annealing.moves import Tuning
from pyro_ebm.annealing.path import Base


def normal_base(dim: int, loc: float = 0.0, scale: float = 1.0, *, factor: float = 1.0) -> Base:
    """Independent normal coordinates; ``factor`` times its density where one has to be wrong."""
    constant = math.log(factor) - dim * (math.log(scale) + 0.5 * math.log(2 * math.pi))

    def log_density_and_gradient(positions):
        white = (positions - loc) / scale
        return constant - 0.5 * white.square().sum(0), -white / scale

    def sample(n, generator):
        return loc + scale * torch.randn(dim, n, generator=generator, dtype=torch.float64)

    return Base(log_density_and_gradient, sample, "a normal distribution")


def constant_tuning(dim: int, step_size: float = 0.5, scale: float = 1.0) -> Tuning:
    """The same step size and metric at every inverse temperature."""
    one = torch.ones(1, dtype=torch.float64)
    return Tuning(one, step_size * one, scale * torch.eye(dim, dtype=torch.float64)[None])
