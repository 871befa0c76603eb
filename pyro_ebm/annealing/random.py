"""Random numbers that torch gives only without a generator of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def standard_gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma variables of unit rate, one for each element of ``shape``."""
    draw: Any = getattr(torch, "_standard_gamma")  # noqa: B009
    drawn: Tensor = draw(shape, generator)
    return drawn


def seeded(draw: Callable[[int], Tensor]) -> Callable[[int, torch.Generator], Tensor]:
    """A draw of n that takes torch's global random numbers, with a generator to seed them."""

    def sample(n: int, generator: torch.Generator) -> Tensor:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        devices = list(range(torch.cuda.device_count()))
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(seed)
            return draw(n)

    return sample
