"""Quartic energies, site by site: h x + r x^2/2 + u x^4/4.

The zero-dimensional phi^4 theory when every coefficient is one number. With one coefficient for
each coordinate they also make many-well benchmarks: u = 4, r = -12 in one coordinate and u = 0,
r = 1 in the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy
from .checks import as_temperature, values_visible
from .parameters import (
    broadcast_shape,
    event_sum,
    hold,
    nonnegative,
    over_event,
    rounded,
    spread_out,
)
from .quartic_site import SiteMoments, sample_sites, site_moments


class Quartic(Energy):
    """sum_i tilt_i x_i + quadratic_i x_i^2/2 + quartic_i x_i^4/4, coordinates independent.

    The normaliser and moments come from one-dimensional quadrature in float64 (a Bessel function
    without tilt), exact to rounding.

    Args:
        quadratic: r, of either sign.
        quartic: u, positive, or 0 where r is positive.
        tilt: h; the three broadcast to the event's shape.

    Raises:
        ValueError: u negative, or 0 where r is not positive; shapes that do not broadcast.
    """

    quadratic: Tensor
    quartic: Tensor
    tilt: Tensor

    def __init__(
        self,
        quadratic: float | Tensor = 1.0,
        quartic: float | Tensor = 1.0,
        tilt: float | Tensor = 0.0,
    ) -> None:
        values = {"quadratic": quadratic, "quartic": quartic, "tilt": tilt}
        shapes = {name: torch.as_tensor(value) for name, value in values.items()}
        super().__init__(broadcast_shape(**shapes))
        hold(self, {"quartic": nonnegative}, quadratic=quadratic, quartic=quartic, tilt=tilt)
        check_confining(self.quadratic, self.quartic)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        return quartic_energy(x, self.quadratic, self.quartic, tilt=self.tilt)

    def _sites(self, temperature: float | Tensor) -> SiteMoments:
        value = over_event(as_temperature(temperature).to(self.tilt.device), self.event_shape)
        return site_moments(*self._coefficients(), value)

    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        h, r, u = (v.expand(self.event_shape) for v in (self.tilt, self.quadratic, self.quartic))
        return h, r, u

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        log_z = self._sites(temperature).log_z
        return rounded(event_sum(log_z, self.event_shape), self.tilt, temperature)

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


def quartic_energy(x: Tensor, quadratic: Tensor, quartic: Tensor, *, tilt: Tensor) -> Tensor:
    """sum over the event of h x + r x^2/2 + u x^4/4, [N, *event] to [N]."""
    square = x.square()
    sites = x * tilt + square * (0.5 * quadratic + 0.25 * quartic * square)
    return event_sum(sites, x.shape[1:])


def check_confining(quadratic: Tensor, quartic: Tensor) -> None:
    """Refuse coefficients at which exp(-E) has no integral.

    Raises:
        ValueError: u = 0 where r is not positive.
    """
    loose = (quartic == 0) & (quadratic <= 0)
    if values_visible() and bool(loose.any()):
        raise ValueError(
            "expected quartic > 0, or quadratic > 0 where quartic is 0, got a coordinate that "
            f"nothing confines: quadratic {quadratic.detach()}, quartic {quartic.detach()}."
        )
