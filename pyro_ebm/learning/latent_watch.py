"""Watching a latent-variable model learn: what its looks are compared by, and when all is lost.

A look is scored by what stands for a bound on log p(x) and needs neither log Z nor held-out rows,

    score = mean log p(x|z) - mean log q(z|x) - |gap|,

over a batch with its latents z, where the gap is the mean energy of draws of the prior less that of
these latents: near zero for a prior that fits, wild where the energy has run away. The term in q is
there with an encoder alone. Steps that are too large throw away within a few looks what was gained:
the median of the last scores falls below that of the start.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from .latent_energy_model import LatentEnergyModel

# Looks whose median is judged: a few bad ones may mend themselves.
_RECENT = 5
# Looks whose median says which is best.
_SMOOTHED = 3
# Standard errors of the start's score that count as noise, and standard deviations of a row's that
# may be lost where nothing was gained before.
_CERTAIN, _SPREADS = 4.0, 3.0


class LatentLook(NamedTuple):
    """What was seen after so many steps; see :class:`.FittedLatents`."""

    step: int
    log_likelihood: float
    gap: float
    acceptance: float
    step_size: float
    score: float


class Spread(NamedTuple):
    """Of the score at the start: its standard deviation from row to row, and its error."""

    of_rows: float
    of_mean: float

    @classmethod
    def of(cls, scores: Tensor) -> Spread:
        """Of a batch; a single row tells nothing of it."""
        spread = float(scores.detach().double().std()) if len(scores) > 1 else math.inf
        return cls(spread, spread / math.sqrt(len(scores)))


class Kept(NamedTuple):
    """The state at a look: parameters, chains of the prior, and of the latents."""

    step: int
    parameters: dict[str, Tensor]
    chains: Any
    latents: Tensor

    @classmethod
    def of(cls, step: int, model: LatentEnergyModel, latents: Tensor) -> Kept:
        """As it is now."""
        chains = model.prior.negatives.kept()
        return cls(step, copy.deepcopy(model.state_dict()), chains, latents.clone())

    def put_back(self, model: LatentEnergyModel) -> None:
        """Into the model."""
        model.load_state_dict(self.parameters)
        model.prior.negatives.put_back(self.chains)


def is_best(looks: list[LatentLook]) -> bool:
    """Whether no look before was better than the last one, by medians of a few."""
    scores = [look.score for look in looks]
    smoothed = [_median(scores[max(0, i - _SMOOTHED + 1) : i + 1]) for i in range(len(scores))]
    return scores[-1] >= smoothed[-1] >= max(smoothed)


def loss_of_all(looks: list[LatentLook], start: Spread) -> str | None:
    """Why what was learned is lost, a sentence; None while it is not."""
    scores = [look.score for look in looks]
    if len(scores) <= _RECENT:
        return None
    now = _median(scores[-_RECENT:])
    medians = [_median(scores[i - _RECENT : i]) for i in range(_RECENT, len(scores) + 1)]
    gained = max(medians) - scores[0]
    may_fall = _CERTAIN * start.of_mean if gained > start.of_rows else _SPREADS * start.of_rows
    if not now < scores[0] - may_fall:
        return None
    return f"the score fell to {now:.4g}, below the {scores[0]:.4g} of the start"


def _median(values: list[float]) -> float:
    # What is not finite is as bad as can be.
    return float(np.median([value if math.isfinite(value) else -math.inf for value in values]))
