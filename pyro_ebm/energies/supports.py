"""Supports: where an energy is defined, as torch constraints over whole events.

A constraint with `event_dim` 0 (`real`, `positive`, an interval) speaks of single numbers. An
energy over events of shape (3,) needs one that speaks of the event, which `constraints.independent`
makes: its `check` gives one answer per configuration, its bijection one log-determinant.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from .checks import unrecorded

_WITHOUT_BORDER = {
    type(constraints.nonnegative): type(constraints.positive),
    type(constraints.half_open_interval(0.0, 1.0)): type(constraints.unit_interval),
}


def as_event_shape(event_shape: object) -> torch.Size:
    """A sequence of integers as a `torch.Size`.

    Raises:
        TypeError: anything else.
    """
    found = as_sizes(event_shape)
    if found is not None:
        return found
    raise TypeError(
        f"expected event_shape to be a sequence of sizes such as (3,), got {event_shape!r}. "
        "One number per configuration has event_shape ()."
    )


def as_sizes(shape: object) -> torch.Size | None:
    """Whole numbers from nought up, NumPy's too, as a `torch.Size`; None of anything else."""
    if isinstance(shape, Sequence) and torch._C._is_tracing():  # which makes sizes tensors
        with unrecorded():
            shape = [int(size) if isinstance(size, Tensor) else size for size in shape]
    if not isinstance(shape, Sequence) or not all(
        isinstance(size, Integral) and not isinstance(size, bool) and int(size) >= 0
        for size in shape
    ):
        return None
    return torch.Size([int(size) for size in shape])


def as_support(support: object) -> Constraint:
    """A support given as a constraint.

    Raises:
        TypeError: anything else, or a constraint that depends on a distribution's parameters.
    """
    if isinstance(support, Constraint) and not constraints.is_dependent(support):
        return support
    raise TypeError(
        f"expected support to be a constraint such as constraints.positive, got {support!r}. "
        "Take it from torch.distributions.constraints, or from an instance of a distribution."
    )


def event_support(support: Constraint, event_shape: torch.Size) -> Constraint:
    """Widen a support to the dimensions of the event; one that has them is returned as it is.

    Raises:
        ValueError: the support has more event dimensions than the event.
    """
    missing = len(event_shape) - support.event_dim
    if missing < 0:
        raise ValueError(
            f"expected a support over at most {len(event_shape)} event dimension(s), because "
            f"event_shape is {tuple(event_shape)}; got {support}, which spans "
            f"{support.event_dim}. Give the energy the event_shape of a whole configuration."
        )
    return constraints.independent(support, missing) if missing else support


def elementwise(support: Constraint) -> Constraint | None:
    """The constraint on single numbers that a support repeats over its event, or None."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support if support.event_dim == 0 else None


def same_support(first: Constraint, second: Constraint) -> bool:
    """Whether two supports are visibly the same: one kind, equal bounds."""
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    left, right = vars(first), vars(second)
    return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)


def same_interior(first: Constraint, second: Constraint) -> bool:
    """Whether two supports are the same but for borders, which have no mass: positive, say, and
    nonnegative."""
    left, right = elementwise(first), elementwise(second)
    if left is None or right is None:
        return same_support(first, second)
    kinds = (_WITHOUT_BORDER.get(type(each), type(each)) for each in (left, right))
    return len(set(kinds)) == 1 and _same(list(vars(left).values()), list(vars(right).values()))


def _same(left: object, right: object) -> bool:
    if left is right:
        return True
    if isinstance(left, Constraint) and isinstance(right, Constraint):
        return same_support(left, right)
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.shape == right.shape and bool((left == right).all())
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return False
    return bool(left == right)


def select(support: Constraint, event_shape: torch.Size, index: Tensor) -> Constraint:
    """The elementwise support of some coordinates: bounds given per coordinate are selected too.

    Args:
        support: an elementwise constraint; its bounds broadcast to `event_shape`.
        event_shape: the shape of the whole event.
        index: positions in the flattened event.
    """
    selected = copy.copy(support)
    for name, value in vars(support).items():
        if isinstance(value, Tensor) and value.dim():
            bound = value.expand(event_shape).reshape(-1).index_select(0, index.to(value.device))
            setattr(selected, name, bound)
    return selected
