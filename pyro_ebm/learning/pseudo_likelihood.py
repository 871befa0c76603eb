"""Pseudo-likelihood: every site predicted from all others, which needs no Z.

    loss = -mean over rows of sum_i log p(x_i | x_others),
    p(x_i = k | x_others) = softmax over k of -(E(x with site i in state k) - E(x)),

for discrete energies. Consistent, and as cheap as what single changes do to the energy.

Source: Besag (1975), Statistical analysis of non-lattice data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.energies.changes import changes_by_enumeration, checked_states

from .objective import Bound, Judged, Objective


@dataclass(frozen=True)
class PseudoLikelihood(Objective):
    """Minus the log of the product of the conditionals of all sites, the mean over rows."""

    def bind(self, energy: Energy) -> Bound:
        """The objective on a discrete energy.

        :raises ValueError: it is not discrete.
        """
        checked_states(energy)
        return _Bound(energy)


class _Bound(Bound):
    def judge(self, batch: Tensor, state: Any, generator: torch.Generator) -> Judged:
        changes = self.energy.energy_changes(batch)
        if changes is None:
            changes = changes_by_enumeration(self.energy, batch)
        # The state that a site is in has no change, so that its log share is minus the logsumexp.
        surprise = (-changes).logsumexp(-1)
        return Judged(surprise.reshape(len(batch), -1).sum(-1).mean())

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float:
        with torch.no_grad():
            return float(self.judge(rows, state, generator).loss)
