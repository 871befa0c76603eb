"""Chains of a mixture's posterior, from two kinds of starts.

Half of them begin at particles that were annealed by their weights; the other half, for themselves,
at draws of the prior, cooled within some sweeps. What both kinds find alike does not depend on
where chains start.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .anneal import Moves
from .gibbs import Memberships, Particles
from .proposal import Stored

NUM_CHAINS, NUM_DRAWS = 64, 50
_COOLING, _WARMUP, _THINNING = 100, 100, 4


class Chains(NamedTuple):
    """Draws [chains, draws, ...] with their log likelihoods [chains, draws], and the states from
    which the last sweep to each has come; chains from the prior stand last."""

    draws: Particles
    log_likelihood: Tensor
    stored: Stored


def chains(moves: Moves, particles: Particles, generator: torch.Generator) -> Chains:
    """Draws of the posterior.

    :param particles: where one half of the chains begins.
    """
    gibbs = moves.gibbs
    cooled = gibbs.prior(NUM_CHAINS // 2, generator)
    fitted = gibbs.memberships(cooled, gibbs.log_components(cooled), 0.0)
    for sweep in range(1, _COOLING + 1):
        sums = gibbs.sums(fitted, generator)
        cooled, fitted = _moved(moves, sums, cooled.mean, sweep / _COOLING, generator)
    state = Particles(*(torch.cat(both) for both in zip(particles, cooled, strict=True)))
    fitted = gibbs.memberships(state, gibbs.log_components(state), 1.0)
    kept = []
    for sweep in range(1, _WARMUP + NUM_DRAWS * _THINNING + 1):
        sums, mean = gibbs.sums(fitted, generator), state.mean
        state, fitted = _moved(moves, sums, mean, 1.0, generator)
        if sweep > _WARMUP and sweep % _THINNING == 0:
            kept.append((*state, fitted.log_likelihood, sums, mean))
    *draws, log_likelihood, sums, mean = (
        torch.stack(parts, 1) for parts in zip(*kept, strict=True)
    )
    return Chains(Particles(*draws), log_likelihood, Stored(sums, mean))


def _moved(
    moves: Moves, sums: Tensor, mean: Tensor, beta: float, generator: torch.Generator
) -> tuple[Particles, Memberships]:
    """A sweep from memberships and means, and a component put down anew."""
    gibbs, reseed = moves
    state = gibbs.draw(sums, mean, beta, generator)
    log_components = gibbs.log_components(state)
    fitted = gibbs.memberships(state, log_components, beta)
    state, _, fitted = reseed(state, log_components, fitted, beta, generator)
    return state, fitted
