"""Warm-up of the exchange algorithm: the covariance and the length of its proposals.

All chains together teach the covariance of the proposals: in windows that grow, each of which
forgets what was before it, and whose sums are all that is kept. Between, dual averaging brings the
length of a proposal to an acceptance rate. Nothing changes after warm-up.

Source: Roberts, Gelman, Gilks (1997), Weak convergence and optimal scaling of random walk
Metropolis algorithms; Haario, Saksman, Tamminen (2001), An adaptive Metropolis algorithm.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from .adaptation import SETTLE
from .kernel import LogDensityAndGradient, Settings, Transition
from .metric import DenseMetric
from .step_size import DualAverage, start_dual_average, update_dual_average
from .windows import windows

# Of the covariance of one window: what a few draws of variance are worth beside it.
_PRIOR_DRAWS = 5.0
_SMALLEST = 1e-10


class ExchangeAdaptation(NamedTuple):
    """The state between two steps; ``total`` and ``products`` sum over the draws of the window."""

    settings: Settings
    dual_average: DualAverage
    num_steps: int
    number: int
    total: Tensor
    products: Tensor


class ExchangeWarmup(NamedTuple):
    """How long to warm up, and the acceptance rate that is aimed at."""

    num_steps: int
    target_acceptance: float

    def begin(
        self,
        density: LogDensityAndGradient,
        position: Tensor,
        log_density: Tensor,
        gradient: Tensor,
        momentum: Tensor,
        *,
        settings: Settings | None,
    ) -> ExchangeAdaptation:
        """The state at the starts: unit covariance, or what an earlier run has learned."""
        dim, chains = position.shape
        if settings is None:
            settings = proposals(torch.eye(dim).to(position), position.new_ones(chains))
        length = float(settings.step_size.median())
        settings = settings._replace(step_size=position.new_full((chains,), length))
        zero = torch.zeros(dim, dtype=torch.float64, device=position.device)
        return ExchangeAdaptation(
            settings, start_dual_average(length), 0, 0, zero, torch.outer(zero, zero)
        )

    def learn(
        self, state: ExchangeAdaptation, transition: Transition, versions: Tensor
    ) -> tuple[ExchangeAdaptation, bool]:
        """Take in one transition of all chains; tells whether all is learned."""
        draws = transition.position.double()
        acceptance = transition.acceptance_rate.mean()
        state = state._replace(
            dual_average=update_dual_average(
                state.dual_average, acceptance, self.target_acceptance
            ),
            num_steps=state.num_steps + 1,
            number=state.number + draws.shape[1],
            total=state.total + draws.sum(1),
            products=state.products + draws @ draws.mT,
        )
        complete = state.num_steps >= self.num_steps - SETTLE
        ends = [*accumulate(windows(self.num_steps - SETTLE, draws.shape[1]))][:-1]
        if state.num_steps in ends:
            state = _with_covariance(state)
        average = state.dual_average
        log_length = average.log_average if complete else average.log_step_size
        step_size = torch.ones_like(state.settings.step_size) * log_length.exp().to(draws)
        step_size = step_size.to(state.settings.step_size)
        return state._replace(settings=state.settings._replace(step_size=step_size)), complete


def proposals(factor: Tensor, like: Tensor) -> Settings:
    """Normal proposals of the covariance L L^T, L the ``factor`` [dim, dim], of the usual length.

    :param like: of its shape are the lengths.
    """
    none = torch.zeros((), dtype=torch.long, device=factor.device)
    length = torch.full_like(like, 2.4 / math.sqrt(len(factor)))
    return Settings(length, DenseMetric(factor[None]), version=none, max_tree_depth=none)


def _with_covariance(state: ExchangeAdaptation) -> ExchangeAdaptation:
    """Proposals of the covariance of the window that ends here, and a new one."""
    before = state.settings.metric
    assert isinstance(before, DenseMetric)
    mean = state.total / state.number
    covariance = state.products / state.number - torch.outer(mean, mean)
    # Of few draws correlations are pulled to zero; what has not moved keeps its spread.
    weight = _PRIOR_DRAWS / (_PRIOR_DRAWS + state.number / len(mean))
    spread = covariance.diagonal()
    known = spread > _SMALLEST * (1 + mean.square())
    spread = torch.where(known, spread, before.factor[0].double().square().sum(1))
    both = known[:, None] & known
    covariance = torch.where(both, (1 - weight) * covariance, 0.0)
    covariance = covariance - covariance.diagonal().diag() + spread.diag()
    factor = torch.linalg.cholesky(covariance).to(before.factor)[None]
    length = 2.4 / math.sqrt(len(mean))
    return state._replace(
        settings=state.settings._replace(metric=DenseMetric(factor)),
        dual_average=start_dual_average(length),
        number=0,
        total=torch.zeros_like(state.total),
        products=torch.zeros_like(state.products),
    )
