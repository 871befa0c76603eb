"""The values that a site can have: numbers, or one-hot rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Energy
from .changes import checked_states
from .states import is_one_hot


def site_values(energy: Energy, like: Tensor | None = None) -> Tensor:
    """The value of a site in each of its states, [K], or of one-hot rows [K, K]."""
    if not is_one_hot(energy.support):
        return checked_states(energy, like)
    rows = torch.eye(energy.event_shape[-1])
    return rows if like is None else rows.to(like)


def num_sites(energy: Energy) -> int:
    """How many sites a configuration has."""
    count = energy.event_shape.numel()
    return count // energy.event_shape[-1] if is_one_hot(energy.support) else count
