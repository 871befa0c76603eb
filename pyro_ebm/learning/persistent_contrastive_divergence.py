"""Persistent contrastive divergence: chains that go on from step to step of learning.

As the parameters move slowly, chains that were draws of the last p are almost draws of the present
one, and a transition or two bring them along: the gradient of the log likelihood, with an error
that vanishes with the learning rate. A reservoir larger than what moves at a time (a replay buffer)
and now and then a fresh start keep chains from sharing one mode for ever.

Source: Tieleman (2008), Training restricted Boltzmann machines using approximations to the
likelihood gradient; Du, Mordatch (2019), Implicit generation and modeling with energy-based models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_whole

from .chains import Chains, ChainState
from .contrastive_divergence import contrast
from .objective import Bound, Judged, Objective
from .stand_in import stand_in


@dataclass(frozen=True)
class PersistentContrastiveDivergence(Objective):
    """Maximum likelihood with a negative phase of lasting chains.

    :param steps: transitions of a chain, each time that it is moved.
    :param num_chains: chains that move at a step of learning; as many as a batch has rows unless
        given.
    :param buffer_size: chains in all, of which those that move are drawn; ``num_chains`` unless
        given, so that all move.
    :param restart: the share of those that move which begin anew, wider than the data are.
    :param sampler: makes the kernel: a class such as :class:`pyro_ebm.HMC`, ``Langevin(...)``, or
        "auto".
    """

    steps: int = 1
    num_chains: int | None = None
    buffer_size: int | None = None
    restart: float = 0.0
    sampler: Any = "auto"

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1)
        if self.num_chains is not None:
            check_whole("num_chains", self.num_chains, 1)
        if self.buffer_size is not None:
            check_whole("buffer_size", self.buffer_size, self.num_chains or 1)
        if not 0.0 <= self.restart < 1.0:
            raise ValueError(f"restart must lie in [0, 1), got {self.restart}.")

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy."""
        return _Bound(energy, self)


class _Bound(Bound):
    def __init__(self, energy: Energy, options: PersistentContrastiveDivergence) -> None:
        super().__init__(energy)
        self.options = options
        self.chains = Chains(energy, options.sampler)

    def begin(self, batch: Tensor, generator: torch.Generator) -> ChainState:
        number = self._moving(batch)
        total = max(self.options.buffer_size or number, number)
        rows = torch.arange(total, device=batch.device) % len(batch)
        return self.chains.begin(batch[rows], generator)

    def judge(self, batch: Tensor, state: ChainState, generator: torch.Generator) -> Judged:
        total, number = state.positions.shape[1], self._moving(batch)
        device = state.positions.device
        if total > number:
            which = torch.randperm(total, generator=generator, device=device)[:number]
            moving = state._replace(positions=state.positions[:, which].contiguous())
        else:
            which, moving = None, state
        if self.options.restart > 0.0:
            chance = torch.rand(number, generator=generator, device=device)
            anew = self.chains.fresh(state, number, generator)
            starts = torch.where(chance < self.options.restart, anew, moving.positions)
            moving = moving._replace(positions=starts)
        moving, acceptance = self.chains.move(moving, self.options.steps, generator)
        negatives = self.chains.values(moving.positions)
        if which is not None:
            positions = state.positions.clone()
            positions[:, which] = moving.positions
            moving = moving._replace(positions=positions)
        return contrast(self.energy, batch, negatives, moving, {"acceptance": acceptance})

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float | None:
        return stand_in(self.energy, rows, generator, any_temperature=self.chains.biased)

    def negatives(self, state: ChainState) -> Tensor:
        return self.chains.values(state.positions)

    def _moving(self, batch: Tensor) -> int:
        return self.options.num_chains or min(len(batch), self.options.buffer_size or len(batch))
