"""Potts models: sites of q states, with an energy -J for each pair of equal neighbours.

E(s) = -sum over bonds of J_ij [s_i = s_j] - sum_i h_i[s_i]. Two states are an Ising model at half
the coupling; the square lattice orders at T = J/log(1 + sqrt q), abruptly for q > 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import constraints

from .base import Energy
from .couplings import Bonds, DenseCouplings, LatticeCouplings
from .double_well import fits_event
from .pairwise import hold_like


class Potts(Energy):
    """-sum over bonds of J_ij [s_i = s_j] - sum_i h_i[s_i] on the states 0 ... q - 1.

    Args:
        couplings: J, a symmetric matrix [n, n] with a zero diagonal, or the couplings of a lattice.
        num_states: q, at least 2.
        fields: h, a number or a tensor that broadcasts to [*event, q].

    Raises:
        TypeError: q no integer; not real numbers or tensors.
        ValueError: q < 2; couplings that are not symmetric, have a diagonal or are not finite;
            fields of another shape.
    """

    fields: Tensor

    def __init__(
        self,
        couplings: Tensor | LatticeCouplings,
        num_states: int,
        *,
        fields: float | Tensor = 0.0,
    ) -> None:
        if isinstance(num_states, bool) or not isinstance(num_states, int):
            raise TypeError(f"expected num_states to be an integer, got {num_states!r}.")
        if num_states < 2:
            raise ValueError(
                f"expected num_states of at least 2, got {num_states}. A site of one state has "
                "nothing to choose."
            )
        made = couplings if isinstance(couplings, LatticeCouplings) else DenseCouplings(couplings)
        super().__init__(made.event_shape, support=constraints.integer_interval(0, num_states - 1))
        self.couplings = made
        self.num_states = num_states
        hold_like(self, made, fields=fields)
        fits_event(torch.Size((*self.event_shape, num_states)), fields=self.fields)

    @classmethod
    def lattice(
        cls,
        shape: Sequence[int],
        num_states: int,
        *,
        coupling: float | Tensor = 1.0,
        fields: float | Tensor = 0.0,
        periodic: bool = True,
    ) -> Potts:
        """Neighbours on a hypercubic lattice; the event shape is the lattice's.

        Args:
            shape: the lengths of the lattice; `(n,)` is a ring.
            num_states: q.
            coupling: J, a number, one for each axis [d], or one for each bond [d, *shape] (from a
                site to the next along each axis).
            fields: h, a number or a tensor that broadcasts to [*shape, q].
            periodic: whether the last site of each row is bound to the first. Each pair of
                neighbours is bound once, also along a length of 2.
        """
        made = LatticeCouplings(shape, coupling, periodic=periodic)
        return cls(made, num_states, fields=fields)

    def _indicators(self, x: Tensor) -> Float[Tensor, "n q sites"]:
        """[x_i = k] as numbers."""
        states = torch.arange(self.num_states, device=x.device).unsqueeze(-1)
        dtype = torch.promote_types(x.dtype, self.fields.dtype)
        return (x.flatten(1).unsqueeze(1) == states).to(dtype)

    def _fields(self) -> Float[Tensor, "q sites"]:
        every = self.fields.expand(*self.event_shape, self.num_states)
        return every.reshape(-1, self.num_states).mT

    def forward(self, x: Tensor) -> Float[Tensor, " n"]:
        here = self._indicators(x)
        return -(here * (0.5 * self.couplings(here) + self._fields())).sum((1, 2))

    def energy_changes(self, x: Tensor) -> Float[Tensor, "n ... q"]:
        here = self._indicators(x)
        local = self.couplings(here) + self._fields()
        now = (here * local).sum(1, keepdim=True)
        return (now - local).mT.unflatten(1, self.event_shape)

    @property
    def interactions(self) -> Int[Tensor, "m 2"]:
        return self.couplings.pairs()

    @property
    def bonds(self) -> Bonds:
        """The terms of the energy, one a pair and q a site."""
        return Bonds(self.couplings.pairs(), self.couplings.strengths(), self._fields().mT)
