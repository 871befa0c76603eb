"""An estimate of log Z over a box of parameters: a polynomial, its error, and its checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .box import Box, Check, at_params, together


class LogNormalizerSurface(NamedTuple):
    """log Z over a box, a function f(*params, temperature) for ``log_normalizer=``.

    Chebyshev polynomials on ``low`` to ``high`` [d] of the degrees ``powers`` [terms, d], with
    ``coefficients`` [terms] and their ``covariance``; the first of them is the constant, and its
    variance that of log Z at the middle. ``last_terms`` are the coefficients less those of a fit
    of a degree that is lower by two: what the degrees that are missing may do. Outside of the box
    log Z is infinite, so that the density is zero there: a prior should not have mass there that
    matters. ``max_error`` is the largest standard error within the box, ``reliable`` whether all
    checks were passed, ``why`` a sentence.
    """

    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]
    temperature: float
    powers: Int[Tensor, "terms d"]
    coefficients: Float[Tensor, " terms"]
    covariance: Float[Tensor, "terms terms"]
    last_terms: Float[Tensor, " terms"]
    check: Check
    reliable: bool
    why: str

    def __call__(self, *params_and_temperature: Tensor | float) -> Tensor:
        """log Z [*batch] of params [*batch] each, and last of all the temperature.

        :raises TypeError: another number of params.
        :raises ValueError: another temperature than that of the surface.
        """
        return self._value(self._box.point(params_and_temperature))

    def at(self, *params: Tensor | float) -> Callable[..., Tensor]:
        """The function of the temperature for an energy that is built from params, and takes none:
        ``EnergyDistribution(Ising.lattice(shape, j), log_normalizer=surface.at(j))``."""
        return at_params(self, params)

    def std_error(self, *params: Tensor | float) -> Tensor:
        """The standard error of log Z less that at the middle of the box, all that a posterior
        feels, of the draws and of the degree together; infinite outside."""
        point = together(params).double()
        values = basis(self._box.scaled(point), self.powers)
        difference = (values - basis(torch.zeros_like(point), self.powers))[..., 1:]
        variance = ((difference @ self.covariance[1:, 1:]) * difference).sum(-1)
        variance = variance + (difference @ self.last_terms[1:]).square()
        return torch.where(self._box.holds(point), variance.clamp(min=0).sqrt(), torch.inf)

    @property
    def max_error(self) -> float:
        """The largest standard error at a grid of points of the box."""
        return float(self.std_error(*self._box.grid().unbind(-1)).max())

    def __str__(self) -> str:
        return self._box.said(self.max_error, self.why, reliable=self.reliable)

    @property
    def _box(self) -> Box:
        return Box(self.low, self.high, self.temperature)

    def _value(self, point: Tensor) -> Tensor:
        double = point.double()
        scaled = self._box.scaled(double).clamp(-1, 1)
        value = basis(scaled, self.powers) @ self.coefficients.to(point.device)
        return torch.where(self._box.holds(double), value, torch.inf).to(point.dtype)


def basis(
    scaled: Float[Tensor, "*batch d"], powers: Int[Tensor, "terms d"]
) -> Float[Tensor, "*batch terms"]:
    """Products of Chebyshev polynomials at points within -1 and 1."""
    highest = int(powers.max())
    by_degree = [torch.ones_like(scaled), scaled]
    for _ in range(2, highest + 1):
        by_degree.append(2 * scaled * by_degree[-1] - by_degree[-2])
    table = torch.stack(by_degree[: highest + 1], -1)
    columns = [table[..., axis, powers[:, axis]] for axis in range(powers.shape[1])]
    return torch.stack(columns, -1).prod(-1)


def slopes(
    scaled: Float[Tensor, "n d"], powers: Int[Tensor, "terms d"]
) -> Float[Tensor, "n d terms"]:
    """The gradients of `basis` by the scaled coordinates."""
    return torch.func.vmap(torch.func.jacrev(lambda s: basis(s, powers)))(scaled).mT
