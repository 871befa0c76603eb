"""Score matching: the gradient of the log density is fitted to that of the data, and no Z is in it.

    J = E_data[ sum_i d^2 (-E)/dx_i^2 + 1/2 (dE/dx_i)^2 ],

which is, up to a constant of the data, half the mean squared distance of the scores: consistent
where the energy is of all real numbers and falls off. The second derivatives cost one pass for each
coordinate; :class:`.SlicedScoreMatching` looks along random directions instead.

Source: Hyvarinen (2005), Estimation of non-normalized statistical models by score matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy

from .objective import Bound, Judged, Objective, check_real


@dataclass(frozen=True)
class ScoreMatching(Objective):
    """Exact score matching, one backward pass for each coordinate of a configuration."""

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy of all real numbers.

        :raises ValueError: another support.
        """
        check_real(energy, "score matching")
        return _Bound(energy)


class _Bound(Bound):
    def judge(self, batch: Tensor, state: Any, generator: torch.Generator) -> Judged:
        energy, x, gradient = energy_and_gradient(self.energy, batch)
        flat = gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None]
        laplacian = torch.zeros_like(energy)
        for i in range(flat.shape[1]):
            row = directional(flat[:, i].sum(), x)
            laplacian = laplacian + (row.flatten(1) if row.dim() > 1 else row[:, None])[:, i]
        loss = (0.5 * flat.square().sum(-1) - laplacian).mean()
        return Judged(loss, None, energy)

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float:
        return float(self.judge(rows, state, generator).loss.detach())


def energy_and_gradient(energy: Energy, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E [n], x with a gradient, and dE/dx [n, *event] with its graph."""
    with torch.enable_grad():
        x = batch.detach().clone().requires_grad_()
        value = energy(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return value, x, gradient


def directional(value: Tensor, x: Tensor) -> Tensor:
    """d value / dx with its graph; zero where value does not depend on x, as of a linear energy."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient
