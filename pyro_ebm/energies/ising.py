"""Ising spins: E(s) = -1/2 s'Js - h's, s_i = -1 or +1.

On a lattice J is one for every pair of neighbours (the ferromagnet, critical on the square at
T = 2/log(1 + sqrt 2) = 2.269); a random symmetric matrix makes a spin glass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import as_temperature
from .couplings import DenseCouplings, LatticeCouplings
from .ising_closed_forms import ring_log_z, torus_log_z
from .numbers_seen import holds_at_all
from .pairwise import PairwiseEnergy
from .states import spin
from .transfer import is_cheap


class Ising(PairwiseEnergy):
    """-1/2 s'Js - h's on spins -1 and +1.

    Of a wide torus without fields log Z is unknown where J < 0 along an odd length; inside vmap and
    traces, where the sign of a tensor cannot be looked at, it is NaN then.

    Args:
        couplings: J, a symmetric matrix [n, n] with a zero diagonal, or the couplings of a lattice.
        fields: h, a number or one for each spin.

    Raises:
        TypeError: not real numbers or tensors.
        ValueError: couplings that are not symmetric, have a diagonal or are not finite; fields of
            another shape.
    """

    fields: Tensor

    def __init__(self, couplings: Tensor | LatticeCouplings, fields: float | Tensor = 0.0) -> None:
        made = couplings if isinstance(couplings, LatticeCouplings) else DenseCouplings(couplings)
        super().__init__(made, fields, support=spin)

    @classmethod
    def lattice(
        cls,
        shape: Sequence[int],
        coupling: float | Tensor = 1.0,
        field: float | Tensor = 0.0,
        *,
        periodic: bool = True,
    ) -> Ising:
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

    def _log_z(self, temperature: float | Tensor) -> Tensor | None:
        known = self._closed_form(as_temperature(temperature).double().to(self.fields.device))
        return super()._log_z(temperature) if known is None else known

    def _closed_form(self, temperature: Tensor) -> Tensor | None:
        """log Z of a ring with one field, and of a torus without any (Kaufman)."""
        lattice = self.couplings
        if not isinstance(lattice, LatticeCouplings) or not lattice.periodic:
            return None
        shape = lattice.event_shape
        if min(shape) < 3 or lattice.strength.dim() > 1:
            return None
        strengths = lattice.strength.double().expand(len(shape))
        if len(shape) == 1 and self.fields.numel() == 1:
            field = self.fields.double().reshape(())
            return ring_log_z(strengths[0] / temperature, field / temperature, shape[0])
        if len(shape) != 2 or not holds_at_all(lambda fields: fields == 0, self.fields):
            return None
        even = torch.tensor([length % 2 == 0 for length in shape], device=strengths.device)
        # Turning every other row upside down changes the sign of J across an even length.
        legal = even | (strengths >= 0)
        is_legal = holds_at_all(lambda each: each, legal)
        if is_legal is False or (is_legal is None and is_cheap(lattice, 2)):
            return None
        first, second = (strength / temperature for strength in strengths.abs().unbind(0))
        log_z = torus_log_z(first, second, (shape[0], shape[1]))
        # Only where signs cannot be looked at are there others.
        return torch.where(legal.all(), log_z, math.nan)
