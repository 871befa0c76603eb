"""Minima at the border of a support, which unconstrained coordinates never reach.

Where the energy falls towards a bound, the coordinate u runs to infinity: the energy settles and x
does not, quite. So a run that has ended is pushed outwards, along the coordinates that no longer
move x, for as long as the energy does not rise. Then it is asked two things. Is the energy lower
farther in? Then the run had jumped over a minimum into the flat of the bijection, and begins again
from there. Does the energy still change where x no longer does, as a density does that is infinite
at its border? Then it falls without end, and there is no minimum. So it is, too, where the energy
levels off towards infinity and never turns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.optimize.lbfgs import ValueAndGradient

# A coordinate whose effect on x is this much smaller than at the starts has come near a border.
_SATURATED = 1e-2
# The pushes outwards, each twice as far as the one before; they add up to some 500.
_FIRST_PUSH, _PUSHES = 4.0, 7
# Where the energy is looked at farther in: there x is about exp(-u) from its border.
_INWARD = (12.0, 6.0, 3.0)
# How far back the energy must be the same, in units of where 1 - exp(-u) rounds to 1, and within
# which share of the whole fall.
_BACK, _SAME = 0.75, 3e-2
# A coordinate this much beyond the starts, itself or in its effect, may be on its way to infinity.
_FAR = 100.0


class Pushed(NamedTuple):
    """Runs after the push: positions [dim, runs], their values, and the coordinates pushed."""

    positions: Tensor
    values: Tensor
    outside: Tensor


def push(
    value_and_gradient: ValueAndGradient,
    positions: Tensor,
    effect: Tensor,
    *,
    usual_effect: Tensor,
) -> Pushed:
    """Push coordinates near a border on towards it.

    Args:
        positions: where the runs ended, [dim, runs].
        effect: by coordinate how much x changes with it there, [dim, runs].
        usual_effect: the same at the starts, [dim, 1].
    """
    values, gradients = value_and_gradient(positions)
    near = effect <= _SATURATED * usual_effect
    direction = torch.where(near, -gradients.sign(), 0.0)
    outside = near & (effect == 0)
    for round_ in range(_PUSHES):
        if not bool(direction.any()):
            break
        length = _FIRST_PUSH * 2**round_
        _, slopes = value_and_gradient(positions + length * direction)
        direction = torch.where(slopes * direction <= 0, direction, 0.0)
        candidates = positions + length * direction
        found, slopes = value_and_gradient(candidates)
        rounding = 4 * torch.finfo(values.dtype).eps * values.abs()
        lower = slopes.isfinite().all(0) & (found.abs() < torch.inf) & (found <= values + rounding)
        direction = torch.where(lower, direction, 0.0)
        outside = outside | (direction != 0)
        positions = torch.where(lower, candidates, positions)
        values = torch.where(lower, found, values)
    return Pushed(positions, values, outside)


def lower_inside(value_and_gradient: ValueAndGradient, pushed: Pushed) -> Tensor:
    """Positions farther in where those have a lower value, the given ones elsewhere."""
    best, values = pushed.positions, pushed.values
    for bound in _INWARD:
        inner = pushed.positions.clamp(-bound, bound)
        inner = torch.where(pushed.outside, inner, pushed.positions)
        found, _ = value_and_gradient(inner)
        margin = torch.finfo(values.dtype).eps ** 0.5 * values.abs().clamp(min=1.0)
        lower = found < values - margin
        best = torch.where(lower, inner, best)
        values = torch.where(lower, found, values)
    return best


def falls_at_border(
    value_and_gradient: ValueAndGradient,
    positions: Tensor,
    outside: Tensor,
    *,
    start_values: Tensor,
) -> Tensor:
    """Of which runs [runs] the value still changes at a border where x no longer does."""
    values, _ = value_and_gradient(positions)
    bound = -_BACK * math.log(torch.finfo(values.dtype).eps)
    back = torch.where(outside, positions.clamp(-bound, bound), positions)
    found, _ = value_and_gradient(back)
    # Of all runs, since one that began at the border has no way to fall.
    fall = (start_values - values).abs().median()
    rounding = torch.finfo(values.dtype).eps ** 0.5 * values.abs().clamp(min=1.0)
    return outside.any(0) & ((found - values).abs() > _SAME * fall + rounding)


def falls_far(
    value_and_gradient: ValueAndGradient,
    positions: Tensor,
    effect: Tensor,
    *,
    starts: Tensor,
    usual_effect: Tensor,
) -> Tensor:
    """Which runs [runs] came to rest far out where the value, although flat, falls on outwards."""
    values, gradients = value_and_gradient(positions)
    begun = starts.abs().amax(1, keepdim=True).clamp(min=1.0)
    moves = effect > _SATURATED * usual_effect
    far = (moves & (positions.abs() > _FAR * begun)) | (effect > _FAR * usual_effect)
    direction = torch.where(far, -gradients.sign(), 0.0) * (0.5 * positions.abs()).clamp(min=1.0)
    _, slopes = value_and_gradient(positions + direction)
    direction = torch.where(slopes * direction <= 0, direction, 0.0)
    found, _ = value_and_gradient(positions + direction)
    return (direction != 0).any(0) & (found <= values)
