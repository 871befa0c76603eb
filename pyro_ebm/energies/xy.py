"""The XY model: planar rotors, E = -sum over bonds of J_ij cos(t_i - t_j) - sum_i h_i cos t_i.

Angles live on (-pi, pi) at each site; the ends of the interval are one point of the circle, and the
density does not vanish there. In two dimensions there is no order, but vortices unbind at the
Kosterlitz-Thouless transition, T = 0.893 J on the square lattice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.shapes import joint_shape

from .base import Energy
from .checks import as_temperature
from .couplings import DenseCouplings, LatticeCouplings
from .double_well import fits_event
from .numbers_seen import holds_at_all
from .pairwise import hold_like
from .parameters import event_sum, over_event, rounded
from .rotors import chain_log_z, ring_log_z


class XY(Energy):
    """-sum over bonds of J_ij cos(t_i - t_j) - sum_i h_i cos t_i on angles from -pi to pi.

    Without fields log Z is known of rings and chains of one coupling, and the moments of a single
    angle are those of the uniform distribution.

    Args:
        couplings: J, a symmetric matrix [n, n] with a zero diagonal, or the couplings of a lattice.
        fields: h, a number or one for each rotor.

    Raises:
        TypeError: not real numbers or tensors.
        ValueError: couplings that are not symmetric, have a diagonal or are not finite; fields of
            another shape.
    """

    fields: Tensor

    def __init__(self, couplings: Tensor | LatticeCouplings, fields: float | Tensor = 0.0) -> None:
        made = couplings if isinstance(couplings, LatticeCouplings) else DenseCouplings(couplings)
        super().__init__(made.event_shape, support=constraints.interval(-math.pi, math.pi))
        self.couplings = made
        hold_like(self, made, fields=fields)
        fits_event(self.event_shape, fields=self.fields)

    @classmethod
    def lattice(
        cls,
        shape: Sequence[int],
        coupling: float | Tensor = 1.0,
        field: float | Tensor = 0.0,
        *,
        periodic: bool = True,
    ) -> XY:
        """Neighbours on a hypercubic lattice; the event shape is the lattice's.

        Args:
            shape: the lengths of the lattice; `(n,)` is a ring.
            coupling: J, a number, one for each axis [d], or one for each bond [d, *shape] (from a
                site to the next along each axis).
            field: h, a number or one for each site.
            periodic: whether the last site of each row is bound to the first. Each pair of
                neighbours is bound once, also along a length of 2.
        """
        return cls(LatticeCouplings(shape, coupling, periodic=periodic), field)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        cos, sin = x.cos(), x.sin()
        flat = torch.stack([cos, sin], 1).flatten(2)
        bound = 0.5 * (flat * self.couplings(flat)).sum((1, 2))
        return -bound - event_sum(self.fields * cos, self.event_shape)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        lattice = self.couplings
        value = as_temperature(temperature).double().to(self.fields.device)
        if not isinstance(lattice, LatticeCouplings) or not self._turns():
            return None
        if len(lattice.event_shape) != 1 or lattice.strength.numel() != 1:
            return None
        length = lattice.event_shape[0]
        coupling = lattice.strength.double().reshape(()) / value
        closed = lattice.periodic and length > 2
        log_z = (ring_log_z if closed else chain_log_z)(coupling, length)
        return rounded(log_z, self.fields, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._uniform(temperature, 0.0)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._uniform(temperature, math.pi**2 / 3)

    def _uniform(self, temperature: float | Tensor, figure: float) -> Tensor | None:
        if not self._turns():
            return None
        value = over_event(as_temperature(temperature), self.event_shape).to(self.fields.device)
        every = torch.full_like(value.double(), figure).expand(*value.shape)
        every = every.expand(joint_shape(value.shape, self.event_shape))
        return rounded(every, self.fields, temperature)

    def _turns(self) -> bool:
        """Whether turning all rotors together changes nothing: fields that move may be any."""
        return bool(holds_at_all(lambda fields: fields == 0, self.fields))
