"""Sliced score matching: curvature along random directions only, whatever the dimension.

    J = E_data E_v[ -v' (d^2 E/dx dx) v ] + 1/2 |dE/dx|^2,   v of mean 0 and covariance 1,

which has the mean of exact score matching, with the squared norm of the score in closed form.

Source: Song, Garg, Shi, Ermon (2019), Sliced score matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_whole

from .objective import Bound, Judged, Objective, check_real
from .score_matching import directional, energy_and_gradient


@dataclass(frozen=True)
class SlicedScoreMatching(Objective):
    """Score matching along random directions, with coordinates -1 and +1.

    :param num_slices: directions for every row.
    """

    num_slices: int = 1

    def __post_init__(self) -> None:
        check_whole("num_slices", self.num_slices, 1)

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy of all real numbers.

        :raises ValueError: another support.
        """
        check_real(energy, "score matching")
        return _Bound(energy, self.num_slices)


class _Bound(Bound):
    def __init__(self, energy: Energy, num_slices: int) -> None:
        super().__init__(energy)
        self.num_slices = num_slices

    def judge(self, batch: Tensor, state: Any, generator: torch.Generator) -> Judged:
        energy, x, gradient = energy_and_gradient(self.energy, batch)
        rows = len(batch)
        curvature = torch.zeros_like(energy)
        for _ in range(self.num_slices):
            sign = torch.randint(2, batch.shape, generator=generator, device=batch.device)
            v = 2.0 * sign.to(gradient) - 1.0
            along = directional((gradient * v).sum(), x)
            curvature = curvature + (v * along).reshape(rows, -1).sum(-1) / self.num_slices
        loss = (0.5 * gradient.reshape(rows, -1).square().sum(-1) - curvature).mean()
        return Judged(loss, None, energy)

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float:
        return float(self.judge(rows, state, generator).loss.detach())
