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

from .kernel import LogDensityAndGradient, Settings, Transition
from .metric_kinds import Dense as Dense
from .metric_kinds import Diagonal as Diagonal
from .metric_kinds import LowRank as LowRank
from .metric_kinds import MetricKind as MetricKind
from .metric_kinds import converted, initial_metric, publish
from .step_size import (
    DualAverage,
    reasonable_step_size,
    start_dual_average,
    update_dual_average,
)
from .trajectory_length import LengthLearning, look_along, see, start_length, update_length
from .windows import windows as windows

# Transitions that every chain makes after adaptation has stopped, before it keeps its draws.
SETTLE = 20
_EARLY_TREE_DEPTH = 7
# A transition with a lower acceptance rate has not moved; a step is shortened to this at most.
_STUCK, _SHORTEST = 0.1, 2.0**-20
# Mean leapfrog steps of a trajectory in the first window, before a length is learned.
_FIRST_STEPS = 1.0
# The share of chains that may abstain, and the number from which chains have steps of their own.
_FEW, _CHAINS_FOR_RESCUE = 0.1, 8
# Below this many transitions a window may hold the way in; so many median deviations are far.
_LONG_WINDOW, _FAR = 50, 8.0


class Warmup(NamedTuple):
    """What to adapt, and how: ``step_size`` and ``trajectory_length`` are first guesses.

    A length is learned where one is given, from the proposals that the kernel reports.
    """

    num_steps: int
    target_acceptance: float = 0.8
    step_size: float = 1.0
    adapt_step_size: bool = True
    adapt_metric: bool = True
    kind: MetricKind = Diagonal()
    max_tree_depth: int = 10
    min_step_size: float = 1e-10
    max_step_size: float = 1e10
    trajectory_length: float | None = None

    def begin(
        self,
        density: LogDensityAndGradient,
        position: Tensor,
        log_density: Tensor,
        gradient: Tensor,
        momentum: Tensor,
        *,
        settings: Settings | None,
    ) -> Adaptation:
        """See :func:`begin`."""
        return begin(self, density, position, log_density, gradient, momentum, settings=settings)

    def learn(
        self, state: Adaptation, transition: Transition, versions: Tensor
    ) -> tuple[Adaptation, bool]:
        """See :func:`learn`."""
        return learn(self, state, transition, versions)


class Adaptation(NamedTuple):
    """The state of warm-up between two steps; tensors only, chains on the last axis.

    ``rescue`` [chains] is halved when a transition is all but rejected, and doubled up to one when
    it is not. Where many chains adapt together it shortens the steps of those that the common one
    does not let move, so that a bad start is left behind. ``votes`` counts finished transitions
    since the last update of the step size. ``length`` is there where a length is learned.
    """

    settings: Settings
    dual_average: DualAverage
    latest_acceptance: Tensor
    abstains: Tensor
    rescue: Tensor
    votes: Tensor
    window: Tensor
    draws: Tensor
    gradients: Tensor
    log_densities: Tensor
    taken: Tensor
    length: LengthLearning | None = None


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
    if settings is None:
        settings = _first_settings(warmup, position, gradient)
        if warmup.adapt_step_size:
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
        metric = converted(settings.metric, warmup.kind, int(settings.version), like=position)
        settings = _with_full_depth(warmup, settings)._replace(
            step_size=step_size.to(position),
            metric=metric,
            version=torch.zeros_like(settings.version),
        )
    settings = _with_length(warmup, settings, like=position)
    length = settings.trajectory_length
    if length is not None and warmup.num_steps > SETTLE:
        settings = _on_the_way_in(settings)
    longest = max(windows(warmup.num_steps - SETTLE, chains), default=0)
    buffer = position.new_zeros(longest + 1, dim, chains)
    count = torch.zeros(chains, dtype=torch.long, device=position.device)
    return Adaptation(
        settings=settings,
        dual_average=start_dual_average(float(settings.step_size[0])),
        latest_acceptance=torch.full_like(log_density, warmup.target_acceptance),
        abstains=torch.zeros_like(log_density, dtype=torch.bool),
        rescue=torch.ones_like(log_density),
        votes=torch.zeros((), dtype=torch.long, device=position.device),
        window=torch.zeros((), dtype=torch.long),
        draws=buffer,
        gradients=buffer.clone(),
        log_densities=buffer[:, 0].clone(),
        taken=count,
        length=None if length is None else start_length(float(length), position),
    )


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


def _with_length(warmup: Warmup, settings: Settings, *, like: Tensor) -> Settings:
    """The length of an earlier run, else the first guess; none where none is learned."""
    length = settings.trajectory_length
    if warmup.trajectory_length is None:
        return settings._replace(trajectory_length=None)
    if length is None:
        length = like.new_tensor(warmup.trajectory_length)
    return settings._replace(trajectory_length=length.to(like))


def _on_the_way_in(settings: Settings) -> Settings:
    """A step or two at a time: a long trajectory from far up would fling a chain as far away."""
    assert settings.trajectory_length is not None
    short = _FIRST_STEPS * settings.step_size.median().to(settings.trajectory_length)
    return settings._replace(trajectory_length=torch.minimum(settings.trajectory_length, short))


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
    if state.length is not None:
        seen = see(state.length, transition, versions, state.settings)
        state = state._replace(length=seen)
    state = _vote(warmup, state)
    if warmup.adapt_step_size:
        state = _with_step(warmup, state, state.dual_average.log_step_size, state.rescue)
    adopted = bool((versions == state.settings.version).all())
    if int(state.taken.min()) < length or not adopted:
        return state, False
    if last:
        return _finish(warmup, state), True
    return _close_window(warmup, state, length), False


