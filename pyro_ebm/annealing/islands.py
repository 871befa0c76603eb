"""Particles that are reweighted, resampled and moved along a path, on islands of their own.

On an island of N particles with normalised weights W, a step from beta to beta' multiplies the
estimate of Z by the weighted mean of the increment,

    log Z += logsumexp(log W + (beta' - beta) U),

and the weights go on from there, until they are so uneven that particles are drawn anew in
proportion to them. With everything else fixed beforehand the mean of the estimate is Z, exactly.
Islands never exchange particles, so that their estimates are independent, and their mean is
unbiased too.

The error comes from ancestors: particles that stem from one draw of the base are one family, and
families are independent but for the resampling. Of the sum of the squared weights of the families,
what reweighting adds to it along the way estimates the relative variance of Z; what resampling adds
is rounding, and no variance of Z in itself. Without resampling that is N / ESS - 1 over N; with
multinomial resampling it is, to first order, the estimator of Lee and Whiteley, and it holds for
systematic resampling too, as theirs does not. Where all families have died but a few, and where
chains of one family go apart, it sees too little: then the islands differ by more, and the larger
of the two errors is reported.

Waste-free, M drawn particles run chains of length P = N / M, of which every state is kept as a
particle, in the family of its ancestor.

Source: Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers; Lee, Whiteley (2018),
Variance estimation in the particle filter; Dau, Chopin (2022), Waste-free sequential Monte Carlo.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .loop import Loop, Runner, plainly
from .moves import Mover, Tuning
from .passes import Steps
from .weights import local_barrier


class Islands(NamedTuple):
    """How the particles live: so many islands of so many, resampled below so many equal weights.

    ``chain_length`` P of more than one is waste-free: then every step resamples.
    """

    num_islands: int
    num_particles: int
    resample_below: float
    chain_length: int = 1


class Annealed(NamedTuple):
    """Positions [dim, islands * particles] of weighted draws, with all their log weights.

    ``log_z`` [islands] and ``relative_variance`` [islands] are each island's own.
    """

    positions: Tensor
    log_weights: Tensor
    log_z: Tensor
    relative_variance: Tensor
    steps: Steps
    num_resamplings: int

    @property
    def estimate(self) -> tuple[float, float]:
        """log of the mean of the islands' Z, and its standard error."""
        number = len(self.log_z)
        log_z = float(self.log_z.logsumexp(0)) - math.log(number)
        if not math.isfinite(log_z):
            return log_z, math.inf
        shares = self.log_z.softmax(0)
        within = float(shares.square() @ self.relative_variance)
        between = float(shares.var()) * number if number > 1 else 0.0
        return log_z, math.sqrt(max(within, between, 0.0))


NextBeta = Callable[[Tensor, Tensor, float], float]


