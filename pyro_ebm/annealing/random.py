"""Random numbers that torch gives only without a generator of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def standard_gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma variables of unit rate, one for each element of ``shape``."""
    draw: Any = getattr(torch, "_standard_gamma")  # noqa: B009
    drawn: Tensor = draw(shape, generator)
    return drawn
