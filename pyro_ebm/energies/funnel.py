"""Neal's funnel: one coordinate sets the scale of all the others.

v is Gaussian, and given v the rest are N(0, e^v). The scale changes by orders of magnitude along v,
so no one step size is right: a classical trial for samplers.

Source: Neal (2003), Slice sampling, section 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy
from .checks import as_temperature
from .double_well import checked_dim, fits_event
from .gaussian import normal_noise
from .parameters import hold, positive, rounded, spread_out


class Funnel(Energy):
    """v^2/(2 scale^2) + (d - 1) v/2 + exp(-v)/2 sum_i x_i^2, with v the first of d coordinates.

    Constants are left out, so log Z = log(2 pi scale^2)/2 + (d - 1)/2 log(2 pi) at T = 1. At any
    temperature x_i given v is N(0, T e^v), and v is N(k scale^2 T, scale^2 T) with
    k = (d - 1)(1 - 1/T)/2.

    Args:
        dim: d, v included, at least 2.
        scale: the standard deviation of v, positive.

    Raises:
        TypeError: dim is not an integer.
        ValueError: dim below 2; a scale that is not positive, or not one number.
    """

    scale: Tensor

    def __init__(self, dim: int = 10, *, scale: float | Tensor = 3.0) -> None:
        super().__init__((checked_dim(dim, least=2),))
        hold(self, {"scale": positive}, scale=scale)
        fits_event(torch.Size(), scale=self.scale)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        v, rest = x[:, 0], x[:, 1:]
        prior = 0.5 * (v / self.scale).square() + 0.5 * rest.shape[-1] * v
        # exp(-v/2) x before squaring: exp(-v) alone overflows sooner.
        return prior + 0.5 * (torch.exp(-0.5 * v).unsqueeze(-1) * rest).square().sum(-1)

    def _neck(self, temperature: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(T, k, mean of v, variance of v) in float64."""
        value = as_temperature(temperature).double().to(self.scale.device)
        k = 0.5 * (self.event_shape[0] - 1) * (1 - 1 / value)
        variance = self.scale.double().square() * value
        return value, k, k * variance, variance

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        value, k, _, variance = self._neck(temperature)
        rest = 0.5 * (self.event_shape[0] - 1) * (2 * math.pi * value).log()
        log_z = rest + 0.5 * (2 * math.pi * variance).log() + 0.5 * k.square() * variance
        return rounded(log_z, self.scale, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor:
        _, _, mean, _ = self._neck(temperature)
        rest = torch.zeros_like(mean).unsqueeze(-1).expand(*mean.shape, self.event_shape[0] - 1)
        return rounded(torch.cat([mean.unsqueeze(-1), rest], -1), self.scale, temperature)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor:
        value, _, mean, variance = self._neck(temperature)
        spread = (value * (mean + 0.5 * variance).exp()).unsqueeze(-1)
        rest = spread.expand(*mean.shape, self.event_shape[0] - 1)
        return rounded(torch.cat([variance.unsqueeze(-1), rest], -1), self.scale, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        value, _, mean, variance = self._neck(spread_out(temperature, shape))
        noise = normal_noise((*shape, *self.event_shape), self.scale, generator)
        v = (mean + variance.sqrt() * noise[..., 0]).unsqueeze(-1)
        rest = value.sqrt().unsqueeze(-1) * torch.exp(0.5 * v) * noise[..., 1:]
        return torch.cat([v, rest], -1).detach().to(noise)
