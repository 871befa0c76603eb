"""Warm-up: what all chains learn together, window after window.

Everything is counted per chain in its own transitions. A window takes the same number of draws of
every chain, and closes when the slowest has given its share; then the metric is estimated anew from
the pooled draws and gradients, the step size is guessed again and averaged on. A new metric waits
until every chain has taken up the one before, since no chain may change it inside a tree. With many
chains a window of few draws is enough, so that warm-up is short.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .estimate import (
    dense_factor,
    diagonal_scale,
    low_rank,
    scale_from_start,
    with_new_version,
)
from .kernel import LogDensityAndGradient, Settings, Transition
from .metric import DenseMetric, DiagonalMetric, LowRankMetric, Metric
from .step_size import (
    TRIM,
    DualAverage,
    reasonable_step_size,
    start_dual_average,
    trimmed_mean,
    update_dual_average,
)

# Transitions that every chain makes after adaptation has stopped, before it keeps its draws.
SETTLE = 20
# Pooled draws beyond which a longer window teaches little; it bounds the memory of warm-up.
_ENOUGH_DRAWS = 5000
_EARLY_TREE_DEPTH = 7
# A transition with a lower acceptance rate has not moved.
_STUCK = 0.1


class Diagonal(NamedTuple):
    """A diagonal inverse mass matrix."""


class Dense(NamedTuple):
    """A dense inverse mass matrix; ``blocks`` [dim, dim] says which coordinates may correlate."""

    blocks: Tensor | None = None


class LowRank(NamedTuple):
    """A diagonal and a few directions: dense enough for hundreds of dimensions, and cheap.

    ``rank`` directions at most, those whose variance differs from the diagonal's by ``cutoff``.
    """

    rank: int = 10
    cutoff: float = 2.0


MetricKind = Diagonal | Dense | LowRank


class Warmup(NamedTuple):
    """What to adapt, and how: ``step_size`` is the first guess."""

    num_steps: int
    target_acceptance: float = 0.8
    step_size: float = 1.0
    adapt_step_size: bool = True
    adapt_metric: bool = True
    kind: MetricKind = Diagonal()
    max_tree_depth: int = 10
    min_step_size: float = 1e-10
    max_step_size: float = 1e10


class Adaptation(NamedTuple):
    """The state of warm-up between two steps; tensors only, chains on the last axis.

    ``rescue`` [chains] shortens the step of chains that the common one does not let move, so that a
    bad start is left behind: halved when a transition is all but rejected, doubled up to one when
    it is not. Such a chain votes zero. The last window does without.
    """

    settings: Settings
    dual_average: DualAverage
    latest_acceptance: Tensor
    rescue: Tensor
    votes: Tensor
    window: Tensor
    draws: Tensor
    gradients: Tensor
    taken: Tensor


def windows(num_steps: int, num_chains: int) -> tuple[int, ...]:
    """Transitions per chain of each window; the last one adapts the step size alone.

    >>> windows(180, 64)
    (10, 15, 22, 33, 73, 27)
    """
    if num_steps < 20:
        return (num_steps,) if num_steps > 0 else ()
    last = min(50, max(10, (3 * num_steps) // 20))
    remaining = num_steps - last
    length = 10 if num_chains >= 8 else 20
    enough = max(length, -(-_ENOUGH_DRAWS // num_chains))
    found: list[int] = []
    while remaining > 0:
        following = min(length + length // 2, enough)
        if remaining < length + following:
            length = remaining
        found.append(length)
        remaining -= length
        length = following
    return (*found, last)


def initial_metric(kind: MetricKind, gradient: Tensor, *, adapt: bool) -> Metric:
    """The first metric: from the gradients at the starts when it adapts, else the identity."""
    dim = gradient.shape[0]
    scale = scale_from_start(gradient) if adapt else torch.ones(dim, device=gradient.device)
    scale = scale.to(gradient)
    if isinstance(kind, Diagonal):
        return DiagonalMetric(scale.repeat(2, 1))
    if isinstance(kind, Dense):
        return DenseMetric(scale.diag().repeat(2, 1, 1))
    rank = min(kind.rank, dim)
    return LowRankMetric(
        scale.repeat(2, 1), gradient.new_zeros(2, dim, rank), gradient.new_ones(2, rank)
    )


def begin(
    warmup: Warmup,
    log_density_and_gradient: LogDensityAndGradient,
    position: Tensor,
    log_density: Tensor,
    gradient: Tensor,
    momentum: Tensor,
    *,
    settings: Settings | None,
) -> Adaptation:
    """The state of warm-up at the starts [dim, chains].

    :param momentum: standard normal noise [dim, chains].
    :param settings: of an earlier run, from which this one goes on; None to begin anew.
    """
    dim, chains = position.shape
    adapting = warmup.num_steps > SETTLE
    if settings is None:
        settings = _first_settings(warmup, position, gradient)
        if warmup.adapt_step_size and adapting:
            found = reasonable_step_size(
                log_density_and_gradient,
                position,
                log_density,
                gradient,
                settings,
                momentum,
                first_guess=warmup.step_size,
            )
            settings = settings._replace(step_size=position.new_full((chains,), found))
    else:
        step_size = settings.step_size.median().expand(chains).clone()
        settings = settings._replace(metric=_two_versions(settings.metric), step_size=step_size)
    longest = max(windows(warmup.num_steps - SETTLE, chains), default=0)
    buffer = position.new_zeros(longest + 1, dim, chains)
    count = torch.zeros(chains, dtype=torch.long, device=position.device)
    return Adaptation(
        settings=settings,
        dual_average=start_dual_average(float(settings.step_size[0])),
        latest_acceptance=torch.full_like(log_density, warmup.target_acceptance),
        rescue=torch.ones_like(log_density),
        votes=torch.zeros((), dtype=torch.long, device=position.device),
        window=torch.zeros((), dtype=torch.long),
        draws=buffer,
        gradients=buffer.clone(),
        taken=count,
    )


def _two_versions(metric: Metric) -> Metric:
    if metric[0].shape[0] == 2:
        return metric
    return type(metric)(*(part.repeat(2, *[1] * (part.dim() - 1)) for part in metric))


def _first_settings(warmup: Warmup, position: Tensor, gradient: Tensor) -> Settings:
    early = warmup.num_steps > SETTLE and warmup.adapt_metric
    return Settings(
        step_size=position.new_full((position.shape[1],), warmup.step_size),
        metric=initial_metric(warmup.kind, gradient, adapt=early),
        version=torch.zeros((), dtype=torch.long, device=position.device),
        max_tree_depth=torch.tensor(
            min(_EARLY_TREE_DEPTH, warmup.max_tree_depth) if early else warmup.max_tree_depth,
            device=position.device,
        ),
    )


def learn(
    warmup: Warmup,
    state: Adaptation,
    transition: Transition,
    versions: Tensor,
) -> tuple[Adaptation, bool]:
    """Take in one step of all chains; tells whether adaptation is complete.

    :param versions: which metric each chain is using [chains].
    """
    chains = transition.done.numel()
    plan = windows(warmup.num_steps - SETTLE, chains)
    window = int(state.window)
    length = plan[window]
    last = window == len(plan) - 1
    state = _record(state, transition, length)
    if int(state.votes) >= chains:
        state = _vote(warmup, state)
    if warmup.adapt_step_size:
        rescue = torch.ones_like(state.rescue) if last else _rescue(state.rescue, transition)
        state = _with_step(warmup, state._replace(rescue=rescue), state.dual_average.log_step_size)
    adopted = bool((versions == state.settings.version).all())
    if int(state.taken.min()) < length or not adopted:
        return state, False
    if last:
        return _finish(warmup, state), True
    return _close_window(warmup, state, length), False


def _rescue(rescue: Tensor, transition: Transition) -> Tensor:
    stuck = transition.acceptance_rate < _STUCK
    changed = torch.where(stuck, 0.5 * rescue, (2.0 * rescue).clamp(max=1.0))
    return torch.where(transition.done, changed, rescue)


def _record(state: Adaptation, transition: Transition, length: int) -> Adaptation:
    """Keep the first ``length`` draws of every chain in this window, and its latest acceptance."""
    done = transition.done
    row = torch.where(done & (state.taken < length), state.taken, state.draws.shape[0] - 1)
    row = row.expand(1, *transition.position.shape)
    state.draws.scatter_(0, row, transition.position[None])
    state.gradients.scatter_(0, row, transition.gradient[None])
    vote = torch.where(state.rescue < 1, 0.0, transition.acceptance_rate)
    return state._replace(
        latest_acceptance=torch.where(done, vote, state.latest_acceptance),
        votes=state.votes + done.sum(),
        taken=state.taken + done,
    )


def _vote(warmup: Warmup, state: Adaptation) -> Adaptation:
    state = state._replace(votes=torch.zeros_like(state.votes))
    if not warmup.adapt_step_size:
        return state
    votes = state.latest_acceptance
    stuck = votes < _STUCK
    if float(stuck.double().mean()) <= TRIM:
        # A few chains at a wall abstain: zeros would shift which of the others are cut off.
        votes = torch.where(stuck, votes.median(), votes)
    pooled = trimmed_mean(votes)
    dual = update_dual_average(state.dual_average, pooled, warmup.target_acceptance)
    return state._replace(dual_average=dual)


def _with_step(warmup: Warmup, state: Adaptation, log_step_size: Tensor) -> Adaptation:
    step_size = log_step_size.exp().clamp(warmup.min_step_size, warmup.max_step_size)
    settings = state.settings._replace(step_size=step_size.to(state.rescue) * state.rescue)
    return state._replace(settings=settings)


def _finish(warmup: Warmup, state: Adaptation) -> Adaptation:
    if not warmup.adapt_step_size:
        return state
    return _with_step(warmup, state, state.dual_average.log_average)


def _close_window(
    warmup: Warmup,
    state: Adaptation,
    length: int,
) -> Adaptation:
    settings = state.settings
    settings = settings._replace(
        max_tree_depth=torch.full_like(settings.max_tree_depth, warmup.max_tree_depth)
    )
    if warmup.adapt_metric:
        dim = state.draws.shape[1]
        draws = state.draws[:length].transpose(0, 1).reshape(dim, -1)
        gradients = state.gradients[:length].transpose(0, 1).reshape(dim, -1)
        settings = publish(warmup.kind, settings, draws, gradients)
    state = state._replace(
        settings=settings,
        votes=torch.zeros_like(state.votes),
        window=state.window + 1,
        taken=torch.zeros_like(state.taken),
    )
    if not warmup.adapt_step_size:
        return state
    # A metric of unit scale leaves the step size nearly as it was.
    log_average = state.dual_average.log_average
    state = state._replace(dual_average=start_dual_average(float(log_average.exp())))
    return _with_step(warmup, state, log_average)


def publish(kind: MetricKind, settings: Settings, draws: Tensor, gradients: Tensor) -> Settings:
    """Settings with a new metric from draws and gradients [dim, n], in the version not in use."""
    used = int(settings.version)
    free = 1 - used
    metric = settings.metric
    usable = draws.isfinite().all(0) & gradients.isfinite().all(0)
    draws, gradients = draws[:, usable], gradients[:, usable]
    if draws.shape[1] < 2:
        return settings
    if isinstance(metric, DiagonalMetric):
        parts = (diagonal_scale(draws, gradients, metric.scale[used]),)
    elif isinstance(metric, DenseMetric):
        assert isinstance(kind, Dense)
        before = metric.factor[used].square().sum(1).sqrt()
        scale = diagonal_scale(draws, gradients, before)
        dim = len(scale)
        blocks = kind.blocks
        if blocks is None:
            blocks = torch.ones(dim, dim, dtype=torch.bool, device=draws.device)
        parts = (dense_factor(draws, gradients, scale, blocks),)
    else:
        assert isinstance(kind, LowRank)
        scale = diagonal_scale(draws, gradients, metric.scale[used])
        rank = metric.stretch.shape[1]
        parts = (scale, *low_rank(draws, gradients, scale, rank=rank, cutoff=kind.cutoff))
    new = with_new_version(metric, free, parts)
    return settings._replace(metric=new, version=torch.full_like(settings.version, free))
