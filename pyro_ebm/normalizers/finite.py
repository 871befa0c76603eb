"""Discrete sites of a model with finitely many states: what the states are."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pyro.distributions import MaskedDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Independent, constraints

from pyro_ebm.energies.states import states_of
from pyro_ebm.energies.supports import elementwise

from .like import like_of


class States(NamedTuple):
    """The ``values`` [K, *unit] that each unit of a site can take; ``shape`` is that of the units.

    A value of the site is [*shape, *unit].
    """

    values: Tensor
    shape: torch.Size

    @property
    def first(self) -> Tensor:
        """The value of the site with all units in their first state."""
        return self.values[0].expand((*self.shape, *self.values.shape[1:]))


def finite_states(fn: Any) -> States | None:
    """The states of a discrete distribution; None where they are not finitely many, or not known.

    What has no enumeration in Pyro is taken apart: vectors of independent units, and energies.
    """
    if not fn.support.is_discrete:
        return None
    bare = fn
    while isinstance(bare, MaskedDistribution | ExpandedDistribution | Independent):
        bare = bare.base_dist
    values = _values(bare)
    if values is None:
        return None
    whole = torch.Size(fn.shape())
    return States(values, whole[: len(whole) - (values.dim() - 1)])


def _values(bare: Any) -> Tensor | None:
    if bare.has_enumerate_support:
        try:
            return bare.enumerate_support(expand=False).reshape(-1, *bare.event_shape)
        except NotImplementedError:  # another number of states for every element
            return None
    support = bare.support
    like = like_of(bare)
    single = support
    while isinstance(single, constraints.independent):
        single = single.base_constraint
    if isinstance(single, type(constraints.one_hot)):
        return torch.eye(bare.event_shape[-1], dtype=like.dtype, device=like.device)
    states = states_of(support)
    if states is None:
        return None
    whole = isinstance(elementwise(support), constraints.integer_interval)
    return states.to(like.device, torch.long if whole else like.dtype)
