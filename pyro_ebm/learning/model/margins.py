"""Margins: how continuous columns become coordinates near a standard normal, and back.

Plain margins subtract a mean and divide by a standard deviation. Normal margins go through the
distribution function of each column, smoothed by kernels,

    z = Phi^-1(F(x)),   dz/dx = f(x) / phi(z),

so that skewed columns, and those at a border, are bell-shaped to whatever comes after. Both are
monotone and smooth; densities in the units of the data take the logarithm of the slope along. A
wide normal has a hundredth of F, so that values far outside of the data are ordered too.

Source: Silverman (1986), Density estimation for statistics and data analysis; Liu, Lafferty,
Wasserman (2009), The nonparanormal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Kernels of a column at most, and knots of the table that the inverse begins from.
_KERNELS, _KNOTS = 400, 1024
_WIDE_SHARE, _WIDE = 0.01, 3.0
# What the middle half of a normal spans, in standard deviations; and the least that the middle half
# of a column is taken to have of its standard deviation.
_MIDDLE_HALF, _NARROWEST = 1.349, 0.1
# Beyond this many standard deviations a double cannot tell.
_FURTHEST = 37.0
_NEWTON, _EXACT = 6, 1e-13
_ROWS = 1024


class PlainMargins(NamedTuple):
    """z = (x - center) / scale, both [columns]."""

    center: Tensor
    scale: Tensor

    def forward(self, x: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
        """Coordinates of values; NaN stays NaN."""
        return (x - self.center) / self.scale

    def inverse(self, z: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
        """Values of coordinates."""
        return z * self.scale + self.center

    def log_slope(self, x: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
        """log dz/dx."""
        return (-self.scale.log()).expand(x.shape)


class NormalMargins(NamedTuple):
    """z = Phi^-1(F(x)): kernels of ``width`` [columns] at ``points`` [kernels, columns], and a wide
    normal at ``center`` with ``wide`` [columns]; ``knots`` [knots, columns] have coordinates
    ``heights``."""

    points: Tensor
    width: Tensor
    center: Tensor
    wide: Tensor
    knots: Tensor
    heights: Tensor

    def forward(self, x: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
        """Coordinates of values; NaN stays NaN."""
        return torch.cat([self._moved(part)[0] for part in x.split(_ROWS)])

    def log_slope(self, x: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
        """log dz/dx."""
        return torch.cat([self._moved(part)[1] for part in x.split(_ROWS)])

    def inverse(self, z: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
        """Values of coordinates, by Newton's method within the knots around each."""
        return torch.cat([self._solved(part) for part in z.split(_ROWS)])

    def _moved(self, x: Tensor) -> tuple[Tensor, Tensor]:
        apart = (x[:, None] - self.points) / self.width
        far = (x - self.center) / self.wide
        small = math.log1p(-_WIDE_SHARE), math.log(_WIDE_SHARE)

        # Where all kernels are nothing the wide normal is all there is, and is known by logarithms.
        def both(kernels: Tensor, wide: Tensor) -> Tensor:
            return torch.logaddexp(kernels.mean(1).log() + small[0], wide + small[1])

        root = apart * math.sqrt(0.5)
        below = both(0.5 * (-root).erfc(), torch.special.log_ndtr(far))
        above = both(0.5 * root.erfc(), torch.special.log_ndtr(-far))
        z = torch.where(below < above, _quantile(below), -_quantile(above))
        heights = (-root.square()).exp() / (self.width * math.sqrt(2.0 * math.pi))
        density = both(heights, _log_phi(far) - self.wide.log())
        return z, density - _log_phi(z)

    def _solved(self, z: Tensor) -> Tensor:
        columns = self.heights.T.contiguous()
        place = torch.searchsorted(columns, z.T.contiguous()).clamp(1, _KNOTS - 1).T
        low, high = self.knots.gather(0, place - 1), self.knots.gather(0, place)
        at_low, at_high = self.heights.gather(0, place - 1), self.heights.gather(0, place)
        share = ((z - at_low) / (at_high - at_low).clamp(min=1e-12)).clamp(0.0, 1.0)
        x = low + share * (high - low)
        for _ in range(_NEWTON):
            found, log_slope = self._moved(x)
            if bool(((found - z).abs() <= _EXACT * (1.0 + z.abs())).all()):
                break
            # What lies on the other side of a value is a new border.
            low, high = torch.where(found <= z, x, low), torch.where(found >= z, x, high)
            step = x - (found - z) * (-log_slope).exp()
            inside = (step >= low) & (step <= high)
            x = torch.where(inside, step, 0.5 * (low + high))
        return x


Margins = PlainMargins | NormalMargins


def plain_margins(x: Float[Tensor, "n columns"]) -> PlainMargins:
    """Mean and standard deviation of each column, NaN left out."""
    center = x.nanmean(0)
    scale = (x - center).square().nanmean(0).sqrt()
    return PlainMargins(center, torch.where(scale > 1e-12, scale, 1.0))


def normal_margins(x: Float[Tensor, "n columns"]) -> NormalMargins:
    """Kernels at the values of each column, or at quantiles of many, NaN left out."""
    plain = plain_margins(x)
    number = max(2, min(_KERNELS, int((~x.isnan()).sum(0).min())))
    levels = (torch.arange(number, dtype=x.dtype, device=x.device) + 0.5) / number
    points = x.nanquantile(levels, 0)
    quarters = x.nanquantile(torch.tensor([0.25, 0.75]).to(x), 0)
    middle = (quarters[1] - quarters[0]) / _MIDDLE_HALF
    spread = middle.clamp(_NARROWEST * plain.scale, plain.scale)
    width = 0.9 * spread * number ** (-0.2)
    wide = _WIDE * plain.scale
    # Knots where coordinates are even, in the middle, and evenly spaced out to the furthest.
    reach = torch.linspace(-1.0, 1.0, _KNOTS, dtype=x.dtype, device=x.device)
    knots = plain.center + (reach.sinh() * 0.2 + reach.pow(5) * _FURTHEST)[:, None] * wide
    begun = NormalMargins(points, width, plain.center, wide, knots, knots)
    return begun._replace(heights=begun.forward(knots).cummax(0).values)


def _log_phi(z: Tensor) -> Tensor:
    return -0.5 * z.square() - 0.5 * math.log(2.0 * math.pi)


def _quantile(log_probability: Tensor) -> Tensor:
    """Phi^-1 of exp of it, for probabilities of at most a half and down to nothing."""
    z = torch.special.ndtri(log_probability.exp().clamp(min=1e-300))
    for _ in range(2):  # log_ndtr is exact where ndtri is rounded
        error = torch.special.log_ndtr(z) - log_probability
        z = z - error * (torch.special.log_ndtr(z) - _log_phi(z)).exp()
    return z.clamp(min=-_FURTHEST)
