"""Ising spins: E(s) = -1/2 s'Js - h's, s_i = -1 or +1.

On a lattice J is one for every pair of neighbours (the ferromagnet, critical on the square at
T = 2/log(1 + sqrt 2) = 2.269); a random symmetric matrix makes a spin glass.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .couplings import DenseCouplings, LatticeCouplings
from .pairwise import PairwiseEnergy
from .states import spin


class Ising(PairwiseEnergy):
    """-1/2 s'Js - h's on spins -1 and +1.

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
        *,
        coupling: float | Tensor = 1.0,
        field: float | Tensor = 0.0,
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
