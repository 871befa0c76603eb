"""The step size: a first guess by doubling, then dual averaging on the pooled acceptance.

All chains share one step size. Each casts one vote, the acceptance rate of its latest finished
transition. Acceptance is skewed, so that a trimmed mean of the votes would make the step too long;
only the first guess, of one leapfrog step, cuts off a tenth of the chains at either end, so that
one at a wall cannot hold the others. Pooled votes scatter less than those of one chain, and the
step size is pulled harder towards where it began than in the source.

Source: Hoffman, Gelman (2014), The No-U-Turn Sampler, section 3.2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .integrators import PhasePoint, kinetic_energy, leapfrog
from .kernel import LogDensityAndGradient, Settings
from .metric import force

TRIM = 0.1
_GAMMA, _T0, _KAPPA = 0.1, 10.0, 0.75
_SEARCH_ACCEPTANCE = 0.8
_MAX_DOUBLINGS = 60


class DualAverage(NamedTuple):
    """Dual averaging of log step sizes; scalars in float64."""

    log_step_size: Tensor
    log_average: Tensor
    error: Tensor
    center: Tensor
    num_updates: Tensor


def start_dual_average(step_size: float) -> DualAverage:
    """Begin at a step size, and stay near it: pooled votes need no pull towards longer steps."""
    log_step_size = torch.tensor(math.log(step_size), dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    return DualAverage(log_step_size, log_step_size, zero, log_step_size, zero)


def update_dual_average(state: DualAverage, acceptance: Tensor, target: float) -> DualAverage:
    """Take in one pooled acceptance rate."""
    count = state.num_updates + 1
    weight = 1 / (count + _T0)
    error = (1 - weight) * state.error + weight * (target - acceptance.double().cpu())
    log_step_size = state.center - count.sqrt() / _GAMMA * error
    decay = count**-_KAPPA
    log_average = decay * log_step_size + (1 - decay) * state.log_average
    return DualAverage(log_step_size, log_average, error, state.center, count)


def trimmed_mean(votes: Tensor) -> Tensor:
    """The mean of the votes [chains] without the tenth at either end."""
    cut = int(TRIM * votes.numel())
    return votes.sort().values[cut : votes.numel() - cut].mean()


def reasonable_step_size(
    log_density_and_gradient: LogDensityAndGradient,
    position: Tensor,
    log_density: Tensor,
    gradient: Tensor,
    settings: Settings,
    momentum: Tensor,
    *,
    first_guess: float,
) -> float:
    """The largest of doubled or halved step sizes whose pooled one-step acceptance exceeds 0.8.

    :param momentum: whitened momenta [dim, chains], drawn outside.
    """
    push = force(settings.metric, settings.version, gradient)
    start = PhasePoint(position, momentum, push)
    initial_energy = kinetic_energy(momentum) - log_density

    def acceptance(step_size: float) -> float:
        signed = torch.full_like(log_density, step_size)
        leap = leapfrog(log_density_and_gradient, start, signed, settings.metric, settings.version)
        delta = kinetic_energy(leap.point.momentum) - leap.log_density - initial_energy
        return float(trimmed_mean((-delta).clamp(max=0.0).exp().nan_to_num(0.0)))

    step_size = first_guess
    growing = acceptance(step_size) > _SEARCH_ACCEPTANCE
    for _ in range(_MAX_DOUBLINGS):
        following = step_size * (2.0 if growing else 0.5)
        if (acceptance(following) > _SEARCH_ACCEPTANCE) != growing:
            return step_size if growing else following
        step_size = following
    return step_size
