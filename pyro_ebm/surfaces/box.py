"""What the two kinds of surface share: a box, a temperature, and a sentence about what holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Check(NamedTuple):
    """log Z at points that had no part in the surface, by another integration from independent
    draws: of ``params`` [n, d] the ``surface``, the ``independent`` estimate and its ``error``."""

    params: Float[Tensor, "n d"]
    surface: Float[Tensor, " n"]
    independent: Float[Tensor, " n"]
    error: Float[Tensor, " n"]


class Box(NamedTuple):
    """Params from ``low`` [d] to ``high`` [d], at one ``temperature``."""

    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]
    temperature: float

    @property
    def middle(self) -> Float[Tensor, " d"]:
        """Halfway between low and high."""
        return (self.low + self.high) / 2

    def point(
        self, params_and_temperature: tuple[Tensor | float, ...]
    ) -> Float[Tensor, "*batch d"]:
        """The params of a call f(*params, temperature), together.

        :raises TypeError: another number of params.
        :raises ValueError: another temperature than that of the surface.
        """
        if len(params_and_temperature) != len(self.low) + 1:
            raise TypeError(
                f"expected {len(self.low)} params and a temperature, got "
                f"{len(params_and_temperature)} arguments."
            )
        *params, temperature = params_and_temperature
        if not self._is_own(temperature):
            raise ValueError(
                f"expected the temperature {self.temperature:.6g}, at which this surface was "
                f"estimated, got {temperature}. Estimate another, or write E/T as the energy."
            )
        return together(params)

    def scaled(self, point: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Points in units of half the sides, from the middle."""
        low, high = self.low.to(point.device), self.high.to(point.device)
        return (2 * point - low - high) / (high - low)

    def holds(self, point: Float[Tensor, "*batch d"]) -> Bool[Tensor, "*batch"]:
        """Whether points lie within."""
        return (self.scaled(point).abs() <= 1 + 1e-9).all(-1)

    def grid(self) -> Float[Tensor, "n d"]:
        """Points all over the box, its corners among them."""
        number = {1: 33, 2: 17, 3: 7}.get(len(self.low), 5)
        steps = torch.linspace(0, 1, number, dtype=torch.float64)
        places = torch.cartesian_prod(*[steps] * len(self.low)).reshape(-1, len(self.low))
        return self.low + places * (self.high - self.low)

    def said(self, max_error: float, why: str, *, reliable: bool) -> str:
        """A sentence for people."""
        sides = " x ".join(
            f"[{float(a):.3g}, {float(b):.3g}]" for a, b in zip(self.low, self.high, strict=True)
        )
        verdict = "reliable" if reliable else "not reliable"
        return f"log Z over {sides}, within {max_error:.2g}, {verdict}: {why}"

    def _is_own(self, temperature: Tensor | float) -> bool:
        try:
            values = torch.as_tensor(temperature).detach().double()
            return bool(((values - self.temperature).abs() <= 1e-6 * self.temperature).all())
        except RuntimeError:
            # A value that is batched by vmap depends on a latent site.
            return False


def at_params(
    surface: Callable[..., Tensor], params: tuple[Tensor | float, ...]
) -> Callable[..., Tensor]:
    """f(temperature) of f(*params, temperature)."""
    return lambda temperature: surface(*params, temperature)


def together(params: object) -> Float[Tensor, "*batch d"]:
    """Params that broadcast with one another, on a last axis; whole numbers become real."""
    values = [torch.as_tensor(param) for param in params]  # pyright: ignore[reportGeneralTypeIssues]
    dtype = torch.get_default_dtype()
    values = [value if value.is_floating_point() else value.to(dtype) for value in values]
    return torch.stack(torch.broadcast_tensors(*values), -1)
