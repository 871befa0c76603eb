"""The search for a base: "auto".

Chains from dispersed starts, half of them modes where a search finds several, tell where the target
is. Candidates are the model's prior, where it can be drawn from; a density fitted to the
chains, coordinate after coordinate; and, where the searches end in more than one mode, a mixture of
the modes. Each is looked at by a pilot, and those that are no prior are fitted anew to its
particles, some times over: they go where chains and searches had not come. Of the candidates that
miss nothing the others have found, which shows in log Z, that with the smallest barrier is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.target import Target

from .autoregressive import WIDEN, autoregressive_base, fit_autoregression
from .dispersed import Dispersed
from .families import Draws, Grouping, joined
from .laplace import laplace
from .loop import Runner, plainly
from .mixture_base import Components, defended, mixture_base, refined
from .moves import Moves
from .path import Base, Path, from_prior, geometric
from .pilot import Pilot, pilot
from .prior import prior_base

# A first fit, to chains that may not have come far, is this much wider still.
_FIRST_WIDEN = 1.5
_REFITS, _MODE_REFITS = 7, 3
# So many pilots give the particles of a fit.
_PILOTS_FITTED = 3
# So many draws of a family are fitted, of particles that have come from a far prior.
_DRAWS_A_FAMILY = 16
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
_MODE_DOF, _MODE_WIDEN = 8.0, 1.2
_MOST_MODE_DIMENSIONS = 16


class Candidate(NamedTuple):
    """A base that was looked at: what it is, its barrier and its log Z."""

    description: str
    barrier: float
    log_z: float


class Choice(NamedTuple):
    """The chosen pilot and all that were compared."""

    chosen: Pilot
    considered: tuple[Candidate, ...]


def search(
    target: Target,
    moves: Moves,
    dispersed: Dispersed,
    num_particles: int,
    generator: torch.Generator,
    *,
    run: Runner = plainly,
) -> Choice:
    """Compare the candidates and choose one.

    :param run: what runs the pilots' passes.
    """
    pilots: list[Pilot] = []
    number = min(num_particles, _PILOT_PARTICLES)

    def look(path: Path, largest_barrier: float = math.inf) -> Pilot:
        found = pilot(path, moves, number, generator, largest_barrier=largest_barrier, run=run)
        pilots.append(found)
        return found

    by_prior: Pilot | None = None
    prior = prior_base(target)
    sets = [dispersed.draws]
    if prior is not None:
        by_prior = look(from_prior(target, prior), _FAR_PRIOR)
        if by_prior.barrier < _NEAR_PRIOR:
            return Choice(by_prior, (_candidate(by_prior),))
        sets.append(_no_more_than(by_prior.particles(generator), _DRAWS_A_FAMILY))
    first = joined(sets)
    # Chains do not know how much each mode weighs; particles from a prior do.
    wide = _fitted(first, widen=_FIRST_WIDEN, one_part=prior is None)
    components = _at_modes(target, dispersed.modes)
    if components is not None:

        def of_modes(components: Components) -> Base:
            wider = components._replace(factors=_MODE_WIDEN * components.factors)
            return defended(mixture_base(wider, dof=_MODE_DOF, description=_OF_MODES), wide)

        def fitted_modes(found: Pilot) -> Base:
            return of_modes(refined(components, found.particles(generator), dof=_MODE_DOF))

        _improve(target, look, of_modes(components), fitted_modes, _MODE_REFITS)
    fitted = partial(_fitted_anew, [], dispersed.draws, generator)
    _improve(target, look, wide, fitted, _REFITS)
    considered = tuple(_candidate(p) for p in pilots)
    return Choice(_best(pilots, by_prior), considered)


def _candidate(found: Pilot) -> Candidate:
    return Candidate(found.description, found.barrier, found.log_z)


def _no_more_than(draws: Draws, each: int) -> Draws:
    """So many draws for every family that they are worth."""
    number = draws.positions.shape[1]
    if number == 0:
        return draws
    most = max(1, int(each * Grouping(draws.families).number))
    return draws.thinned(math.ceil(number / most))


def _fitted(draws: Draws, *, widen: float, one_part: bool) -> Base:
    fit = fit_autoregression(draws.finite, one_part=one_part)
    return autoregressive_base(fit, widen=widen, description=_FITTED)


def _improve(
    target: Target,
    look: Callable[[Path], Pilot],
    base: Base,
    fit: Callable[[Pilot], Base],
    most: int,
) -> None:
    """Look along the path from a base, fit anew to what came of it, and so on while that helps."""
    small = _SMALL_BARRIER * max(1.0, target.dim / _DIMENSIONS) ** 0.5
    before = math.inf
    for _ in range(most):
        found = look(geometric(target, base))
        if found.barrier < small or found.barrier > _GAIN * before:
            return
        before = found.barrier
        base = fit(found)


def _fitted_anew(
    earlier: list[Draws], dispersed: Draws, generator: torch.Generator, found: Pilot
) -> Base:
    """A fit to the particles of the last pilots, those in ``earlier`` and the one found now.

    Some draws of the dispersed chains stay among those that are fitted, so that what particles have
    lost by chance is not lost for good.
    """
    earlier.append(found.particles(generator))
    particles = joined(earlier[-_PILOTS_FITTED:])
    wanted = max(1, int(_KEPT * particles.positions.shape[1]))
    stride = max(1, dispersed.positions.shape[1] // wanted)
    both = joined([particles, dispersed.thinned(stride)])
    return _fitted(both, widen=WIDEN, one_part=False)


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
    return Components(log_weights, torch.stack(locs), torch.stack(factors))
