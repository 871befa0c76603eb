"""From the prior of a mixture to its posterior, and back: sequential Monte Carlo by Gibbs moves.

Particles begin as draws of the prior. From one power of the likelihood to the next they are
weighed by f_beta' / f_beta (:mod:`.gibbs`), drawn anew where the weights have become uneven, and
moved. The mean weight of an island is Z, exactly. As the prior and all between are the same for all
labels, the K! copies of the posterior need no search: particles find all of them alike often, and
which one a particle ends in makes no difference to its weight.

Backwards, particles begin as draws of the posterior, make the same moves in reverse, and the mean
weight is 1/Z.

Source: Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers; Neal (2001), Annealed
importance sampling.
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

from .gibbs import Gibbs, Particles, Tilted
from .reseed import Reseed

_RESAMPLE_BELOW = 0.5
_STRIDE = 0.5
_PILOT, _MOST_PILOT_STEPS = 512, 400
# Steps of the passes that measure, and how many islands of how many particles each has.
_MEASURED, _PILOTS, ISLAND = (60, 120), 2, 256
# A component is put down anew at every so many temperatures: that costs as much as a sweep.
_RESEED_EVERY = 3
# Steps on either side that what a step adds is averaged over.
_SMOOTH = 4


class Moves(NamedTuple):
    """What moves the particles: a sweep, and after it a component put down anew; backwards the
    other way round."""

    gibbs: Gibbs
    reseed: Reseed


class Island(NamedTuple):
    """Where an island has come: log Z (backwards, log 1/Z), its particles with their log weights
    [n], and of which beginning each is (``family`` [n])."""

    log_z: float
    particles: Particles
    log_weights: Tensor
    family: Tensor


class Schedule(NamedTuple):
    """Inverse temperatures from 0 to 1, and how hard each step was to a pilot."""

    betas: list[float]
    hardness: list[float]


class Annealed(NamedTuple):
    """An island at its end; of every step the local barrier, and what it adds to the relative
    variance of Z as told by families."""

    island: Island
    barrier: list[float]
    variance: list[float]

    @property
    def relative_variance(self) -> float:
        """Of this island's Z."""
        return max(0.0, sum(self.variance))


def pilot(moves: Moves, generator: torch.Generator) -> tuple[Schedule, float]:
    """A schedule, and the barrier of the whole path.

    Powers are found on the way, each a fixed local barrier ahead, and then measured twice more.
    """
    gibbs, reseed = moves
    particles = gibbs.prior(_PILOT, generator)
    log_weights = particles.log_weights.new_zeros(_PILOT, dtype=torch.float64)
    betas, barrier = [0.0], []
    while betas[-1] < 1.0:
        beta = betas[-1]
        log_components = gibbs.log_components(particles)
        here = gibbs.tilted(particles, log_components, beta)
        slope = (here.share * log_components).sum(1).div(here.total).double().sum(1)
        following = beta_ahead(log_weights, slope, beta, _STRIDE)
        following = following if len(betas) < _MOST_PILOT_STEPS else 1.0
        there = gibbs.tilted(particles, log_components, following)
        increments = there.log_likelihood - here.log_likelihood
        barrier.append(local_barrier(log_weights, increments))
        log_weights = log_weights + increments
        if effective_sample_size(log_weights) < _RESAMPLE_BELOW * _PILOT:
            chosen = systematic_resampling(log_weights, _offset(generator))
            particles, there = particles.take(chosen), _take(there, chosen)
            log_weights = torch.zeros_like(log_weights)
        particles = gibbs.move(particles, there, following, generator)
        log_components = gibbs.log_components(particles)
        here = gibbs.tilted(particles, log_components, following)
        particles, *_ = reseed(particles, log_components, here, following, generator)
        betas.append(following)
    schedule = Schedule(betas, barrier)
    total = sum(barrier)
    for number in _MEASURED:
        schedule, total = _measured(moves, schedule, number, generator)
    return schedule, total


