"""Contrastive divergence: chains that start at the data and go a few transitions.

loss = mean E(data) - mean E(chains), with the chains held fixed: its gradient is that of minus the
log likelihood, with draws of p replaced by where k transitions from the data lead. Biased, as the
chains have not forgotten where they began: the bias falls as k grows.

Source: Hinton (2002), Training products of experts by minimizing contrastive divergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_whole

from .chains import Chains, ChainState
from .objective import Bound, Judged, Objective
from .stand_in import stand_in


@dataclass(frozen=True)
class ContrastiveDivergence(Objective):
    """Maximum likelihood with a negative phase of short chains from the data.

    :param steps: k, transitions of every chain.
    :param sampler: makes the kernel: a class such as :class:`pyro_ebm.HMC`, ``Langevin(...)``, or
        "auto".
    """

    steps: int = 1
    sampler: Any = "auto"

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1)

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy."""
        return _Bound(energy, self)


class _Bound(Bound):
    def __init__(self, energy: Energy, options: ContrastiveDivergence) -> None:
        super().__init__(energy)
        self.options = options
        self.chains = Chains(energy, options.sampler)

    def begin(self, batch: Tensor, generator: torch.Generator) -> ChainState:
        return self.chains.begin(batch, generator)

    def judge(self, batch: Tensor, state: ChainState, generator: torch.Generator) -> Judged:
        state = state._replace(positions=self.chains.positions_of(batch, generator))
        state, acceptance = self.chains.move(state, self.options.steps, generator)
        negatives = self.chains.values(state.positions)
        return contrast(self.energy, batch, negatives, state, {"acceptance": acceptance})

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float | None:
        return stand_in(self.energy, rows, generator, any_temperature=self.chains.biased)


def contrast(
    energy: Energy, batch: Tensor, negatives: Tensor, state: Any, report: dict[str, float]
) -> Judged:
    """mean E(data) - mean E(negatives): the surrogate of minus the log likelihood."""
    data_energy, negative_energy = energy(batch), energy(negatives)
    loss = data_energy.mean() - negative_energy.mean()
    return Judged(loss, state, data_energy, negative_energy, report)
