"""Energies of pairs over sites of two states: E(x) = -1/2 x'Jx - h'x.

Spins are -1 or +1 (Ising, Hopfield), units 0 or 1 (Boltzmann machines). What moves a site is its
local field (J x + h)_i: putting it from x_i to k changes the energy by -(k - x_i) times that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions.constraints import Constraint

from .base import Energy
from .checks import as_temperature
from .couplings import Bonds, DenseCouplings, LatticeCouplings, numbers
from .double_well import fits_event
from .enumeration import listed_log_z, listed_sample
from .parameters import event_sum, hold, over_event, rounded, spread_out
from .states import spin
from .supports import elementwise
from .transfer import is_cheap, transfer_log_z


class PairwiseEnergy(Energy):
    """-1/2 x'Jx - h'x over sites of two states; abstract: a model says which states.

    Args:
        couplings: J.
        fields: h, a number or a tensor that broadcasts to the event's shape.
        support: the states of a site.
        name: what the model calls h.

    Raises:
        TypeError: fields that are no real number or tensor.
        ValueError: fields that do not fit the event, or are not finite.
    """

    def __init__(
        self,
        couplings: DenseCouplings | LatticeCouplings,
        fields: float | Tensor,
        *,
        support: Constraint,
        name: str = "fields",
    ) -> None:
        super().__init__(couplings.event_shape, support=support)
        self.couplings = couplings
        self._name = name
        hold_like(self, couplings, **{name: fields})
        fits_event(self.event_shape, **{name: self._site_fields()})

    def _site_fields(self) -> Tensor:
        return getattr(self, self._name)

    def _every_field(self) -> Float[Tensor, " n"]:
        return self._site_fields().expand(self.event_shape).reshape(-1)

    def _site_states(self) -> Float[Tensor, 2]:
        low = -1.0 if isinstance(elementwise(self.support), type(spin)) else 0.0
        return self._site_fields().new_tensor([low, 1.0])

    def _has_no_couplings(self) -> bool:
        return self.couplings.vanish()

    def local_fields(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """(J x + h)_i, minus the gradient of the energy: what acts on each site.

        Args:
            x: configurations [N, *event].
        """
        product = self.couplings(numbers(x, self._site_fields()).flatten(1))
        return product.unflatten(-1, self.event_shape) + self._site_fields()

    def forward(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        values = numbers(x, self._site_fields())
        halved = 0.5 * (self.local_fields(values) + self._site_fields())
        return -event_sum(values * halved, self.event_shape)

    def energy_changes(self, x: Tensor) -> Float[Tensor, "n ... 2"]:
        values = numbers(x, self._site_fields())
        moves = self._site_states() - values.unsqueeze(-1)
        return -moves * self.local_fields(values).unsqueeze(-1)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """In closed form without couplings and for the lattices that have one, by transfer
        matrices on narrow lattices, by listing up to 2^12 configurations; else None."""
        log_z = self._log_z(temperature)
        return None if log_z is None else rounded(log_z, self._site_fields(), temperature)

    def _log_z(self, temperature: float | Tensor) -> Tensor | None:
        states = self._site_states()
        fields = self._every_field()
        value = as_temperature(temperature).double().to(fields.device)
        if self._has_no_couplings():
            terms = states * fields.double().unsqueeze(-1) / value[..., None, None]
            return terms.logsumexp(-1).sum(-1)
        if isinstance(self.couplings, LatticeCouplings) and is_cheap(self.couplings, 2):
            return self.transfer_log_normalizer(value)
        return listed_log_z(self, value)

    def transfer_log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        """log Z of a lattice by transfer matrices, in float64, however long it takes.

        Args:
            temperature: T, a number or a tensor [*batch].

        Raises:
            ValueError: not a lattice; one that is too wide.
        """
        states = self._site_states()
        return transfer_log_z(
            self.couplings,
            self.bonds,
            temperature,
            agreement=torch.outer(states, states),
            fields=self._every_field().unsqueeze(-1) * states,
        )

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Exact draws without couplings, or from the list of up to 2^12 configurations."""
        if not self._has_no_couplings():
            return listed_sample(self, shape, temperature=temperature, generator=generator)
        states = self._site_states()
        fields = self._site_fields().detach()
        value = over_event(spread_out(temperature, shape), self.event_shape).to(fields)
        up = ((states[1] - states[0]) * fields.expand(self.event_shape) / value).sigmoid()
        noise = torch.rand(up.shape, dtype=up.dtype, device=up.device, generator=generator)
        return torch.where(noise < up, states[1], states[0])

    @property
    def interactions(self) -> Int[Tensor, "m 2"]:
        return self.couplings.pairs()

    @property
    def bonds(self) -> Bonds:
        """The terms of the energy, one a pair and one a site."""
        return Bonds(self.couplings.pairs(), self.couplings.strengths(), self._every_field())


def hold_like(
    module: Energy, couplings: DenseCouplings | LatticeCouplings, **values: float | Tensor
) -> None:
    """Register constants beside couplings: numbers take their dtype and device."""
    like = couplings.current()
    made = {
        name: torch.tensor(value, dtype=like.dtype, device=like.device)
        if type(value) in (int, float)
        else value
        for name, value in values.items()
    }
    hold(module, {}, **made)