def _measured(
    moves: Moves, schedule: Schedule, number: int, generator: torch.Generator
) -> tuple[Schedule, float]:
    """The hardness of so many steps, from islands that are thrown away.

    It is the root of what a step adds to the variance of Z: its barrier where moves mix, and more
    where they do not. Where steps stand as its density, the sum of all variances is least.
    """
    betas = equal_barriers(schedule.betas, schedule.hardness, number)
    pilots = [
        anneal(moves, betas, moves.gibbs.prior(ISLAND, generator), generator)
        for _ in range(_PILOTS)
    ]
    barrier = torch.tensor([each.barrier for each in pilots], dtype=torch.float64)
    square = barrier.square().mean(0)
    added = ISLAND * torch.tensor([each.variance for each in pilots], dtype=torch.float64).mean(0)
    window = torch.ones(1, 1, 2 * _SMOOTH + 1, dtype=torch.float64)
    ends = torch.nn.functional.pad(added[None, None], (_SMOOTH, _SMOOTH), mode="replicate")
    smooth = torch.nn.functional.conv1d(ends, window)[0, 0] / window.numel()
    hardness = torch.maximum(smooth, square).sqrt()
    return Schedule(betas, hardness.tolist()), float(barrier.mean(0).sum())


def anneal(
    moves: Moves,
    betas: list[float],
    start: Particles,
    generator: torch.Generator,
    *,
    backwards: bool = False,
) -> Annealed:
    """One island along the path.

    :param betas: from 0 to 1, ascending, backwards too.
    :param start: draws of the prior; backwards, of the posterior.
    """
    gibbs, reseed = moves
    path = betas[::-1] if backwards else betas
    particles, number = start, len(start.log_weights)
    log_weights = start.log_weights.new_zeros(number, dtype=torch.float64)
    family = torch.arange(number, device=log_weights.device)
    log_z, barrier, variance = 0.0, [], []
    log_components = gibbs.log_components(particles)
    here = gibbs.tilted(particles, log_components, path[0])
    for step, beta in enumerate(path[1:], 1):
        there = gibbs.tilted(particles, log_components, beta)
        increments = there.log_likelihood - here.log_likelihood
        barrier.append(local_barrier(log_weights, increments))
        squares = _squares(log_weights, family)
        log_weights = log_weights + increments
        variance.append(_squares(log_weights, family) - squares)
        if step == len(path) - 1:
            break
        if effective_sample_size(log_weights) < _RESAMPLE_BELOW * number:
            log_z += float(log_mean_exp(log_weights))
            chosen = systematic_resampling(log_weights, _offset(generator))
            particles, there = particles.take(chosen), _take(there, chosen)
            log_components, family = log_components[chosen], family[chosen]
            log_weights = torch.zeros_like(log_weights)
        place = len(path) - 1 - step if backwards else step
        reseeds = place % _RESEED_EVERY == 0
        if backwards and reseeds:
            particles, _, there = reseed(particles, log_components, there, beta, generator)
        particles = gibbs.move(particles, there, beta, generator, backwards=backwards)
        log_components = gibbs.log_components(particles)
        here = gibbs.tilted(particles, log_components, beta)
        if not backwards and reseeds:
            particles, log_components, here = reseed(
                particles, log_components, here, beta, generator
            )
    log_z += float(log_mean_exp(log_weights))
    return Annealed(Island(log_z, particles, log_weights, family), barrier, variance)


def mean_of(annealed: list[Annealed]) -> tuple[float, float]:
    """log of the mean of the islands' Z, and its standard error: by the families on each, or by
    what the islands differ, if that is more."""
    values = torch.tensor([each.island.log_z for each in annealed], dtype=torch.float64)
    within = torch.tensor([each.relative_variance for each in annealed], dtype=torch.float64)
    shares, number = values.softmax(0), len(values)
    between = float(shares.var()) * number if number > 1 else 0.0
    return float(log_mean_exp(values)), math.sqrt(max(float(shares.square() @ within), between))


def _squares(log_weights: Tensor, family: Tensor) -> float:
    """The sum of the squared weights of the families."""
    weights = log_weights.softmax(0)
    return float(torch.zeros_like(weights).index_add_(0, family, weights).square().sum())


def _take(tilted: Tilted, chosen: Tensor) -> Tilted:
    return Tilted(*(part[chosen] for part in tilted))


def _offset(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, device=generator.device))
