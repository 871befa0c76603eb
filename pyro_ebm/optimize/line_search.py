"""The search along a direction, and the memory that gives the direction, of many runs at once.

Along a direction d of slope g'd < 0 a weak Wolfe search looks for a length t at which the value has
fallen and the slope has flattened: while it falls too steeply still the length doubles, and once it
no longer falls the bracket is narrowed, by a parabola or by halves. The last steps s and changes of
gradient y stand for the inverse Hessian.

Source: Lewis, Overton (2013), Nonsmooth optimization via quasi-Newton methods; Nocedal (1980),
Updating quasi-Newton matrices with limited storage.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound=tuple[Any, ...])

# A first step, and every step when it is first tried, in units of the position.
_FIRST_STEP, _LONGEST_STEP = 0.1, 1.0


class Search(NamedTuple):
    """The line search of every run: its direction, slope, and the bracket of its step length."""

    direction: Tensor
    slope: Tensor
    length: Tensor
    low: Tensor
    low_value: Tensor
    low_slope: Tensor
    high: Tensor
    tries: Tensor


class Memory(NamedTuple):
    """The last pairs s, y [memory, dim, runs], oldest first, and s'y; zeros where none is yet."""

    steps: Tensor
    changes: Tensor
    curvature: Tensor


def new_search(position: Tensor, value: Tensor, gradient: Tensor, memory: Memory) -> Search:
    """The search along -H g, or along -g where H is unknown or gives no descent."""
    reach = position.abs().amax(0).clamp(min=1.0)
    tiny = torch.finfo(value.dtype).tiny
    plain = -gradient * (_FIRST_STEP * reach / gradient.abs().amax(0).clamp(min=tiny))
    direction = -_inverse_hessian_times(gradient, memory)
    slope = (gradient * direction).sum(0)
    descends = (memory.curvature > 0).any(0) & (slope < 0) & slope.isfinite()
    direction = torch.where(descends, direction, plain)
    slope = torch.where(descends, slope, (gradient * plain).sum(0))
    longest = _LONGEST_STEP * reach / direction.abs().amax(0).clamp(min=tiny)
    return Search(
        direction,
        slope,
        longest.clamp(max=1.0),
        torch.zeros_like(value),
        value,
        slope,
        torch.full_like(value, torch.inf),
        torch.zeros_like(value, dtype=torch.long),
    )


def narrowed(search: Search, falls: Tensor, *, value: Tensor, slope: Tensor) -> Search:
    """The next length to try: beyond one that falls too steeply still, before one that does not."""
    low, low_value, low_slope = where(
        falls,
        (search.length, value, slope),
        (search.low, search.low_value, search.low_slope),
    )
    high = torch.where(falls, search.high, search.length)
    width = high - low
    # The minimum of the parabola through value and slope at low and the value at the length tried.
    drop = low_slope * width
    share = (-0.5 * drop / (value - low_value - drop)).nan_to_num(0.5).clamp(0.1, 0.5)
    inside = low + torch.where(falls, 0.5, share) * width
    length = torch.where(high.isfinite(), inside, 2 * search.length)
    return Search(
        search.direction,
        search.slope,
        length,
        low,
        low_value,
        low_slope,
        high,
        search.tries + 1,
    )


def _inverse_hessian_times(vector: Tensor, memory: Memory) -> Tensor:
    """H v by the two loops over the pairs, newest first and then oldest first."""
    filled = memory.curvature > 0
    weight = torch.where(filled, 1 / memory.curvature, 0.0)
    shares: list[Tensor] = []
    for s, y, rho in reversed(list(zip(memory.steps, memory.changes, weight, strict=True))):
        shares.append(rho * (s * vector).sum(0))
        vector = vector - shares[-1] * y
    # The newest pair gives the unit of H.
    stiffness = memory.changes[-1].square().sum(0) / memory.curvature[-1]
    vector = vector / torch.where(filled[-1], stiffness, 1.0)
    for s, y, rho in zip(memory.steps, memory.changes, weight, strict=True):
        vector = vector + (shares.pop() - rho * (y * vector).sum(0)) * s
    return vector


def with_pair(memory: Memory, step: Tensor, change: Tensor) -> Memory:
    """The memory with the newest pair, where the curvature along it is positive."""
    curvature = (step * change).sum(0)
    eps = torch.finfo(step.dtype).eps
    curved = curvature > eps * step.norm(dim=0) * change.norm(dim=0)
    pair = (step, change, curvature)
    longer = [torch.cat([old[1:], new[None]]) for old, new in zip(memory, pair, strict=True)]
    return where(curved, Memory(*longer), memory)


def where(mask: Tensor, new: T, old: T) -> T:
    """The tensors of one tuple where a mask over runs holds, those of the other elsewhere."""
    kept: Any = [torch.where(mask, a, b) for a, b in zip(new, old, strict=True)]
    return type(new)(*kept) if hasattr(new, "_fields") else type(new)(kept)
