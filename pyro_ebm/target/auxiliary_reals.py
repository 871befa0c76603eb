"""Other continuous data at an unnormalised site, in unconstrained coordinates.

With x = T(y), T the bijection from an unconstrained space onto the support, data have the density

    log f(y; theta) = -E(T(y); theta) / T + log |det T'(y)|

over all y. Its support does not move with theta, so that T is fixed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from .layout import bijection
from .observed_energy import ObservedEnergy
from .target import Target


class AuxiliaryReals(ObservedEnergy):
    """One unnormalised observed site of continuous data.

    :param target: a frozen model whose log density leaves out the log Z of the site.
    :raises ValueError: a support without a bijection; data on its border.
    """

    def __init__(self, target: Target, name: str) -> None:
        super().__init__(target, name)
        self._transform: Any = bijection(self.first.support, name)
        unconstrained = self._transform.inv(self.value)
        self._shape = unconstrained.shape
        self.observed = unconstrained.reshape(-1).to(target.dtype)
        if not bool(self.observed.isfinite().all()):
            raise ValueError(
                f"The data at {name!r} lie on the border of their support ({self.first.support}), "
                "where no chain can begin. Move them into it, or widen the support."
            )

    def at(self, position: Tensor) -> RealDensity:
        """log f(.; theta) of one chain, at its position [dim]."""
        return RealDensity(self, self.distribution_at(position))

    def values_and_volumes(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Data [*batch, *event] of coordinates y [dim], and log |det T'(y)| [*batch]."""
        y = y.reshape(self._shape).to(self.value)
        values = self._transform(y)
        return values, self._transform.log_abs_det_jacobian(y, values)


class RealDensity(NamedTuple):
    """log f(y; theta) as a function of coordinates y [dim], at the theta that ``fn`` has."""

    site: AuxiliaryReals
    fn: Any

    def log_factor(self, y: Tensor) -> Tensor:
        """log f of all data."""
        return self.by_row(y).sum()

    def by_row(self, y: Tensor) -> Tensor:
        """log f of every event [rows]."""
        values, volumes = self.site.values_and_volumes(y)
        return (self.fn.unnormalized_log_prob(values) + volumes).reshape(self.site.rows).to(y)
