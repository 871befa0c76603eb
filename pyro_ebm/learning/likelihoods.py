"""What a decoder's numbers say of data: a distribution for every entry of a row.

Given the latents, entries are independent. So a row of which some entries are missing is scored by
the others alone, and missing ones are filled in by what its latents say.
"""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution


class GaussianLikelihood(nn.Module):
    """x = decoder(z) + scale * noise, for every entry.

    :param scale: the standard deviation, positive; where learning starts, unless ``learned`` is
        False.
    :raises ValueError: a scale that is not positive.
    """

    def __init__(self, scale: float = 0.3, *, learned: bool = True) -> None:
        super().__init__()
        if not 0.0 < scale < math.inf:
            raise ValueError(f"scale must be a positive number, got {scale}.")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learned)

    def forward(self, decoded: Tensor) -> Distribution:
        return dist.Normal(decoded, self.log_scale.exp())


class BernoulliLikelihood(nn.Module):
    """x = 1 with probability sigmoid(decoder(z)), else 0, for every entry."""

    def forward(self, decoded: Tensor) -> Distribution:
        return dist.Bernoulli(logits=decoded)
