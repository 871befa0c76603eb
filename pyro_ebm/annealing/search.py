"""The search for a base: "auto".

Chains from dispersed starts, half of them modes where a search finds several, tell where the target
is. Candidates are the model's prior, where it can be drawn from; a density fitted to the
chains, coordinate after coordinate; and, where the searches end in more than one mode, a mixture of
the modes. Each is looked at by a pilot. A fitted one is fitted anew to the particles of its pilot,
some times over: they go where the chains had not come. Of the candidates that miss nothing the
others have found, which shows in log Z, that with the smallest barrier is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from pyro.infer.autoguide.initialization import init_to_uniform
from torch import Tensor

from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.optimize import Optimum, distinct_minima, lbfgs
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced

from .autoregressive import WIDEN, autoregressive_base, fit_autoregression
from .laplace import laplace
from .mixture_base import Components, defended, mixture_base
from .moves import Moves
from .path import Base, Path, from_prior, geometric
from .pilot import Pilot, pilot
from .prior import prior_base

NUM_CHAINS = 64
_WARMUP, _DRAWS, _TREE_DEPTH = 100, 16, 6
_STUCK = 0.2
# A first fit, to chains that may not have come far, is this much wider still.
_FIRST_WIDEN = 1.5
_REFITS = 7
# The share of draws from dispersed chains among those that are fitted.
_KEPT = 0.1
_FITTED = "a density fitted to chains and particles"
_OF_MODES = "a mixture of the modes found"
# A barrier this small, by the root of the dimension over this, leaves nothing to gain, and one that
# shrinks by less than this is done.
_SMALL_BARRIER, _DIMENSIONS, _GAIN = 1.0, 8.0, 0.93
# A base whose log Z lies so far below another's has missed something.
_MISSES = 0.1
# A prior is taken without looking further below this barrier, and at so many times the cost.
_NEAR_PRIOR, _PRIOR_COST = 2.5, 4.0
# Beyond this one a prior is only drawn from, not taken.
_FAR_PRIOR = 6.0
# Particles of a pilot.
_PILOT_PARTICLES = 512
_MOST_MODES, _EVALUATIONS = 40, 300
# How far out, in unconstrained coordinates, half of the searches for modes begin.
_FAR = 10.0
_MODE_DOF, _MODE_WIDEN = 8.0, 1.2
_MOST_MODE_DIMENSIONS = 16


class Dispersed(NamedTuple):
    """Chains from dispersed starts: last positions [dim, chains], and draws [dim, n] of those that
    move; with the modes [dim, m] that searches ended at.
    """

    last: Tensor
    draws: Tensor
    modes: Tensor


class Candidate(NamedTuple):
    """A base that was looked at: what it is, its barrier and its log Z."""

    description: str
    barrier: float
    log_z: float


class Choice(NamedTuple):
    """The chosen pilot and all that were compared."""

    chosen: Pilot
    considered: tuple[Candidate, ...]


def disperse(target: Target, generator: torch.Generator) -> Dispersed:
    """Run chains from dispersed starts, half of them from modes where there are several."""
    starts = target.initial_positions(NUM_CHAINS, generator=generator)
    modes = find_modes(target, torch.cat([starts, *_far_starts(target, generator)], dim=1))
    half = NUM_CHAINS // 2
    # One mode may be a spike without mass, as a funnel's is.
    if modes.shape[1] > 1:
        order = torch.arange(half, device=starts.device) % modes.shape[1]
        starts = torch.cat([starts[:, :half], modes[:, order]], dim=1)

    def record(function: Callable, *example: object) -> Callable:
        return traced(function, *example) if target.vectorized else function

    result = run_chains(
        Problem(target.log_density_and_gradient, record),
        nuts(max_tree_depth=_TREE_DEPTH),
        starts.contiguous(),
        Plan(_DRAWS, Warmup(_WARMUP, max_tree_depth=_TREE_DEPTH)),
        generator=generator,
    )
    if result.error is not None:
        raise result.error
    positions = result.draws.positions
    # A chain in a spike that the common step size is too long for stays there, and says nothing.
    moves = result.draws.statistics["acceptance_rate"].mean(0) > _STUCK
    kept = positions[:, :, moves] if bool(moves.any()) else positions
    flat = kept.permute(1, 0, 2).reshape(target.dim, -1)
    return Dispersed(positions[-1], flat, modes)


def _far_starts(target: Target, generator: torch.Generator) -> list[Tensor]:
    """Starts far out for searches, where the density is finite there."""
    far = partial(init_to_uniform, radius=_FAR)
    try:
        return [target.initial_positions(NUM_CHAINS, strategy=far, generator=generator)]
    except ValueError:
        return []


def climb(target: Target, starts: Tensor) -> Tensor:
    """The maxima [dim, n] that searches from these starts end at, converged or not."""
    return _searches(target, starts).positions


def find_modes(target: Target, starts: Tensor) -> Tensor:
    """Distinct maxima [dim, modes] of the unconstrained density, the highest first."""
    found = _searches(target, starts)
    if not bool(found.converged.any()):
        return starts[:, :0]
    spread = starts.std(1)
    distinct = distinct_minima(
        found.positions, found.values, converged=found.converged, spread=spread
    )
    chosen = distinct.representatives[found.converged[distinct.representatives]]
    return found.positions[:, chosen[:_MOST_MODES]]


def _searches(target: Target, starts: Tensor) -> Optimum:
    def value_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = target.log_density_and_gradient(positions)
        return -value, -gradient

    return lbfgs(value_and_gradient, starts, max_evaluations=_EVALUATIONS)


def search(
    target: Target,
    moves: Moves,
    dispersed: Dispersed,
    num_particles: int,
    generator: torch.Generator,
) -> Choice:
    """Compare the candidates and choose one."""
    pilots: list[Pilot] = []
    number = min(num_particles, _PILOT_PARTICLES)

    def look(path: Path, largest_barrier: float = math.inf) -> Pilot:
        found = pilot(path, moves, number, generator, largest_barrier=largest_barrier)
        pilots.append(found)
        return found

    by_prior: Pilot | None = None
    prior = prior_base(target)
    sets = [dispersed.draws]
    if prior is not None:
        by_prior = look(from_prior(target, prior), _FAR_PRIOR)
        if by_prior.barrier < _NEAR_PRIOR:
            return Choice(by_prior, (_candidate(by_prior),))
        sets.append(by_prior.particles(generator))
    first = torch.cat(sets, dim=1)
    # Chains do not know how much each mode weighs; particles from a prior do.
    wide = _fitted(first, 4.0 * NUM_CHAINS, widen=_FIRST_WIDEN, one_part=prior is None)
    components = _at_modes(target, dispersed.modes)
    if components is not None:
        modes = mixture_base(components, dof=_MODE_DOF, description=_OF_MODES)
        look(geometric(target, defended(modes, wide)))
    _refit(target, look, wide, dispersed.draws, generator)
    considered = tuple(_candidate(p) for p in pilots)
    return Choice(_best(pilots, by_prior), considered)


def _candidate(found: Pilot) -> Candidate:
    return Candidate(found.description, found.barrier, found.log_z)


def _fitted(draws: Tensor, independent: float, *, widen: float, one_part: bool) -> Base:
    draws = draws[:, draws.isfinite().all(0)]
    fit = fit_autoregression(draws, num_independent=independent, one_part=one_part)
    return autoregressive_base(fit, widen=widen, description=_FITTED)


def _refit(
    target: Target,
    look: Callable[[Path], Pilot],
    base: Base,
    dispersed: Tensor,
    generator: torch.Generator,
) -> None:
    """Look along the path from a base, fit anew to what came of it, and so on while that helps.

    Some draws of the dispersed chains stay among those that are fitted, so that what particles have
    lost by chance is not lost for good.
    """
    own: list[Tensor] = []
    families: list[float] = []
    before = math.inf
    for _ in range(_REFITS):
        found = look(geometric(target, base))
        small = _SMALL_BARRIER * max(1.0, target.dim / _DIMENSIONS) ** 0.5
        if found.barrier < small or found.barrier > _GAIN * before:
            return
        before = found.barrier
        own.append(found.particles(generator))
        families.append(found.learned.num_families)
        draws = torch.cat(own[-3:], dim=1)
        kept = max(1, dispersed.shape[1] // max(1, int(_KEPT * draws.shape[1])))
        draws = torch.cat([draws, dispersed[:, ::kept]], dim=1)
        base = _fitted(draws, sum(families[-3:]), widen=WIDEN, one_part=False)


def _best(pilots: list[Pilot], prior: Pilot | None) -> Pilot:
    """The smallest barrier of those that miss nothing; but a prior at a few times the cost.

    A prior has no blind spots that draws could have left in it.
    """
    finite = [p for p in pilots if math.isfinite(p.log_z) and math.isfinite(p.barrier)]
    if not finite:
        return pilots[-1]
    near = [p for p in finite if p is not prior or p.barrier <= _FAR_PRIOR] or finite
    least = max(p.log_z - 3.0 * _error(p) for p in near) - _MISSES
    complete = [p for p in near if p.log_z + 3.0 * _error(p) > least]
    best = min(complete, key=lambda p: p.barrier)
    if (
        prior is not None
        and prior in complete
        and prior.barrier**2 < _PRIOR_COST * (best.barrier**2 + 1.0)
    ):
        return prior
    return best


def _error(found: Pilot) -> float:
    """How far the log Z of a pilot may well be off: its particles stem from so many families."""
    return 1.0 / math.sqrt(found.learned.num_families)


def _at_modes(target: Target, modes: Tensor) -> Components | None:
    """Components at the modes, from the curvature there; None for fewer than two."""
    if modes.shape[1] < 2 or target.dim > _MOST_MODE_DIMENSIONS:
        return None
    found = [
        (log_mass, mode, factor)
        for mode in modes.T
        for log_mass, factor in [laplace(target, mode)]
        if factor is not None
    ]
    if len(found) < 2:
        return None
    log_masses, locs, factors = zip(*found, strict=True)
    log_weights = torch.tensor(log_masses, dtype=target.dtype, device=target.device).log_softmax(0)
    return Components(log_weights, torch.stack(locs), _MODE_WIDEN * torch.stack(factors))
