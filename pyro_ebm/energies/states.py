"""Discrete supports: which states a site of a configuration can be in.

A configuration of a discrete energy has one state at every site, all of the same kind: {0, 1}
(`constraints.boolean`), {-1, +1} (`spin`), whole numbers (`constraints.integer_interval`), or,
where the last axis holds one number per state, one-hot rows (`constraints.one_hot`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from .supports import elementwise


class _Spin(Constraint):
    """Either -1 or +1."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value == -1) | (value == 1)


spin = _Spin()
"""The support {-1, +1}."""


def is_one_hot(support: Constraint) -> bool:
    """Whether the last axis holds one number per state, a one and noughts."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, type(constraints.one_hot))


def states_of(support: Constraint) -> Tensor | None:
    """The values [K], ascending, that a single number of a discrete support can take.

    Returns:
        None where the support is not discrete, not finite, or not over single numbers.
    """
    single = elementwise(support)
    if isinstance(single, _Spin):
        return torch.tensor([-1.0, 1.0])
    if isinstance(single, type(constraints.boolean)):
        return torch.tensor([0.0, 1.0])
    if isinstance(single, constraints.integer_interval):
        low, high = torch.as_tensor(single.lower_bound), torch.as_tensor(single.upper_bound)
        if low.dim() == 0 and high.dim() == 0:
            return torch.arange(int(low), int(high) + 1, dtype=torch.get_default_dtype())
    return None
