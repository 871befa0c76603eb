"""Where the target is, as far as searches and short chains from dispersed starts can tell."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from pyro.infer.autoguide.initialization import init_to_uniform
from torch import Tensor

from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.optimize import DistinctMinima, Optimum, distinct_minima, lbfgs
from pyro_ebm.target import Target

from .families import Draws

NUM_CHAINS = 64
_WARMUP, _DRAWS, _TREE_DEPTH = 100, 16, 6
_STUCK = 0.2
_MOST_MODES, _EVALUATIONS = 64, 300
# How far out, in unconstrained coordinates, half of the searches for modes begin.
_FAR = 10.0
# Searches go on while a share of them between these ended where no other did: as large a share of
# further ones would end somewhere new; above, there is no end of modes.
_ALL_FOUND, _ENDLESS = 0.01, 0.5
_MOST_SEARCHES = 1024


class Dispersed(NamedTuple):
    """Chains from dispersed starts: last positions [dim, chains], and draws of those that move;
    with the modes [dim, m] that searches ended at.
    """

    last: Tensor
    draws: Draws
    modes: Tensor


def disperse(target: Target, generator: torch.Generator) -> Dispersed:
    """Run chains from dispersed starts, half of them from modes where there are several."""
    starts = target.initial_positions(NUM_CHAINS, generator=generator)
    modes = find_modes(target, starts, generator)
    half = NUM_CHAINS // 2
    # One mode may be a spike without mass, as a funnel's is.
    if modes.shape[1] > 1:
        order = torch.arange(half, device=starts.device) % modes.shape[1]
        starts = torch.cat([starts[:, :half], modes[:, order]], dim=1)

    starts = starts.contiguous()

    result = run_chains(
        Problem(target.recorded, target.recorder(starts)),
        nuts(max_tree_depth=_TREE_DEPTH),
        starts,
        Plan(_DRAWS, Warmup(_WARMUP, max_tree_depth=_TREE_DEPTH)),
        generator=generator,
    )
    if result.error is not None:
        raise result.error
    positions = result.draws.positions
    # A chain in a spike that the common step size is too long for stays there, and says nothing.
    moves = result.draws.statistics["acceptance_rate"].mean(0) > _STUCK
    kept = positions[:, :, moves] if bool(moves.any()) else positions
    num_draws, _, chains = kept.shape
    flat = kept.permute(1, 0, 2).reshape(target.dim, -1)
    families = torch.arange(chains, device=starts.device).repeat(num_draws)
    return Dispersed(positions[-1], Draws(flat, families), modes)


def climb(target: Target, starts: Tensor) -> Tensor:
    """The maxima [dim, n] that searches from these starts end at, converged or not."""
    return _searches(target, starts).positions


def find_modes(target: Target, starts: Tensor, generator: torch.Generator) -> Tensor:
    """Distinct maxima [dim, modes] of the unconstrained density, the highest first.

    Searches begin at ``starts`` and as many farther out, and from fresh starts of both kinds until
    hardly another mode is to be expected.

    Source of when to stop: Good (1953), The population frequencies of species.
    """
    spread = starts.std(1)
    found: list[Optimum] = []
    while True:
        found.append(_searches(target, torch.cat([starts, *_far_starts(target, generator)], 1)))
        positions = torch.cat([each.positions for each in found], 1)
        values = torch.cat([each.values for each in found])
        converged = torch.cat([each.converged for each in found])
        distinct = distinct_minima(positions, values, converged=converged, spread=spread)
        chosen = distinct.representatives[converged[distinct.representatives]]
        if len(values) >= _MOST_SEARCHES or not _ALL_FOUND < _alone(distinct) <= _ENDLESS:
            return positions[:, chosen[:_MOST_MODES]]
        starts = target.initial_positions(NUM_CHAINS, generator=generator)


def _alone(distinct: DistinctMinima) -> float:
    """The share of searches that ended where no other did."""
    return float((distinct.counts == 1).sum()) / len(distinct.labels)


def _far_starts(target: Target, generator: torch.Generator) -> list[Tensor]:
    """Starts far out for searches, where the density is finite there."""
    far = partial(init_to_uniform, radius=_FAR)
    try:
        return [target.initial_positions(NUM_CHAINS, strategy=far, generator=generator)]
    except ValueError:
        return []


def _searches(target: Target, starts: Tensor) -> Optimum:
    def value_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = target.log_density_and_gradient(positions)
        return -value, -gradient

    return lbfgs(value_and_gradient, starts, max_evaluations=_EVALUATIONS)
