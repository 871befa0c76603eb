"""Maximum likelihood for rows of mixed coordinates, with a negative phase of lasting chains.

It is persistent contrastive divergence (:mod:`pyro_ebm.learning.persistent_contrastive_divergence`)
with chains that move continuous coordinates and states in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.learning.chains import ChainState
from pyro_ebm.learning.contrastive_divergence import contrast
from pyro_ebm.learning.objective import Bound, Judged, Objective

from .mixture_base import MixtureBase
from .row_chains import RowChains


@dataclass(frozen=True)
class RowLikelihood(Objective):
    """Maximum likelihood of rows.

    :param num_states: how many states each coordinate has, 0 for a continuous one.
    :param base: what chains begin from, and begin anew from; data without.
    :param num_chains: lasting chains.
    :param steps: transitions of each at a step of learning.
    :param restart: the share of chains that begin anew at a step of learning, with a base.
    """

    num_states: tuple[int, ...]
    base: MixtureBase | None = None
    num_chains: int = 256
    steps: int = 1
    restart: float = 0.02

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy."""
        return _Bound(energy, self)


class _Bound(Bound):
    def __init__(self, energy: Energy, options: RowLikelihood) -> None:
        super().__init__(energy)
        self.options = options
        self.chains = RowChains(energy, options.num_states)

    def begin(self, batch: Tensor, generator: torch.Generator) -> ChainState:
        number = self.options.num_chains
        if self.options.base is None:
            return self.chains.begin(batch[torch.arange(number, device=batch.device) % len(batch)])
        return self.chains.begin(self.options.base.sample(number, generator))

    def judge(self, batch: Tensor, state: ChainState, generator: torch.Generator) -> Judged:
        base, number = self.options.base, self.options.num_chains
        if base is not None and self.options.restart > 0.0:
            chance = torch.rand(number, generator=generator, device=batch.device)
            anew = base.sample(number, generator).T
            starts = torch.where(chance < self.options.restart, anew, state.positions)
            state = state._replace(positions=starts)
        state, acceptance = self.chains.move(state, self.options.steps, generator)
        negatives = self.chains.rows(state)
        return contrast(self.energy, batch, negatives, state, {"acceptance": acceptance})

    def negatives(self, state: ChainState) -> Tensor:
        return self.chains.rows(state)
