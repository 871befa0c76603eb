"""Energies of pairs over sites of two states: E(x) = -1/2 x'Jx - h'x.

Spins are -1 or +1 (Ising, Hopfield), units 0 or 1 (Boltzmann machines). What moves a site is its
local field (J x + h)_i: putting it from x_i to k changes the energy by -(k - x_i) times that.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions.constraints import Constraint

from .base import Energy
from .checks import values_visible
from .couplings import Bonds, DenseCouplings, LatticeCouplings, numbers
from .double_well import fits_event
from .parameters import event_sum, hold
from .states import spin
from .supports import elementwise


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

    def _has_no_couplings(self) -> bool:
        return values_visible() and not bool(self.couplings.current().detach().any())

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
        states = (-1.0, 1.0) if isinstance(elementwise(self.support), type(spin)) else (0.0, 1.0)
        moves = torch.stack([state - values for state in states], -1)
        return -moves * self.local_fields(values).unsqueeze(-1)

    @property
    def interactions(self) -> Int[Tensor, "m 2"]:
        return self.couplings.pairs()

    @property
    def bonds(self) -> Bonds:
        """The terms of the energy, one a pair and one a site."""
        fields = self._site_fields().expand(self.event_shape).reshape(-1)
        return Bonds(self.couplings.pairs(), self.couplings.strengths(), fields)


def hold_like(
    module: Energy, couplings: DenseCouplings | LatticeCouplings, **values: float | Tensor
) -> None:
    """Register constants beside couplings: numbers take their dtype and device."""
    like = couplings.current()
    made = {
        name: like.new_tensor(value) if type(value) in (int, float) else value
        for name, value in values.items()
    }
    hold(module, {}, **made)
