"""The double well: two minima, a barrier between them, and a tilt that favours one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy
from .checks import as_temperature
from .parameters import hold, over_event, positive, rounded, spread_out
from .quartic_site import SiteMoments, sample_sites, site_moments


class DoubleWell(Energy):
    """sum_i barrier ((x_i/minimum)^2 - 1)^2 + tilt x_i: a double well in every coordinate.

    Without tilt the minima are at +-minimum, 2^dim of them, and the barrier between two is
    `barrier`. The normaliser and moments come from one-dimensional quadrature in float64 (a Bessel
    function without tilt), exact to rounding.

    Args:
        dim: the number of coordinates; the event shape is (dim,).
        barrier: the height of the barrier, positive, a number or [dim].
        minimum: the distance of the minima from 0, positive, a number or [dim].
        tilt: the slope added to the wells, a number or [dim].

    Raises:
        TypeError: dim is not an integer.
        ValueError: dim below 1; a barrier or minimum that is not positive.
    """

    barrier: Tensor
    minimum: Tensor
    tilt: Tensor

    def __init__(
        self,
        dim: int = 1,
        *,
        barrier: float | Tensor = 1.0,
        minimum: float | Tensor = 1.0,
        tilt: float | Tensor = 0.0,
    ) -> None:
        super().__init__((checked_dim(dim, least=1),))
        hold(
            self,
            {"barrier": positive, "minimum": positive},
            barrier=barrier,
            minimum=minimum,
            tilt=tilt,
        )
        fits_event(self.event_shape, barrier=self.barrier, minimum=self.minimum, tilt=self.tilt)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        well = self.barrier * ((x / self.minimum).square() - 1).square()
        return (well + self.tilt * x).sum(-1)

    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """(h, r, u) of each coordinate: the double well less its constant, the barrier."""
        h, barrier, minimum = (
            v.double().expand(self.event_shape) for v in (self.tilt, self.barrier, self.minimum)
        )
        return h, -4 * barrier / minimum.square(), 4 * barrier / minimum.pow(4)

    def _sites(self, temperature: float | Tensor) -> SiteMoments:
        value = over_event(as_temperature(temperature).to(self.tilt.device), self.event_shape)
        return site_moments(*self._coefficients(), value)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = over_event(as_temperature(temperature), self.event_shape).to(self.tilt.device)
        log_z = self._sites(temperature).log_z - self.barrier.double() / value
        return rounded(log_z.sum(-1), self.tilt, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor:
        return rounded(self._sites(temperature).mean, self.tilt, temperature)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor:
        return rounded(self._sites(temperature).variance, self.tilt, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Exact draws by rejection; None when the wells are so deep that it would take ages."""
        value = spread_out(temperature, shape).to(self.tilt.device)
        h, r, u = (v.detach() for v in self._coefficients())
        draws = sample_sites(h, r, u, temperature=value, generator=generator)
        return None if draws is None else draws.to(self.tilt.dtype)


def checked_dim(dim: object, *, least: int, name: str = "dim") -> int:
    """A number of dimensions, or of other things, as an integer of at least `least`.

    Raises:
        TypeError: not an integer.
        ValueError: too small.
    """
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"expected {name} to be an integer, got {dim!r}.")
    if dim < least:
        raise ValueError(f"expected {name} to be at least {least}, got {dim}.")
    return dim


def fits_event(event: torch.Size, **values: Tensor) -> None:
    """Refuse constants that do not broadcast to an event.

    Raises:
        ValueError: naming the first that does not.
    """
    for name, value in values.items():
        trailing = zip(reversed(value.shape), reversed(event), strict=False)
        if value.dim() > len(event) or any(a not in (1, b) for a, b in trailing):
            raise ValueError(
                f"expected {name} to broadcast to the event shape {tuple(event)}, got shape "
                f"{tuple(value.shape)}."
            )
