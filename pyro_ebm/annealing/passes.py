"""One pass of particles along the path, forwards from the base or backwards from the target.

Forwards, a particle begins as a draw of the base and moves at every inverse temperature in turn;
between moves it is reweighted by exp((beta' - beta) U). The mean of its weight is Z, exactly,
however badly the moves mix. Backwards, a particle that begins as a draw of the target goes the same
way in reverse, and the mean of exp(-work) is 1/Z.

Source: Neal (2001), Annealed importance sampling; Jarzynski (1997), Crooks (1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .moves import Mover, Tuning, root_of_covariance
from .weights import (
    beta_ahead,
    effective_sample_size,
    local_barrier,
    log_mean_exp,
    systematic_resampling,
)

# A pass that learns goes to the next inverse temperature where the local barrier is this.
_STRIDE = 0.7
_MOST_TEMPERATURES = 1000
# A learning pass resamples below this share of equal weights.
_RESAMPLE_BELOW = 0.5
_COLLAPSED = 0.1
# How fast the step size follows the acceptance rate while it is learned.
_GAIN = 1.0


class Steps(NamedTuple):
    """What a pass met at each inverse temperature; lists of equal length, in its own order.

    ``barrier`` is the local barrier of the step that ends here; ``mean_slope`` is weighted;
    ``acceptance`` is the mean rate of the move made here.
    """

    betas: list[float]
    barrier: list[float]
    mean_slope: list[float]
    acceptance: list[float]
    ess: list[float]


class Pass(NamedTuple):
    """A finished pass: positions [dim, n], log weights [n] (float64), and how it went.

    ``log_weights`` of a backward pass are the works: minus the logarithm of what is averaged to
    1/Z. ``log_z`` of a pass that resampled is the product of its mean weights.
    """

    positions: Tensor
    log_weights: Tensor
    steps: Steps
    log_z: float | None = None


Report = Callable[[int, int], None]


def forward(
    mover: Mover,
    betas: Sequence[float],
    tuning: Tuning,
    num_particles: int,
    generator: torch.Generator,
    *,
    report: Report | None = None,
) -> Pass:
    """Anneal fresh particles from the base to the target, with everything fixed beforehand.

    :param betas: from 0 to 1, ascending.
    """
    positions = mover.path.sample(num_particles, generator)
    return _through(mover, betas, tuning, positions, generator, report)


def backward(
    mover: Mover,
    betas: Sequence[float],
    tuning: Tuning,
    positions: Tensor,
    generator: torch.Generator,
    *,
    report: Report | None = None,
) -> Pass:
    """Anneal draws of the target [dim, n] down to the base; ``betas`` ascend, as forwards."""
    return _through(mover, betas[::-1], tuning, positions, generator, report)


def _through(
    mover: Mover,
    betas: Sequence[float],
    tuning: Tuning,
    positions: Tensor,
    generator: torch.Generator,
    report: Report | None,
) -> Pass:
    steps = Steps([betas[0]], [], [], [], [])
    log_weights = positions.new_zeros(positions.shape[1], dtype=torch.float64)
    for i in range(1, len(betas)):
        before, beta = betas[i - 1], betas[i]
        step_size, factor = tuning.at(beta)
        chain, slope = mover.enter(positions, beta, factor)
        increments = (beta - before) * slope
        _note(steps, log_weights, increments, slope, beta)
        log_weights = log_weights + increments
        if i < len(betas) - 1:
            moved = mover.move(chain, positions, beta, step_size, factor, generator)
            positions = moved.positions
            steps.acceptance.append(_mean_acceptance(moved.acceptance, log_weights))
        if report is not None:
            report(i, len(betas) - 1)
    work = log_weights if betas[-1] > betas[0] else -log_weights
    return Pass(positions, work, steps)


def _note(steps: Steps, before: Tensor, increments: Tensor, slope: Tensor, beta: float) -> None:
    steps.betas.append(beta)
    steps.barrier.append(local_barrier(before, increments))
    alive = before.softmax(0)
    steps.mean_slope.append(float((alive * slope.nan_to_num(0.0, 0.0, 0.0)).sum()))
    steps.ess.append(effective_sample_size(before + increments))


def _mean_acceptance(acceptance: Tensor, log_weights: Tensor) -> float:
    alive = log_weights > -torch.inf
    return float(acceptance[alive].mean()) if bool(alive.any()) else 0.0


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


def learn(
    mover: Mover,
    num_particles: int,
    generator: torch.Generator,
    *,
    betas: Sequence[float] | None = None,
    tuning: Tuning | None = None,
    report: Report | None = None,
) -> Learned:
    """A pass that adapts on its way: resamples, follows the acceptance, measures the metric.

    Its weights are used for nothing but the schedule and the tuning of later passes.

    :param betas: the inverse temperatures; None to choose each from the particles, a fixed local
        barrier ahead of the last.
    :param tuning: of an earlier pass, from which the step sizes go on.
    """
    positions = mover.path.sample(num_particles, generator)
    log_weights = positions.new_zeros(num_particles, dtype=torch.float64)
    steps = Steps([0.0], [], [], [], [])
    factor = root_of_covariance(positions, torch.ones_like(log_weights))
    step_size = _first_step(positions) if tuning is None else tuning.at(0.0)[0]
    step_sizes, factors, log_z = [step_size], [factor], 0.0
    threshold = (_RESAMPLE_BELOW if betas is None else _COLLAPSED) * num_particles
    resampled, families = False, torch.arange(num_particles, device=positions.device)
    _, slope = mover.enter(positions, 0.0, factor)
    beta, i = 0.0, 0
    while beta < 1.0:
        i += 1
        following = beta_ahead(log_weights, slope, beta, _STRIDE) if betas is None else betas[i]
        if betas is None and i >= _MOST_TEMPERATURES:
            following = 1.0
        increments = (following - beta) * slope
        _note(steps, log_weights, increments, slope, following)
        log_weights = log_weights + increments
        beta = following
        if not bool((log_weights > -torch.inf).any()):
            break
        if effective_sample_size(log_weights) < threshold:
            resampled = True
            offset = float(torch.rand((), generator=generator, device=positions.device))
            chosen = systematic_resampling(log_weights, offset)
            log_z += float(log_mean_exp(log_weights))
            positions, slope, families = positions[:, chosen], slope[chosen], families[chosen]
            log_weights = torch.zeros_like(log_weights)
        factor = root_of_covariance(positions, log_weights.softmax(0))
        if tuning is not None:
            step_size = tuning.at(beta)[0]
        chain, _ = mover.enter(positions, beta, factor)
        moved = mover.move(chain, positions, beta, step_size, factor, generator)
        positions = moved.positions
        acceptance = _mean_acceptance(moved.acceptance, log_weights)
        steps.acceptance.append(acceptance)
        step_size *= _following_step(acceptance, mover.moves.target_acceptance)
        step_sizes.append(step_size)
        factors.append(factor)
        _, slope = mover.enter(positions, beta, factor)
        if report is not None:
            report(i, 0 if betas is None else len(betas) - 1)
    log_z += float(log_mean_exp(log_weights))
    like = {"dtype": torch.float64, "device": positions.device}
    learned = Tuning(
        torch.tensor(steps.betas[: len(step_sizes)], **like),
        torch.tensor(step_sizes, **like),
        torch.stack(factors),
    )
    finished = Pass(positions, log_weights, steps, log_z)
    return Learned(learned, finished, resampled, families)


def _following_step(acceptance: float, target: float) -> float:
    return math.exp(_GAIN * (acceptance - target))


def _first_step(positions: Tensor) -> float:
    return 0.8 * len(positions) ** -0.25
