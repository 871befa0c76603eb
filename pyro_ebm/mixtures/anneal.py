"""From the prior of a mixture to its posterior: sequential Monte Carlo by Gibbs moves.

Particles begin as draws of the prior. From one power of the likelihood to the next they are
weighed by f_beta' / f_beta (:mod:`.gibbs`), drawn anew where the weights have become uneven, and
moved. The mean weight of an island is Z, exactly. As the prior and all between are the same for all
labels, the K! copies of the posterior need no search: particles find all of them alike often, and
which one a particle ends in makes no difference to its weight.

Where phases change places on the way, few particles make it in time, and an island's Z is most
often too low; it is seldom too high.

Source: Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing.schedule import equal_barriers
from pyro_ebm.annealing.weights import (
    beta_ahead,
    effective_sample_size,
    local_barrier,
    log_mean_exp,
    systematic_resampling,
)

from .gibbs import Gibbs, Particles
from .reseed import Reseed

ISLAND = 256
_RESAMPLE_BELOW = 0.5
_PILOT, _STRIDE, _MOST_PILOT_STEPS = 256, 0.5, 200
# Steps for each squared barrier, and no fewer or more than these.
_STEPS, _FEWEST, _MOST = 1.0, 40, 80
# A component is put down anew at every so many temperatures: that costs as much as a sweep.
_RESEED_EVERY = 3


class Moves(NamedTuple):
    """What moves particles: a sweep, and after it a component put down anew."""

    gibbs: Gibbs
    reseed: Reseed


class Island(NamedTuple):
    """log Z and its relative variance by families, and particles with their log weights [n]."""

    log_z: float
    relative_variance: float
    particles: Particles
    log_weights: Tensor


def islands(moves: Moves, number: int, generator: torch.Generator) -> tuple[list[Island], int]:
    """So many islands, and their number of steps.

    A pilot finds powers on the way, each a fixed local barrier ahead; those of the islands have
    equal barriers between them.
    """
    gibbs, reseed = moves
    particles = gibbs.prior(_PILOT, generator)
    log_weights = particles.log_weights.new_zeros(_PILOT, dtype=torch.float64)
    betas, barrier = [0.0], []
    while betas[-1] < 1.0:
        beta = betas[-1]
        log_components = gibbs.log_components(particles)
        here = gibbs.memberships(particles, log_components, beta)
        slope = (here.share * log_components).sum(1).div(here.total).double().sum(1)
        following = beta_ahead(log_weights, slope, beta, _STRIDE)
        following = following if len(betas) < _MOST_PILOT_STEPS else 1.0
        there = gibbs.memberships(particles, log_components, following)
        increments = there.log_likelihood - here.log_likelihood
        barrier.append(local_barrier(log_weights, increments))
        log_weights = log_weights + increments
        if effective_sample_size(log_weights) < _RESAMPLE_BELOW * _PILOT:
            chosen = systematic_resampling(log_weights, _offset(generator))
            particles, there = particles.take(chosen), there.take(chosen)
            log_weights = torch.zeros_like(log_weights)
        particles = gibbs.move(particles, there, following, generator)
        log_components = gibbs.log_components(particles)
        here = gibbs.memberships(particles, log_components, following)
        particles, *_ = reseed(particles, log_components, here, following, generator)
        betas.append(following)
    steps = min(_MOST, max(_FEWEST, math.ceil(_STEPS * sum(barrier) ** 2)))
    path = equal_barriers(betas, barrier, steps)
    return [_island(moves, path, generator) for _ in range(number)], steps


def _island(moves: Moves, betas: list[float], generator: torch.Generator) -> Island:
    """One island along the path."""
    gibbs, reseed = moves
    particles = gibbs.prior(ISLAND, generator)
    log_weights = particles.log_weights.new_zeros(ISLAND, dtype=torch.float64)
    family = torch.arange(ISLAND, device=log_weights.device)
    log_z, variance = 0.0, 0.0
    log_components = gibbs.log_components(particles)
    here = gibbs.memberships(particles, log_components, betas[0])
    for step, beta in enumerate(betas[1:], 1):
        there = gibbs.memberships(particles, log_components, beta)
        squares = _squares(log_weights, family)
        log_weights = log_weights + there.log_likelihood - here.log_likelihood
        variance += _squares(log_weights, family) - squares
        if step == len(betas) - 1:
            break
        if effective_sample_size(log_weights) < _RESAMPLE_BELOW * ISLAND:
            log_z += float(log_mean_exp(log_weights))
            chosen = systematic_resampling(log_weights, _offset(generator))
            particles, there, family = particles.take(chosen), there.take(chosen), family[chosen]
            log_weights = torch.zeros_like(log_weights)
        particles = gibbs.move(particles, there, beta, generator)
        log_components = gibbs.log_components(particles)
        here = gibbs.memberships(particles, log_components, beta)
        if step % _RESEED_EVERY == 0:
            particles, log_components, here = reseed(
                particles, log_components, here, beta, generator
            )
    log_z += float(log_mean_exp(log_weights))
    return Island(log_z, max(0.0, variance), particles, log_weights)


def mean_of(found: list[Island]) -> tuple[float, float]:
    """log of the mean of the islands' Z, and its standard error: by the families on each, or by
    what the islands differ, if that is more."""
    values = torch.tensor([each.log_z for each in found], dtype=torch.float64, device="cpu")
    within = torch.tensor(
        [each.relative_variance for each in found], dtype=torch.float64, device="cpu"
    )
    shares, number = values.softmax(0), len(values)
    between = float(shares.var()) * number if number > 1 else 0.0
    return float(log_mean_exp(values)), math.sqrt(max(float(shares.square() @ within), between))


def drawn(found: list[Island], number: int, generator: torch.Generator) -> Particles:
    """So many of the particles of all islands, by their weights."""
    weights = torch.cat([each.log_weights.log_softmax(0) + each.log_z for each in found])
    particles = Particles(
        *(torch.cat(parts) for parts in zip(*(each.particles for each in found), strict=True))
    )
    chosen = systematic_resampling(weights, _offset(generator))
    order = torch.randperm(len(chosen), generator=generator, device=chosen.device)
    return particles.take(chosen[order[:number]])


def _squares(log_weights: Tensor, family: Tensor) -> float:
    """The sum of the squared weights of the families."""
    weights = log_weights.softmax(0)
    return float(torch.zeros_like(weights).index_add_(0, family, weights).square().sum())


def _offset(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, device=generator.device))
