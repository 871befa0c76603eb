"""Warm-up of kernels over discrete sites: one number, tuned to an acceptance rate.

The number stands where a step size stands: the length of a path, or the step of a Langevin
proposal. All chains share it. Each casts one vote, the acceptance rate of its latest transition,
and dual averaging takes in their mean once every chain, on average, has made one more. Kernels that
have no such number only leave their starts behind.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .adaptation import SETTLE
from .discrete import discrete_settings
from .kernel import LogDensityAndGradient, Settings, Transition
from .step_size import DualAverage, start_dual_average, update_dual_average


class DiscreteAdaptation(NamedTuple):
    """The state of warm-up between two steps; ``votes`` counts since the last update."""

    settings: Settings
    dual_average: DualAverage
    latest_acceptance: Tensor
    votes: Tensor
    taken: Tensor


class DiscreteWarmup(NamedTuple):
    """How long to warm up, and what to tune: ``step_size`` is a first guess."""

    num_steps: int
    target_acceptance: float = 0.574
    step_size: float = 1.0
    adapt_step_size: bool = False
    min_step_size: float = 1e-3
    max_step_size: float = 1e3

    def begin(
        self,
        density: LogDensityAndGradient,
        position: Tensor,
        log_density: Tensor,
        gradient: Tensor,
        momentum: Tensor,
        *,
        settings: Settings | None,
    ) -> DiscreteAdaptation:
        """The state of warm-up at the starts, as :func:`.adaptation.begin` gives it."""
        step_size = self.step_size if settings is None else float(settings.step_size.median())
        return DiscreteAdaptation(
            settings=discrete_settings(step_size, position),
            dual_average=start_dual_average(step_size),
            latest_acceptance=torch.full_like(log_density, self.target_acceptance),
            votes=torch.zeros((), dtype=torch.long, device=position.device),
            taken=torch.zeros_like(log_density, dtype=torch.long),
        )

    def learn(
        self, state: DiscreteAdaptation, transition: Transition, versions: Tensor
    ) -> tuple[DiscreteAdaptation, bool]:
        """Take in one step of all chains; tells whether adaptation is complete."""
        done = transition.done
        state = state._replace(
            latest_acceptance=torch.where(
                done, transition.acceptance_rate, state.latest_acceptance
            ),
            votes=state.votes + done.sum(),
            taken=state.taken + done,
        )
        complete = int(state.taken.min()) >= self.num_steps - SETTLE
        if not self.adapt_step_size:
            return state, complete
        if int(state.votes) >= done.numel():
            acceptance = state.latest_acceptance.mean()
            dual = update_dual_average(state.dual_average, acceptance, self.target_acceptance)
            state = self._publish(state._replace(dual_average=dual), dual.log_step_size)
            state = state._replace(votes=torch.zeros_like(state.votes))
        if complete:
            state = self._publish(state, state.dual_average.log_average)
        return state, complete

    def _publish(self, state: DiscreteAdaptation, log_step_size: Tensor) -> DiscreteAdaptation:
        common = log_step_size.exp().clamp(self.min_step_size, self.max_step_size)
        step_size = torch.ones_like(state.settings.step_size) * common.to(state.taken.device)
        return state._replace(
            settings=state.settings._replace(step_size=step_size.to(state.settings.step_size))
        )
