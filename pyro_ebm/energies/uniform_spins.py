"""The uniform distribution over {-1, +1}^N: the prior of binary weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .states import spin


class UniformSpins(Distribution):
    """N independent fair coins of -1 and +1.

    Args:
        num_spins: N.

    Raises:
        ValueError: less than one.
    """

    def __init__(self, num_spins: int, *, validate_args: bool | None = None) -> None:
        if num_spins < 1:
            raise ValueError(f"expected num_spins of at least 1, got {num_spins}.")
        super().__init__(torch.Size(), torch.Size([num_spins]), validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """None: there are no parameters."""
        return {}

    @property
    def support(self) -> Any:
        """{-1, +1}^N."""
        return constraints.independent(spin, 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws [*sample_shape, N]."""
        shape = torch.Size(sample_shape) + self.event_shape
        return 2.0 * torch.randint(2, shape).to(torch.get_default_dtype()) - 1.0

    def log_prob(self, value: Tensor) -> Tensor:
        """-N log 2, at any configuration."""
        if self._validate_args:
            self._validate_sample(value)
        return value.new_full(value.shape[:-1], -self.event_shape[0] * math.log(2.0))

    def __repr__(self) -> str:
        return f"UniformSpins({self.event_shape[0]})"
