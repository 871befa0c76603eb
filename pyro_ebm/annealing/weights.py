"""Importance weights: what their logarithms say of a normaliser, and of themselves.

Everything is in float64, and works on logarithms: weights of an annealed run spread over hundreds
of nats. A weight of zero (-inf) is a particle that counts, and carries nothing.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

LogWeights = Float[Tensor, " particles"]


def log_mean_exp(log_weights: LogWeights) -> Tensor:
    """log of the mean weight, an unbiased estimate of Z where the weights are a normaliser's."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def effective_sample_size(log_weights: LogWeights) -> float:
    """(sum w)^2 / sum w^2: how many equal weights are worth these; zero when all are zero."""
    if not bool((log_weights > -torch.inf).any()):
        return 0.0
    return float(effective_sample_sizes(log_weights))


def effective_sample_sizes(log_weights: Tensor) -> Tensor:
    """The same of many sets of weights, along the last axis; NaN where all are zero."""
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def standard_error(log_weights: LogWeights) -> float:
    """Standard error of :func:`log_mean_exp` of independent particles.

    sqrt(1/ESS - 1/N) is the relative standard deviation of the weights over sqrt(N); here it has
    N - 1 degrees of freedom. Weights with a heavy tail understate it most often, and just where
    they understate Z. Their variance is therefore raised by its own relative error, that part of
    it which comes from the tail: sqrt((K - 3) / N) for a kurtosis K above the 3 of a Gaussian.
    Infinite when one weight or none is left.
    """
    n = len(log_weights)
    ess = effective_sample_size(log_weights)
    if n < 2 or ess <= 1.0 + 1e-9:
        return math.inf
    variance = max(1 / ess - 1 / n, 0.0) * n / (n - 1)
    apart = (log_weights - log_mean_exp(log_weights)).exp() - 1.0
    square = float(apart.square().mean())
    kurtosis = float(apart.pow(4).mean()) / square**2 if square > 0.0 else 0.0
    return math.sqrt(variance * (1.0 + math.sqrt(max(kurtosis - 3.0, 0.0) / n)))


def local_barrier(log_weights: LogWeights, increments: LogWeights) -> float:
    """sqrt(log E G^2 - 2 log E G) of increments G, over particles with the weights before.

    It is the root of the log of one plus the relative variance of the increment, and to first
    order the length of this step in the geometry of the path.

    Source: Syed, Bouchard-Côté, Chern, Doucet (2024), Optimised annealed sequential Monte Carlo
    samplers.
    """
    normalised = log_weights - log_weights.logsumexp(0)
    first = (normalised + increments).logsumexp(0)
    second = (normalised + 2 * increments).logsumexp(0)
    gap = float(second - 2 * first)
    return math.sqrt(max(gap, 0.0)) if math.isfinite(gap) else math.inf


def systematic_resampling(log_weights: LogWeights, offset: float) -> Tensor:
    """Indices of particles drawn in proportion to their weights, with one uniform ``offset``.

    Source: Kitagawa (1996); Carpenter, Clifford, Fearnhead (1999), Improved particle filter.
    """
    n = len(log_weights)
    cumulative = log_weights.softmax(0).cumsum(0)
    points = (torch.arange(n, dtype=torch.float64, device=log_weights.device) + offset) / n
    return torch.searchsorted(cumulative, points * cumulative[-1]).clamp(max=n - 1)


def beta_ahead(
    log_weights: Tensor, slope: Tensor, beta: float, barrier: float, *, smallest: float = 1e-8
) -> float:
    """The inverse temperature at which the local barrier from ``beta`` is this large, by bisection.

    :param log_weights, slope: [n], at ``beta``.
    :param smallest: the least share of the way to 1 that is gone.
    """
    # Particles outside of the support are lost whatever the step; the rest says how long.
    alive = slope > -torch.inf
    log_weights, slope = log_weights[alive], slope[alive]
    low, high = 0.0, 1.0 - beta
    if len(slope) == 0 or local_barrier(log_weights, high * slope) <= barrier:
        return 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        near = local_barrier(log_weights, middle * slope) < barrier
        low, high = (middle, high) if near else (low, middle)
    return min(1.0, beta + max(low, smallest * (1.0 - beta)))
