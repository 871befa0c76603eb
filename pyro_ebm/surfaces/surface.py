"""An estimate of log Z over a box of parameters: a polynomial, its error, and its checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Check(NamedTuple):
    """log Z at points that had no part in the surface, by another integration from independent
    draws: of ``params`` [n, d] the ``surface``, the ``independent`` estimate and its ``error``."""

    params: Float[Tensor, "n d"]
    surface: Float[Tensor, " n"]
    independent: Float[Tensor, " n"]
    error: Float[Tensor, " n"]


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
        if len(params_and_temperature) != len(self.low) + 1:
            raise TypeError(
                f"expected {len(self.low)} params and a temperature, got "
                f"{len(params_and_temperature)} arguments."
            )
        *params, temperature = params_and_temperature
        if isinstance(temperature, Tensor) or float(temperature) != self.temperature:
            raise ValueError(
                f"expected the temperature {self.temperature:.6g}, at which this surface was "
                f"estimated, got {temperature}. Estimate another, or write E/T as the energy."
            )
        return self._value(torch.stack(_broadcast(params), -1))

    def at(self, *params: Tensor | float) -> Callable[..., Tensor]:
        """The function of the temperature for an energy that is built from params, and takes none:
        ``EnergyDistribution(Ising.lattice(shape, j), log_normalizer=surface.at(j))``."""
        return lambda temperature: self(*params, temperature)

    def std_error(self, *params: Tensor | float) -> Tensor:
        """The standard error of log Z less that at the middle of the box, all that a posterior
        feels, of the draws and of the degree together; infinite outside."""
        point = torch.stack(_broadcast(params), -1).double()
        values = basis(self._scaled(point), self.powers)
        difference = (values - basis(torch.zeros_like(point), self.powers))[..., 1:]
        variance = ((difference @ self.covariance[1:, 1:]) * difference).sum(-1)
        variance = variance + (difference @ self.last_terms[1:]).square()
        return torch.where(self._inside(point), variance.clamp(min=0).sqrt(), torch.inf)

    @property
    def max_error(self) -> float:
        """The largest standard error at a grid of points of the box."""
        number = 33 if len(self.low) == 1 else 9
        steps = torch.linspace(0, 1, number, dtype=torch.float64)
        grid = torch.cartesian_prod(*[steps] * len(self.low)).reshape(-1, len(self.low))
        points = self.low + grid * (self.high - self.low)
        return float(self.std_error(*points.unbind(-1)).max())

    def __str__(self) -> str:
        box = " x ".join(
            f"[{float(a):.3g}, {float(b):.3g}]" for a, b in zip(self.low, self.high, strict=True)
        )
        said = "reliable" if self.reliable else "not reliable"
        return f"log Z over {box}, within {self.max_error:.2g}, {said}: {self.why}"

    def _scaled(self, point: Tensor) -> Tensor:
        low, high = self.low.to(point.device), self.high.to(point.device)
        return (2 * point - low - high) / (high - low)

    def _inside(self, point: Tensor) -> Tensor:
        return (self._scaled(point).abs() <= 1 + 1e-9).all(-1)

    def _value(self, point: Tensor) -> Tensor:
        double = point.double()
        scaled = self._scaled(double).clamp(-1, 1)
        value = basis(scaled, self.powers) @ self.coefficients.to(point.device)
        return torch.where(self._inside(double), value, torch.inf).to(point.dtype)


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


def _broadcast(params: object) -> list[Tensor]:
    values = [torch.as_tensor(param) for param in params]  # pyright: ignore[reportGeneralTypeIssues]
    dtype = torch.get_default_dtype()
    values = [value if value.is_floating_point() else value.to(dtype) for value in values]
    return list(torch.broadcast_tensors(*values))
