"""The leapfrog step: reversible, volume preserving, its energy error of third order in its size."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .kernel import LogDensityAndGradient
from .metric import Metric, force, velocity


class PhasePoint(NamedTuple):
    """A point in phase space: position, whitened momentum, whitened force, each [dim, chains]."""

    position: Tensor
    momentum: Tensor
    force: Tensor


class Leap(NamedTuple):
    """The new point with the log density [chains] and its plain gradient [dim, chains] there."""

    point: PhasePoint
    log_density: Tensor
    gradient: Tensor


def leapfrog(
    log_density_and_gradient: LogDensityAndGradient,
    point: PhasePoint,
    step_size: Tensor,
    metric: Metric,
    version: Tensor,
) -> Leap:
    """One leapfrog step of signed size ``step_size`` [chains]; one gradient evaluation.

    p' = p + e/2 L^T g(q);  q' = q + e L p';  p'' = p' + e/2 L^T g(q').
    """
    half = 0.5 * step_size
    momentum = point.momentum + half * point.force
    position = point.position + step_size * velocity(metric, version, momentum)
    log_density, gradient = log_density_and_gradient(position)
    new_force = force(metric, version, gradient)
    momentum = momentum + half * new_force
    return Leap(PhasePoint(position, momentum, new_force), log_density, gradient)


def kinetic_energy(momentum: Tensor) -> Tensor:
    """|p|^2 / 2 of whitened momenta [dim, chains]."""
    return 0.5 * momentum.square().sum(0)
