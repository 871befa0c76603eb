"""The banana: a Gaussian bent along a parabola, in the plane.

The first coordinate is Gaussian; given it, so is the second, around a parabola of the first. The
bend keeps areas, so the normaliser is a Gaussian's, and every moment is known at any temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy
from .checks import as_temperature
from .double_well import fits_event
from .gaussian import normal_noise
from .parameters import hold, positive, rounded, spread_out


class Banana(Energy):
    """(x - loc)^2/(2 scale^2) + (y - curvature x^2)^2/(2 width^2).

    Rosenbrock's function (a - x)^2 + b (y - x^2)^2 is the banana with loc = a, scale = 2^-1/2,
    curvature = 1, width = (2 b)^-1/2.

    Args:
        curvature: how strongly y follows x^2.
        loc: the centre of x.
        scale: the spread of x, positive.
        width: the spread of y across the parabola, positive.

    Raises:
        ValueError: a scale or width that is not positive; a constant that is not one number.
    """

    curvature: Tensor
    loc: Tensor
    scale: Tensor
    width: Tensor

    def __init__(
        self,
        *,
        curvature: float | Tensor = 1.0,
        loc: float | Tensor = 0.0,
        scale: float | Tensor = 1.0,
        width: float | Tensor = 0.5,
    ) -> None:
        super().__init__((2,))
        hold(
            self,
            {"scale": positive, "width": positive},
            curvature=curvature,
            loc=loc,
            scale=scale,
            width=width,
        )
        fits_event(
            torch.Size(), curvature=self.curvature, loc=self.loc, scale=self.scale, width=self.width
        )

    def forward(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        first, second = x.unbind(-1)
        along = (first - self.loc) / self.scale
        across = (second - self.curvature * first.square()) / self.width
        return 0.5 * (along.square() + across.square())

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = as_temperature(temperature).double().to(self.loc.device)
        area = 2 * math.pi * self.scale.double() * self.width.double()
        return rounded((area * value).log(), self.loc, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor:
        variance = as_temperature(temperature).to(self.loc.device) * self.scale.square()
        second = self.curvature * (self.loc.square() + variance)
        mean = torch.stack([self.loc.expand(second.shape), second], -1)
        return rounded(mean, self.loc, temperature)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = as_temperature(temperature).to(self.loc.device)
        first = value * self.scale.square()
        # Var x^2 = 4 loc^2 v + 2 v^2 for x ~ N(loc, v).
        of_square = 4 * self.loc.square() * first + 2 * first.square()
        second = value * self.width.square() + self.curvature.square() * of_square
        return rounded(torch.stack([first, second], -1), self.loc, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        root = spread_out(temperature, shape).sqrt().to(self.loc)
        along, across = normal_noise((*shape, 2), self.loc, generator).unbind(-1)
        first = self.loc + root * self.scale * along
        second = self.curvature * first.square() + root * self.width * across
        return torch.stack([first, second], -1).detach()
