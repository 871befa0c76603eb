"""The evidence of a mixture, with draws of its posterior that check it and are kept.

Islands go from the prior to the posterior. Their particles, drawn by their weights, go on as Gibbs
chains: these are the posterior. Draws of the chains, each island its own chains, go backwards to
the prior; where they come to another log Z than the islands did, one of the two has missed a
region.
What goes down does not enter the estimate: a rare phase of the posterior, with few draws or none,
may carry much of the mean of 1/Z.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing.schedule import equal_barriers
from pyro_ebm.annealing.verdict import LEAST_ESS
from pyro_ebm.annealing.weights import systematic_resampling

from .anneal import ISLAND, Moves, anneal, mean_of, pilot
from .gibbs import Particles

# Steps for each squared barrier, and no fewer or more than these; and as many as make the relative
# variance of a particle's weight this.
_STEPS, _FEWEST, _MOST, _VARIANCE = 2.5, 60, 1200, 5.0
_BACKWARD_ISLANDS = 4
NUM_CHAINS, NUM_DRAWS = 64, 50
_WARMUP, _THINNING = 100, 4
# Standard errors, which few islands tell, between forwards and backwards; and the largest error
# with which that says much.
_APART, _BLUNT = 4.0, 0.5


class Posterior(NamedTuple):
    """log Z of standardised rows, and draws [chains * draws] of the posterior, chain by chain."""

    evidence: LogZ
    draws: Particles


def posterior(
    moves: Moves, num_islands: int, generator: torch.Generator, *, log_jacobian: float
) -> Posterior:
    """Anneal, sample, and anneal back.

    :param log_jacobian: what is added to log Z for the units of the data.
    """
    gibbs = moves.gibbs
    schedule, barrier = pilot(moves, generator)
    wanted = max(_STEPS * barrier**2, sum(schedule.hardness) ** 2 / _VARIANCE)
    number = min(_MOST, max(_FEWEST, math.ceil(wanted)))
    betas = equal_barriers(schedule.betas, schedule.hardness, number)
    forwards = [
        anneal(moves, betas, gibbs.prior(ISLAND, generator), generator) for _ in range(num_islands)
    ]
    log_z, error = mean_of(forwards)
    ends = [each.island for each in forwards]
    particles = _joined([end.particles for end in ends])
    weights = torch.cat([end.log_weights.log_softmax(0) + end.log_z for end in ends])
    chosen = systematic_resampling(weights, float(torch.rand((), generator=generator)))
    mixed = chosen[torch.randperm(len(chosen), generator=generator, device=chosen.device)]
    draws = _chains(moves, particles.take(mixed[:NUM_CHAINS]), generator)
    backwards = [
        anneal(moves, betas, draws.take(start), generator, backwards=True)
        for start in _starts(draws, generator)
    ]
    inverse, inverse_error = mean_of(backwards)
    back = (-inverse, inverse_error)
    total = len(weights)
    ess = 1.0 / (error**2 + 1.0 / total)
    problems = _problems((log_z, error), back, ess)
    return Posterior(
        LogZ(
            log_z + log_jacobian,
            error,
            "mixture SMC",
            reliable=not problems,
            why=_sentence(problems),
            ess=ess,
            num_particles=total,
            path={"beta": betas, "barrier": forwards[0].barrier},
            details={
                "base": "the prior",
                "islands": [end.log_z + log_jacobian for end in ends],
                "num_temperatures": len(betas) - 1,
                "log_z_backwards": back[0] + log_jacobian,
                "error_backwards": back[1],
                "complete": True,
            },
            unbiased=True,
        ),
        draws,
    )


def _chains(moves: Moves, start: Particles, generator: torch.Generator) -> Particles:
    """Draws of chains that begin here, [chains * draws], the draws of a chain together."""
    gibbs, reseed = moves
    kept, particles = [], start
    log_components = gibbs.log_components(particles)
    tilted = gibbs.tilted(particles, log_components, 1.0)
    for sweep in range(_WARMUP + NUM_DRAWS * _THINNING):
        particles = gibbs.move(particles, tilted, 1.0, generator)
        log_components = gibbs.log_components(particles)
        tilted = gibbs.tilted(particles, log_components, 1.0)
        particles, log_components, tilted = reseed(
            particles, log_components, tilted, 1.0, generator
        )
        if sweep >= _WARMUP and (sweep - _WARMUP) % _THINNING == _THINNING - 1:
            kept.append(particles)
    stacked = (torch.stack(parts, 1) for parts in zip(*kept, strict=True))
    return Particles(*(part.flatten(0, 1) for part in stacked))


def _starts(draws: Particles, generator: torch.Generator) -> list[Tensor]:
    """For every island that goes back, draws of chains of its own."""
    number = len(draws.log_weights) // _BACKWARD_ISLANDS
    found = []
    for island in range(_BACKWARD_ISLANDS):
        order = torch.randperm(number, generator=generator, device=generator.device)[:ISLAND]
        found.append(island * number + order)
    return found


def _joined(parts: list[Particles]) -> Particles:
    return Particles(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _problems(forward: tuple[float, float], back: tuple[float, float], ess: float) -> list[str]:
    """What speaks against the estimate."""
    found = []
    if not math.isfinite(forward[0]):
        return ["the particles met no finite log Z"]
    if ess < LEAST_ESS:
        found.append(
            f"the particles are worth {ess:.0f} independent ones, fewer than {LEAST_ESS:.0f}; take "
            "more particles"
        )
    joint, difference = math.hypot(forward[1], back[1]), back[0] - forward[0]
    if not joint <= _BLUNT:
        found.append(
            f"draws of the posterior annealed backwards tell log Z only to ± {joint:.2g}: the "
            "check against them is blunt; take more particles"
        )
    elif abs(difference) > _APART * joint:
        found.append(
            f"with draws of the posterior annealed backwards log Z comes out {difference:+.3f} ± "
            f"{joint:.2g} from what the particles say: one of the two has missed a region; take "
            "more particles"
        )
    return found


def _sentence(problems: list[str]) -> str:
    if problems:
        return "; ".join(problems) + "."
    return (
        "Forwards from the prior and backwards from draws of the posterior agree, and the islands "
        "do. What no particle has met cannot be noticed."
    )
