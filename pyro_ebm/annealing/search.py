"""The search for a base: "auto".

Chains from dispersed starts, some of them the ends of searches for the lowest energy, tell where
the target is. Candidates are the model's prior, where it can be drawn from; a density fitted to the
chains, coordinate after coordinate; and, where the searches end in more than one mode, a mixture of
the modes. Each is looked at by a pilot. A fitted one is fitted anew to the particles of its pilot,
some times over: they go where the chains had not come. Of the candidates that miss nothing the
others have found, which shows in log Z, that with the smallest barrier is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.optimize import distinct_minima, lbfgs
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced

from .autoregressive import WIDEN, autoregressive_base, fit_autoregression
from .mixture_base import Components, mixture_base
from .moves import Moves
from .path import Base, Path, from_prior, geometric
from .pilot import Pilot, pilot
from .prior import prior_base

NUM_CHAINS = 64
_WARMUP, _DRAWS, _TREE_DEPTH = 100, 16, 6
# A first fit, to chains that may not have come far, is this much wider still.
_FIRST_WIDEN = 1.5
_REFITS = 5
# Barriers this small leave nothing to gain, and one that shrinks by less than this is done.
_SMALL_BARRIER, _GAIN = 1.0, 0.93
# A base whose log Z lies so far below another's has missed something.
_MISSES = 0.3
# A prior is taken without looking further below this barrier, and at so many times the cost.
_NEAR_PRIOR, _PRIOR_COST = 2.5, 4.0
_MOST_MODES = 40
_MODE_DOF, _MODE_WIDEN = 8.0, 1.2


class Dispersed(NamedTuple):
    """Chains from dispersed starts: their last positions [dim, chains], draws [dim, n], modes."""

    last: Tensor
    draws: Tensor
    modes: Tensor
    diverged: bool


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
    """Run chains from dispersed starts, half of them from the modes that searches found."""
    starts = target.initial_positions(NUM_CHAINS, generator=generator)
    modes = find_modes(target, starts)
    half = NUM_CHAINS // 2
    if modes.shape[1] > 0:
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
    flat = positions.permute(1, 0, 2).reshape(target.dim, -1)
    return Dispersed(positions[-1], flat, modes, bool((flat.abs() > 1e8).any()))


def find_modes(target: Target, starts: Tensor) -> Tensor:
    """Distinct maxima [dim, modes] of the unconstrained density, the highest first."""

    def value_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = target.log_density_and_gradient(positions)
        return -value, -gradient

    found = lbfgs(value_and_gradient, starts, max_evaluations=300)
    if not bool(found.converged.any()):
        return starts[:, :0]
    spread = starts.std(1)
    distinct = distinct_minima(
        found.positions, found.values, converged=found.converged, spread=spread
    )
    chosen = distinct.representatives[found.converged[distinct.representatives]]
    return found.positions[:, chosen[:_MOST_MODES]]


def search(
    target: Target,
    moves: Moves,
    dispersed: Dispersed,
    num_particles: int,
    generator: torch.Generator,
) -> Choice:
    """Compare the candidates and choose one."""
    pilots: list[Pilot] = []

    def look(path: Path) -> Pilot:
        pilots.append(pilot(path, moves, num_particles, generator))
        return pilots[-1]

    by_prior: Pilot | None = None
    prior = prior_base(target)
    sets = [dispersed.draws]
    if prior is not None:
        by_prior = look(from_prior(target, prior))
        if by_prior.barrier < _NEAR_PRIOR:
            return Choice(by_prior, (_candidate(by_prior),))
        sets = [by_prior.particles(generator), dispersed.draws]
    mixture = _mode_mixture(target, dispersed.modes)
    if mixture is not None:
        found = look(geometric(target, mixture))
        sets = [found.particles(generator), *sets]
    _refit(target, look, sets, generator)
    considered = tuple(_candidate(p) for p in pilots)
    return Choice(_best(pilots, by_prior), considered)


def _candidate(found: Pilot) -> Candidate:
    return Candidate(found.description, found.barrier, found.log_z)


def _refit(
    target: Target,
    look: Callable[[Path], Pilot],
    sets: list[Tensor],
    generator: torch.Generator,
) -> None:
    """Fit to the draws at hand, look, and fit anew to what came of it, while that helps."""
    own: list[Tensor] = []
    families, before = [], math.inf
    for round_number in range(_REFITS):
        draws = torch.cat(own[-3:] or sets, dim=1)
        draws = draws[:, draws.isfinite().all(0)]
        if draws.shape[1] < 4 * target.dim:
            return
        independent = sum(families[-3:]) if own else NUM_CHAINS * 4
        fit = fit_autoregression(draws, num_independent=independent)
        first = round_number == 0
        base = autoregressive_base(
            fit,
            widen=_FIRST_WIDEN if first else WIDEN,
            description="a density fitted to the chains"
            if first
            else "a density fitted to the particles of pilot runs",
        )
        found = look(geometric(target, base))
        if found.barrier < _SMALL_BARRIER or (not first and found.barrier > _GAIN * before):
            return
        before = found.barrier
        own.append(found.particles(generator))
        families.append(found.learned.num_families)


def _best(pilots: list[Pilot], prior: Pilot | None) -> Pilot:
    """The smallest barrier of those that miss nothing; but a prior at a few times the cost.

    A prior has no blind spots that draws could have left in it.
    """
    finite = [p for p in pilots if math.isfinite(p.log_z) and math.isfinite(p.barrier)]
    if not finite:
        return pilots[-1]
    highest = max(p.log_z for p in finite)
    complete = [p for p in finite if p.log_z > highest - max(_MISSES, 0.1 * p.barrier)]
    best = min(complete, key=lambda p: p.barrier)
    if (
        prior is not None
        and prior in complete
        and prior.barrier**2 < _PRIOR_COST * (best.barrier**2 + 1.0)
    ):
        return prior
    return best


def _mode_mixture(target: Target, modes: Tensor) -> Base | None:
    """Student-t components at the modes, from the curvature there; None for fewer than two."""
    number = modes.shape[1]
    if number < 2 or target.dim > 64:
        return None

    def gradient(position: Tensor) -> Tensor:
        return target.log_density_and_gradient(position[:, None])[1][:, 0]

    weights, locs, factors = [], [], []
    step = 1e-4 if target.dtype == torch.float64 else 1e-2
    for mode in modes.T:
        # Central differences of the gradient: second derivatives of any model at all.
        shifts = step * torch.eye(target.dim, dtype=target.dtype, device=target.device)
        _, up = target.log_density_and_gradient(mode[:, None] + shifts)
        _, down = target.log_density_and_gradient(mode[:, None] - shifts)
        hessian = (down - up) / (2 * step)
        hessian = 0.5 * (hessian + hessian.T)
        if not bool(hessian.isfinite().all()):
            continue
        values, vectors = torch.linalg.eigh(hessian.double())
        if float(values.min()) <= 1e-8 * float(values.max()):
            continue
        covariance = (vectors / values) @ vectors.T
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed) != 0:
            continue
        height, _ = target.log_density_and_gradient(mode[:, None])
        weights.append(height[0].double() + factor.diagonal().log().sum())
        locs.append(mode.double())
        factors.append(factor)
    if len(weights) < 2:
        return None
    log_weights = torch.stack(weights).log_softmax(0)
    components = Components(
        log_weights.to(target.dtype),
        torch.stack(locs).to(target.dtype),
        (_MODE_WIDEN * torch.stack(factors)).to(target.dtype),
    )
    return mixture_base(
        components, dof=_MODE_DOF, description=f"a mixture of the {len(weights)} modes found"
    )
