"""Batched L-BFGS: many runs downhill at once, each with its own line search.

The runs do not wait for one another: every round is one evaluation of all of them, and one may be
bracketing while another takes its next direction. Runs lie on the last axis. Where the fall of the
value is lost in rounding the slope alone decides whether a step is taken.

Source: Liu, Nocedal (1989), On the limited memory BFGS method for large scale optimization; Hager,
Zhang (2005), A new conjugate gradient method with guaranteed descent (the test of slopes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .line_search import Memory, Search, narrowed, new_search, where, with_pair

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]

_FALL, _FLATTEN = 1e-4, 0.9
# Tries of one search after which a fall is enough, and after which it has failed.
_PATIENCE, _LIMIT = 15, 40
# Steps in a row that neither gain nor flatten, after which a run has come as far as rounding lets
# it, and how much flatter than ever counts.
_IDLE, _FLATTER = 20, 0.9
# What rounding does to a value from one step to the next, and what it may hide of a sum of many
# terms, in units of eps.
_NOISE, _ROUNDING = 10.0, 1e3
# The greatest step, in units of the position, that a run which has arrived may still want to take.
_NEAR = 0.2
# A run that falls beyond this, in units of its start, has no minimum to go to.
_RUNAWAY = 1e8


class Optimum(NamedTuple):
    """Where every run ended.

    ``converged``: at a stationary point, as far as values can tell. ``unbounded``: the value fell
    to minus infinity, or was still falling a hundred million units out. A run with neither was
    stuck, or out of steps. ``num_steps`` counts accepted steps.
    """

    positions: Float[Tensor, "dim runs"]
    values: Float[Tensor, " runs"]
    gradients: Float[Tensor, "dim runs"]
    converged: Bool[Tensor, " runs"]
    unbounded: Bool[Tensor, " runs"]
    num_steps: Int[Tensor, " runs"]


class Runs(NamedTuple):
    """Where every run of :func:`lbfgs` is; ``done`` are those that have ended."""

    position: Tensor
    value: Tensor
    gradient: Tensor
    memory: Memory
    search: Search
    steepest: Tensor
    flattest: Tensor
    promise: Tensor
    idle: Tensor
    restarted: Tensor
    num_steps: Tensor
    converged: Tensor
    unbounded: Tensor
    done: Tensor


class Rules(NamedTuple):
    """When a run has arrived, and beyond what it has run away, by run."""

    gradient_tolerance: float
    value_tolerance: float
    decrement: float
    farthest: Tensor


def lbfgs(
    value_and_gradient: ValueAndGradient,
    starts: Float[Tensor, "dim runs"],
    *,
    max_evaluations: int = 2000,
    memory: int = 10,
    gradient_tolerance: float | None = None,
    value_tolerance: float | None = None,
    decrement: float = 0.0,
) -> Optimum:
    """Minimise a function from many starts at once.

    Args:
        value_and_gradient: positions [dim, runs] to values [runs] and gradients [dim, runs]. Where
            one is NaN or infinite the search turns back.
        starts: where the runs begin.
        max_evaluations: how often the function is evaluated, for all runs at once.
        memory: how many pairs stand for the inverse Hessian.
        gradient_tolerance: a run has converged when its greatest gradient entry is below this times
            max(1, |value|) and, so that a small unit does not pass for a small gradient, below
            sqrt(eps) of the greatest that it has met; eps^(2/3) unless given.
        value_tolerance: a run has also converged when its last step gained less than this times
            max(1, |value|) and its next promises no more; a tenth of eps unless given.
        decrement: a run may stop on its way, and has converged, where g'Hg is no more than this
            with its gradient g and the inverse Hessian H that it has learned: the squared distance
            to the minimum, in units of the curvature.

    Raises:
        ValueError: a start, or the function there, is not finite.
    """
    rules = rules_for(
        starts,
        gradient_tolerance=gradient_tolerance,
        value_tolerance=value_tolerance,
        decrement=decrement,
    )
    position = starts.detach().clone()
    value, gradient = value_and_gradient(position)
    _check_start(position, value, gradient)
    runs = begun(position, value, gradient, memory=memory, rules=rules)
    for _ in range(max_evaluations):
        if bool(runs.done.all()):
            break
        runs = advanced(runs, value_and_gradient, rules)
    return Optimum(
        runs.position, runs.value, runs.gradient, runs.converged, runs.unbounded, runs.num_steps
    )


def rules_for(
    starts: Float[Tensor, "dim runs"],
    *,
    gradient_tolerance: float | None = None,
    value_tolerance: float | None = None,
    decrement: float = 0.0,
) -> Rules:
    """The rules of runs from these starts; what is None is set as :func:`lbfgs` says."""
    eps = torch.finfo(starts.dtype).eps
    return Rules(
        eps ** (2 / 3) if gradient_tolerance is None else gradient_tolerance,
        0.1 * eps if value_tolerance is None else value_tolerance,
        decrement,
        _RUNAWAY * starts.abs().amax(0).clamp(min=1.0),
    )


def begun(
    position: Tensor, value: Tensor, gradient: Tensor, *, memory: int = 10, rules: Rules
) -> Runs:
    """Runs that have made no step yet, at finite values and gradients."""
    pairs = position.new_zeros(memory, *position.shape)
    pairs = Memory(pairs, pairs, pairs[:, 0])
    no = torch.zeros_like(value, dtype=torch.bool)
    none = torch.zeros_like(value, dtype=torch.long)
    steepest = gradient.abs().amax(0)
    flat = _flat(gradient, value, steepest, rules)
    return Runs(
        position,
        value,
        gradient,
        pairs,
        new_search(position, value, gradient, pairs),
        steepest,
        flattest=steepest,
        promise=torch.full_like(value, torch.inf),
        idle=none,
        restarted=no,
        num_steps=none,
        converged=flat,
        unbounded=no,
        done=flat,
    )


def advanced(runs: Runs, value_and_gradient: ValueAndGradient, rules: Rules) -> Runs:
    """One evaluation of every run: it takes a step, narrows or widens its bracket, or ends."""
    search, active = runs.search, ~runs.done
    eps = torch.finfo(runs.value.dtype).eps
    size = runs.value.abs().clamp(min=1.0)
    trial = torch.where(active, runs.position + search.length * search.direction, runs.position)
    value, gradient = value_and_gradient(trial)
    plunged = active & (value == -torch.inf)
    sound = value.isfinite() & gradient.isfinite().all(0)
    value = torch.where(sound, value, torch.inf)
    gradient = torch.where(sound, gradient, 0.0)
    steepest = torch.maximum(runs.steepest, gradient.abs().amax(0))
    slope = (gradient * search.direction).sum(0)

    falls = value <= runs.value + _FALL * search.length * search.slope
    level = value <= runs.value + _NOISE * eps * size
    falls = falls | (level & (slope <= (2 * _FALL - 1) * search.slope))
    flattens = (slope >= _FLATTEN * search.slope) | (search.tries >= _PATIENCE)
    runaway = active & falls & (trial.abs().amax(0) > rules.farthest)
    accepted = active & falls & (flattens | runaway)
    gain = runs.value - value
    flatter = gradient.abs().amax(0) <= _FLATTER * runs.flattest
    gains = accepted & ((gain > _NOISE * eps * size) | flatter)
    idle = torch.where(accepted, torch.where(gains, 0, runs.idle + 1), runs.idle)
    immobile = (trial == runs.position).all(0)
    failed = active & ~accepted & ((search.tries >= _LIMIT) | immobile)
    failed = failed | (active & (idle >= _IDLE))

    following = narrowed(search, falls, value=value, slope=slope)
    memory = with_pair(runs.memory, trial - runs.position, gradient - runs.gradient)
    memory = where(accepted, memory, runs.memory)
    position, value, gradient = where(
        accepted, (trial, value, gradient), (runs.position, runs.value, runs.gradient)
    )
    learnt = (memory.curvature > 0).any(0)
    fresh = new_search(position, value, gradient, memory)
    # What a quadratic model has left to gain, and whether it is to be had nearby.
    near = fresh.direction.abs().amax(0) <= _NEAR * position.abs().amax(0).clamp(min=1.0)
    promise = torch.where(near, -fresh.slope, torch.inf)
    promise = torch.where(accepted & learnt, promise, runs.promise)

    # A search may fail for a bad memory: the next one goes along the gradient, once.
    stuck = failed & (runs.restarted | ~learnt)
    again = failed & ~stuck
    memory = where(again, Memory(*(torch.zeros_like(each) for each in memory)), memory)
    fresh = where(again, new_search(position, value, gradient, memory), fresh)

    settled = torch.maximum(gain, promise) <= rules.value_tolerance * size
    flat = _flat(gradient, value, steepest, rules) & (near | ~learnt)
    small = gradient.abs().amax(0) <= eps**0.5 * torch.minimum(steepest, size)
    at_rounding = (promise <= _ROUNDING * eps * size) | (small & ~learnt)
    close = learnt & (-fresh.slope <= rules.decrement)
    fell = plunged | runaway
    converged = ~fell & ((accepted & (settled | flat | close)) | (stuck & at_rounding))
    return Runs(
        position,
        value,
        gradient,
        memory,
        where(accepted | again, fresh, following),
        steepest,
        torch.where(gains, torch.minimum(runs.flattest, gradient.abs().amax(0)), runs.flattest),
        promise,
        torch.where(again, 0, idle),
        (runs.restarted | again) & ~gains,
        runs.num_steps + accepted,
        runs.converged | converged,
        runs.unbounded | fell,
        runs.done | converged | stuck | fell,
    )


def _flat(gradient: Tensor, value: Tensor, steepest: Tensor, rules: Rules) -> Tensor:
    """Whether a gradient is as good as zero, beside the value and the steepest met."""
    greatest = gradient.abs().amax(0)
    unit = value.abs().clamp(min=1.0)
    relative = torch.finfo(value.dtype).eps ** 0.5
    return (greatest <= rules.gradient_tolerance * unit) & (
        (greatest <= relative * steepest) | (greatest == 0)
    )


def _check_start(position: Tensor, value: Tensor, gradient: Tensor) -> None:
    good = position.isfinite().all(0) & value.isfinite() & gradient.isfinite().all(0)
    if not bool(good.all()):
        wrong = (~good).nonzero()[:, 0].tolist()
        raise ValueError(
            "Expected starts at which value and gradient are finite, got NaN or infinity at runs "
            f"{wrong[:10]} of {good.numel()}. Leave those starts out, or draw them elsewhere."
        )
