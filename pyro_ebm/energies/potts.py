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
from .checks import as_temperature
from .couplings import Bonds, DenseCouplings, LatticeCouplings
from .double_well import checked_dim, fits_event
from .enumeration import listed_log_z, listed_sample
from .pairwise import hold_like
from .parameters import rounded
from .transfer import is_cheap, transfer_log_z


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
        num_states: object,
        *,
        fields: float | Tensor = 0.0,
    ) -> None:
        count = checked_dim(num_states, least=2, name="num_states")
        made = couplings if isinstance(couplings, LatticeCouplings) else DenseCouplings(couplings)
        super().__init__(made.event_shape, support=constraints.integer_interval(0, count - 1))
        self.couplings = made
        self.num_states = count
        hold_like(self, made, fields=fields)
        fits_event(torch.Size((*self.event_shape, count)), fields=self.fields)

    @classmethod
    def lattice(
        cls,
        shape: Sequence[int],
        num_states: object,
        coupling: float | Tensor = 1.0,
        *,
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

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """In closed form without couplings, by transfer matrices on narrow lattices, by listing
        up to 2^12 configurations; else None."""
        value = as_temperature(temperature).double().to(self.fields.device)
        fields = self._fields().mT.double()
        if self.couplings.vanish():
            log_z = (fields / value[..., None, None]).logsumexp(-1).sum(-1)
        elif isinstance(self.couplings, LatticeCouplings) and is_cheap(
            self.couplings, self.num_states
        ):
            log_z = self.transfer_log_normalizer(value)
        else:
            log_z = listed_log_z(self, value)
        return None if log_z is None else rounded(log_z, self.fields, temperature)

    def transfer_log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        """log Z of a lattice by transfer matrices, in float64, however long it takes.

        Args:
            temperature: T, a number or a tensor [*batch].

        Raises:
            ValueError: not a lattice; one that is too wide.
        """
        return transfer_log_z(
            self.couplings,
            self.bonds,
            temperature,
            agreement=torch.eye(self.num_states, device=self.fields.device),
            fields=self._fields().mT,
        )

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Exact draws from the list of up to 2^12 configurations."""
        return listed_sample(self, shape, temperature=temperature, generator=generator)

    @property
    def interactions(self) -> Int[Tensor, "m 2"]:
        return self.couplings.pairs()

    @property
    def bonds(self) -> Bonds:
        """The terms of the energy, one a pair and q a site."""
        return Bonds(self.couplings.pairs(), self.couplings.strengths(), self._fields().mT)
