"""Maximum likelihood where log Z can be had: minus the mean log likelihood, itself.

log Z comes from the energy (a Gaussian, an RBM with one small layer), or from the sum over all
configurations of a small discrete one, and is differentiated with everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.energies.enumeration import configurations, count_configurations
from pyro_ebm.energies.states import states_of

from .objective import Bound, Judged, Objective

# Configurations that are summed over, at most.
MOST_CONFIGURATIONS = 2**16


@dataclass(frozen=True)
class ExactLikelihood(Objective):
    """Minus the mean log likelihood of a batch in nats, log Z exact.

    :raises ValueError: in ``bind``, for an energy that does not know log Z and has more than 65,536
        configurations.
    """

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy."""
        return _Bound(energy)


class _Bound(Bound):
    def __init__(self, energy: Energy) -> None:
        super().__init__(energy)
        self.every: Tensor | None = None
        if not knows_log_z(energy):
            self.every = all_configurations(energy)

    def log_normalizer(self) -> Tensor:
        """log Z with its gradient, in float64."""
        if self.every is None:
            found = self.energy.log_normalizer(1.0)
            assert found is not None
            return found.double()
        return (-self.energy(self.every)).double().logsumexp(0)

    def judge(self, batch: Tensor, state: Any, generator: torch.Generator) -> Judged:
        data_energy = self.energy(batch)
        loss = data_energy.double().mean() + self.log_normalizer()
        return Judged(loss, None, data_energy)

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float:
        with torch.no_grad():
            return float(self.judge(rows, state, generator).loss)

    def log_z(self, state: Any) -> tuple[float, float]:
        with torch.no_grad():
            return float(self.log_normalizer()), 0.0


def knows_log_z(energy: Energy) -> bool:
    """Whether the energy gives log Z at T = 1, differentiable in its parameters."""
    moving = [p for p in energy.parameters() if p.requires_grad]
    found = energy.log_normalizer(1.0)
    return found is not None and (not moving or found.requires_grad)


def all_configurations(energy: Energy) -> Tensor:
    """Every configuration [M, *event] of a small discrete energy.

    :raises ValueError: it is continuous, or there are more than 65,536.
    """
    listed = states_of(energy.support) is not None
    if not listed or count_configurations(energy) > MOST_CONFIGURATIONS:
        raise ValueError(
            f"expected an energy that knows log Z, or a discrete one of at most "
            f"{MOST_CONFIGURATIONS} configurations, got {type(energy).__name__} on "
            f"{energy.support} with event shape {tuple(energy.event_shape)}. Use "
            "PersistentContrastiveDivergence or AnnealedLikelihood."
        )
    return configurations(energy, torch.arange(count_configurations(energy)))