def reweighted(log_weights: Tensor, increments: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised log weights [islands, n] after the increments, and log of their mean [islands].

    An island on which nothing is left keeps even weights and has the mean zero.
    """
    raised = log_weights + increments
    total = raised.logsumexp(1)
    even = torch.full_like(raised, -math.log(raised.shape[1]))
    lost = (total == -torch.inf)[:, None]
    return torch.where(lost, even, raised - total[:, None]), total


class _Going(NamedTuple):
    """Islands on their way: log weights, families [islands, n]; the rest is of each island."""

    positions: Tensor
    log_weights: Tensor
    family: Tensor
    log_z: Tensor
    relative_variance: Tensor
    resamplings: Tensor
    steps: Steps


def anneal(
    mover: Mover,
    betas: list[float] | NextBeta,
    tuning: Tuning,
    islands: Islands,
    generator: torch.Generator,
    *,
    run: Runner = plainly,
) -> Annealed:
    """All particles from the base to the target.

    :param betas: from 0 to 1, ascending; or what chooses the next from log weights, slopes and the
        last, and then all islands go together.
    :param run: what runs the pass.
    """
    k, n, length = islands.num_islands, islands.num_particles, islands.chain_length

    def begin() -> _Going:
        positions = mover.path.sample(k * n, generator)
        log_weights = positions.new_full((k, n), -math.log(n), dtype=torch.float64)
        return _Going(
            positions,
            log_weights,
            torch.arange(n, device=positions.device).expand(k, n),
            log_weights.new_zeros(k),
            log_weights.new_zeros(k),
            torch.zeros(k, dtype=torch.long, device=positions.device),
            Steps([0.0], [], [], [], []),
        )

    def step(state: _Going) -> _Going:
        positions, log_weights, family, log_z, variance, resamplings, steps = state
        beta = steps.betas[-1]
        _, slope = mover.enter(positions, beta, tuning.at(beta)[1])
        if isinstance(betas, list):
            following = betas[steps.number + 1]
        else:
            following = betas(log_weights.flatten(), slope, beta)
        increments = (following - beta) * slope.reshape(k, n)
        before = _squares(log_weights, family)
        reached, total = reweighted(log_weights, increments)
        steps = _noted(steps, log_weights, increments, slope, following, reached)
        variance, log_z = variance - before + _squares(reached, family), log_z + total
        if following == 1.0:
            return _Going(positions, reached, family, log_z, variance, resamplings, steps)
        uneven = (2 * reached).logsumexp(1).exp() * islands.resample_below * n > 1.0
        uneven = uneven | (length > 1)
        if bool(uneven.any()):
            chosen = _ancestors(reached, n // length, uneven, generator)
            positions = _take(positions, chosen)
            family = family.gather(1, chosen).repeat_interleave(length, 1)
            resamplings = resamplings + uneven
            reached = torch.where(uneven[:, None], -math.log(n), reached)
        positions, acceptance = _chains(mover, positions, following, tuning, length, generator)
        steps = steps.moved(acceptance)
        return _Going(positions, reached, family, log_z, variance, resamplings, steps)

    last = run(
        Loop(
            _Going,
            generator,
            begin,
            step,
            finished=lambda state: state.steps.betas[-1] >= 1.0,
            number=lambda state: state.steps.number,
            total=len(betas) - 1 if isinstance(betas, list) else 0,
        )
    )
    # Of all particles a particle has its share of its island's, and an island that of its Z.
    everyone = (last.log_weights + last.log_z[:, None] + math.log(n)).flatten()
    return Annealed(
        last.positions,
        everyone,
        last.log_z,
        last.relative_variance * n / (n - 1),
        last.steps,
        int(last.resamplings.max()),
    )


def _chains(
    mover: Mover,
    positions: Tensor,
    beta: float,
    tuning: Tuning,
    length: int,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """The particles moved on, and the mean acceptance; or all states of chains of that length."""
    step_size, factor = tuning.at(beta)
    states, rates = [], []
    for _ in range(max(1, length - 1)):
        states.append(positions)
        chain, _ = mover.enter(positions, beta, factor)
        moved = mover.move(chain, positions, beta, step_size, factor, generator)
        positions = moved.positions
        rates.append(float(moved.acceptance.mean()))
    if length > 1:
        # All states of one chain stand together.
        together = torch.stack([*states, positions], dim=2)
        positions = together.reshape(len(together), -1)
    return positions, sum(rates) / len(rates)


def _noted(
    steps: Steps,
    log_weights: Tensor,
    increments: Tensor,
    slope: Tensor,
    beta: float,
    reached: Tensor,
) -> Steps:
    """With one more step, from log weights to those that it ``reached`` [islands, n]."""
    shares = log_weights.exp() / len(log_weights)
    alive = slope.nan_to_num(0.0, 0.0, 0.0).reshape(shares.shape)
    ess = len(reached) / float(reached.exp().square().sum(1).mean())
    return Steps(
        [*steps.betas, beta],
        [*steps.barrier, local_barrier(log_weights.flatten(), increments.flatten())],
        [*steps.mean_slope, float((shares * alive).sum())],
        steps.acceptance,
        [*steps.ess, ess],
    )


def _ancestors(
    log_weights: Tensor, number: int, uneven: Tensor, generator: torch.Generator
) -> Tensor:
    """Indices [islands, number] of particles, drawn systematically where they are uneven."""
    k, n = log_weights.shape
    kind = {"dtype": torch.float64, "device": log_weights.device}
    offset = torch.rand(k, 1, generator=generator, **kind)
    cumulative = log_weights.exp().cumsum(1)
    points = (torch.arange(number, **kind) + offset) / number * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, points).clamp(max=n - 1)
    return torch.where(uneven[:, None], drawn, torch.arange(number, device=drawn.device))


def _take(positions: Tensor, chosen: Tensor) -> Tensor:
    k = len(chosen)
    each = positions.reshape(len(positions), k, -1)
    index = chosen.expand(len(positions), *chosen.shape)
    return each.gather(2, index).reshape(len(positions), -1)


def _squares(log_weights: Tensor, family: Tensor) -> Tensor:
    """The sum of the squared weights of each island's families [islands]."""
    shares = torch.zeros_like(log_weights).scatter_add_(1, family, log_weights.exp())
    return shares.square().sum(1)
