"""A pass that learns: where along the path to stop, how far to step, and in which metric.

It goes from the base to the target as a pass that counts does, but adapts on its way and resamples
when weights become uneven. So its own log Z is biased; what it has learned is used by later passes
with fresh particles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .loop import Loop, Runner, plainly
from .moves import Mover, Tuning
from .passes import Pass, Steps, mean_acceptance, noted
from .weights import beta_ahead, effective_sample_size, log_mean_exp, systematic_resampling

# A pass that learns goes to the next inverse temperature where the local barrier is this.
_STRIDE = 0.7
_MOST_TEMPERATURES = 1000
# A learning pass resamples below this share of equal weights.
_RESAMPLE_BELOW = 0.5
_COLLAPSED = 0.1
# How fast the step size follows the acceptance rate while it is learned.
_GAIN = 1.0


class Learned(NamedTuple):
    """What a learning pass leaves: its tuning, its barriers, and particles of the target.

    ``families`` [n] tells which of the draws of the base each particle stems from.
    """

    tuning: Tuning
    finished: Pass
    resampled: bool
    families: Tensor

    @property
    def num_families(self) -> float:
        """How many equal families the particles stem from: no more of them are independent."""
        weights = self.finished.log_weights.softmax(0)
        shares = torch.zeros_like(weights).index_add_(0, self.families, weights)
        return float(1.0 / shares.square().sum())

    @property
    def relative_variance(self) -> float:
        """That of the weights, as the next pass may expect it; infinite when it resampled."""
        weights = self.finished.log_weights
        ess = effective_sample_size(weights)
        return math.inf if self.resampled or ess == 0.0 else len(weights) / ess - 1.0


class _Learning(NamedTuple):
    """A pass that adapts, on its way."""

    positions: Tensor
    log_weights: Tensor
    slope: Tensor
    families: Tensor
    steps: Steps
    step_sizes: list[float]
    factors: list[Tensor]
    log_z: float
    resampled: bool


def learn(
    mover: Mover,
    num_particles: int,
    generator: torch.Generator,
    *,
    betas: Sequence[float] | None = None,
    tuning: Tuning | None = None,
    run: Runner = plainly,
) -> Learned:
    """A pass that adapts on its way: resamples, follows the acceptance, measures the metric.

    Its weights are used for nothing but the schedule and the tuning of later passes.

    :param betas: the inverse temperatures; None to choose each from the particles, a fixed local
        barrier ahead of the last.
    :param tuning: of an earlier pass, from which the step sizes go on.
    :param run: what runs the pass.
    """
    threshold = (_RESAMPLE_BELOW if betas is None else _COLLAPSED) * num_particles

    def begin() -> _Learning:
        positions = mover.path.sample(num_particles, generator)
        log_weights = positions.new_zeros(num_particles, dtype=torch.float64)
        factor = mover.measured(positions, torch.ones_like(log_weights))
        step_size = _first_step(positions) if tuning is None else tuning.at(0.0)[0]
        _, slope = mover.enter(positions, 0.0, factor)
        return _Learning(
            positions,
            log_weights,
            slope,
            torch.arange(num_particles, device=positions.device),
            Steps([0.0], [], [], [], []),
            [step_size],
            [factor],
            0.0,
            False,
        )

    def step(state: _Learning) -> _Learning:
        positions, log_weights, slope, families, steps, *_ = state
        log_z, resampled = state.log_z, state.resampled
        beta, i = steps.betas[-1], steps.number + 1
        following = beta_ahead(log_weights, slope, beta, _STRIDE) if betas is None else betas[i]
        if betas is None and i >= _MOST_TEMPERATURES:
            following = 1.0
        increments = (following - beta) * slope
        steps = noted(steps, log_weights, increments, slope, following)
        log_weights = log_weights + increments
        beta = following
        if not _any_alive(log_weights):
            return state._replace(log_weights=log_weights, steps=steps)
        if effective_sample_size(log_weights) < threshold:
            resampled = True
            offset = float(torch.rand((), generator=generator, device=positions.device))
            chosen = systematic_resampling(log_weights, offset)
            log_z += float(log_mean_exp(log_weights))
            positions, slope, families = positions[:, chosen], slope[chosen], families[chosen]
            log_weights = torch.zeros_like(log_weights)
        factor = mover.measured(positions, log_weights.softmax(0))
        step_size = state.step_sizes[-1] if tuning is None else tuning.at(beta)[0]
        chain, _ = mover.enter(positions, beta, factor)
        moved = mover.move(chain, positions, beta, step_size, factor, generator)
        acceptance = mean_acceptance(moved.acceptance, log_weights)
        step_size *= _following_step(acceptance, mover.moves.target_acceptance)
        _, slope = mover.enter(moved.positions, beta, factor)
        return _Learning(
            moved.positions,
            log_weights,
            slope,
            families,
            steps.moved(acceptance),
            [*state.step_sizes, step_size],
            [*state.factors, factor],
            log_z,
            resampled,
        )

    last = run(
        Loop(
            _Learning,
            generator,
            begin,
            step,
            finished=lambda state: (
                state.steps.betas[-1] >= 1.0 or not _any_alive(state.log_weights)
            ),
            number=lambda state: state.steps.number,
            total=0 if betas is None else len(betas) - 1,
        )
    )
    like = {"dtype": torch.float64, "device": last.positions.device}
    learned = Tuning(
        torch.tensor(last.steps.betas[: len(last.step_sizes)], **like),
        torch.tensor(last.step_sizes, **like),
        torch.stack(last.factors),
    )
    log_z = last.log_z + float(log_mean_exp(last.log_weights))
    finished = Pass(last.positions, last.log_weights, last.steps, log_z)
    return Learned(learned, finished, last.resampled, last.families)


def _any_alive(log_weights: Tensor) -> bool:
    return bool((log_weights > -torch.inf).any())


def _following_step(acceptance: float, target: float) -> float:
    return math.exp(_GAIN * (acceptance - target))


def _first_step(positions: Tensor) -> float:
    return 0.8 * len(positions) ** -0.25