def _record(state: Adaptation, transition: Transition, length: int) -> Adaptation:
    """Keep the first ``length`` draws of every chain in this window, and its latest vote.

    A chain that made its transition with a shortened step says nothing of the common one.
    """
    done = transition.done
    row = torch.where(done & (state.taken < length), state.taken, state.draws.shape[0] - 1)[None]
    kept = (
        (state.draws, transition.position),
        (state.gradients, transition.gradient),
        (state.log_densities, transition.log_density),
    )
    for buffer, new in kept:
        index = row if new.dim() == 1 else row[:, None].expand(1, *new.shape)
        buffer.scatter_(0, index, new[None])
    rejected = transition.acceptance_rate < _STUCK
    rescue = torch.where(rejected, 0.5 * state.rescue, 2.0 * state.rescue).clamp(_SHORTEST, 1.0)
    return state._replace(
        latest_acceptance=torch.where(done, transition.acceptance_rate, state.latest_acceptance),
        abstains=torch.where(done, state.rescue < 1.0, state.abstains),
        rescue=torch.where(done, rescue, state.rescue),
        votes=state.votes + (done & _voters(state)).sum(),
        taken=state.taken + done,
    )


def _vote(warmup: Warmup, state: Adaptation) -> Adaptation:
    """Update step size and length once every voter, on average, has made one more transition."""
    voters = _voters(state)
    if int(state.votes) < int(voters.sum()):
        return state
    state = _with_new_length(warmup, state, voters)._replace(votes=torch.zeros_like(state.votes))
    if not warmup.adapt_step_size:
        return state
    # Where many cannot move the common step is too long, and they say so.
    votes = state.latest_acceptance.masked_fill(state.abstains & _rescues(state), 0.0)
    dual = update_dual_average(state.dual_average, votes[voters].mean(), warmup.target_acceptance)
    return state._replace(dual_average=dual)


def _with_new_length(warmup: Warmup, state: Adaptation, voters: Tensor) -> Adaptation:
    """Publish the length after one more step of its ascent."""
    if state.length is None:
        return state
    step_size = float(state.settings.step_size.max())
    longest = step_size * (2**warmup.max_tree_depth - 1)
    found = update_length(state.length, voters, shortest=step_size, longest=longest)
    state = state._replace(length=found)
    if int(state.window) == 0:
        return state._replace(settings=_on_the_way_in(state.settings))
    return _publish_length(state, found.log_length)


def _publish_length(state: Adaptation, log_length: Tensor) -> Adaptation:
    length = log_length.exp().to(state.settings.step_size)
    return state._replace(settings=state.settings._replace(trajectory_length=length))


def _voters(state: Adaptation) -> Tensor:
    """The chains that count: all but a few that go with shortened steps, if they are few."""
    few = state.abstains.double().mean() <= _FEW
    return ~(state.abstains & few & _rescues(state))


def _rescues(state: Adaptation) -> bool:
    """Whether there are chains enough for each to go its own way: few adapt by their votes."""
    return state.rescue.numel() >= _CHAINS_FOR_RESCUE


def _with_step(
    warmup: Warmup, state: Adaptation, log_step_size: Tensor, share: Tensor
) -> Adaptation:
    """Publish the common step size; each chain takes its ``share`` [chains] of it."""
    common = log_step_size.exp().clamp(warmup.min_step_size, warmup.max_step_size)
    share = share if _rescues(state) else torch.ones_like(share)
    settings = state.settings._replace(step_size=common.to(share) * share)
    return state._replace(settings=settings)


def _finish(warmup: Warmup, state: Adaptation) -> Adaptation:
    state = state._replace(settings=_with_full_depth(warmup, state.settings))
    if state.length is not None:
        state = _publish_length(state, state.length.log_average)
    if not warmup.adapt_step_size:
        return state
    everyone = torch.ones_like(state.rescue)
    return _with_step(warmup, state, state.dual_average.log_average, everyone)


def _with_full_depth(warmup: Warmup, settings: Settings) -> Settings:
    depth = torch.full_like(settings.max_tree_depth, warmup.max_tree_depth)
    return settings._replace(max_tree_depth=depth)


def _close_window(
    warmup: Warmup,
    state: Adaptation,
    length: int,
) -> Adaptation:
    settings = _with_full_depth(warmup, state.settings)
    draws, gradients, arrived = _arrived(state, length)
    if warmup.adapt_metric:
        settings = publish(warmup.kind, settings, draws, gradients)
    if state.length is not None:
        found = look_along(state.length, settings, draws, arrived)
        state = _publish_length(state._replace(length=found), found.log_length)
        trajectory_length = state.settings.trajectory_length
        settings = settings._replace(trajectory_length=trajectory_length)
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
    return _with_step(warmup, state, log_average, state.rescue)


def _arrived(state: Adaptation, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws and gradients [dim, n] of this window, and the chains that are not still on their way.

    Of a window that is short, and so early, the latter half counts. Chains whose log density lies
    far below that of most others have not arrived where the others are.
    """
    first = length // 2 if length < _LONG_WINDOW else 0
    draws, gradients = state.draws[first:length], state.gradients[first:length]
    height = state.log_densities[first:length].mean(0)
    middle = height.nanmedian()
    spread = (height - middle).abs().nanmedian()
    arrived = height >= middle - _FAR * spread
    dim = draws.shape[1]
    draws, gradients = draws[..., arrived], gradients[..., arrived]
    draws, gradients = (part.transpose(0, 1).reshape(dim, -1) for part in (draws, gradients))
    return draws, gradients, arrived
