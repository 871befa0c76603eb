"""What kernels over discrete sites share: their state, draws of states, and how a step is judged.

Positions are indices of states [dim, chains]. In place of a gradient the density gives the changes
[dim, K, chains]: what putting site i into state k would add to the log density, zero for the state
that the site is in. A step is one evaluation of both for every chain, and so many steps are a
transition. A position, its log density and its changes belong together in a state; a step draws a
new position from the changes, evaluates there, and takes it or leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .kernel import Settings, Transition
from .metric import DiagonalMetric

LogDensityAndChanges = Callable[[Tensor], tuple[Tensor, Tensor]]


class DiscreteState(NamedTuple):
    """Chains between two steps: positions with their log densities and changes.

    ``n_steps`` counts the steps of the transition that a chain is in, ``acceptance_sum`` adds their
    acceptance rates. ``step_size`` is the one taken up at its start.
    """

    fresh: Tensor
    position: Tensor
    log_density: Tensor
    changes: Tensor
    n_steps: Tensor
    acceptance_sum: Tensor
    step_size: Tensor
    version: Tensor


class Proposed(NamedTuple):
    """Proposals: positions with their log densities and changes, and the logarithms of the ratio of
    the probabilities to propose back and forth [chains]."""

    position: Tensor
    log_density: Tensor
    changes: Tensor
    log_ratio: Tensor


def discrete_settings(step_size: float, like: Tensor) -> Settings:
    """Settings of kernels that have a step size and no metric.

    :param like: positions [dim, chains].
    """
    return Settings(
        step_size=like.new_full((like.shape[1],), step_size),
        metric=DiagonalMetric(like.new_ones(1, 1)),
        version=torch.zeros((), dtype=torch.long, device=like.device),
        max_tree_depth=torch.zeros((), dtype=torch.long, device=like.device),
    )


def start(
    position: Tensor, log_density: Tensor, changes: Tensor, settings: Settings
) -> DiscreteState:
    """The state in which every chain begins a transition."""
    chains = position.shape[1]
    no = torch.zeros(chains, dtype=torch.bool, device=position.device)
    return DiscreteState(
        fresh=~no,
        position=position,
        log_density=log_density,
        changes=changes,
        n_steps=no.long(),
        acceptance_sum=torch.zeros_like(log_density),
        step_size=settings.step_size.expand(chains).to(position).clone(),
        version=settings.version.expand(chains).clone(),
    )


def set_out(state: DiscreteState, settings: Settings) -> DiscreteState:
    """The state in which every fresh chain has taken up the settings."""
    fresh = state.fresh
    return state._replace(
        n_steps=torch.where(fresh, 0, state.n_steps),
        acceptance_sum=torch.where(fresh, 0.0, state.acceptance_sum),
        step_size=torch.where(fresh, settings.step_size, state.step_size),
        version=torch.where(fresh, settings.version, state.version),
    )


def judge(
    state: DiscreteState, new: Proposed, uniform: Tensor, *, num_steps: int
) -> tuple[DiscreteState, Transition]:
    """Take the proposals with probability min(1, p(y) q(x | y) / (p(x) q(y | x))).

    :param uniform: a uniform number for each chain.
    :param num_steps: steps of a transition.
    """
    log_ratio = new.log_density - state.log_density + new.log_ratio
    # What cannot be proposed back, or has no density, is not taken; no number counts as that.
    acceptance = log_ratio.nan_to_num(-torch.inf, torch.inf).clamp(max=0.0).exp()
    accept = uniform < acceptance
    return advance(state, new, accept, acceptance, num_steps=num_steps)


def advance(
    state: DiscreteState,
    new: Proposed,
    accept: Tensor,
    acceptance: Tensor,
    *,
    num_steps: int,
) -> tuple[DiscreteState, Transition]:
    """The state after a step in which chains that ``accept`` [chains] go on, and its report."""
    n_steps = state.n_steps + 1
    done = n_steps >= num_steps
    acceptance_sum = state.acceptance_sum + acceptance
    state = state._replace(
        fresh=done,
        position=torch.where(accept, new.position, state.position),
        log_density=torch.where(accept, new.log_density, state.log_density),
        changes=torch.where(accept, new.changes, state.changes),
        n_steps=n_steps,
        acceptance_sum=acceptance_sum,
    )
    no = torch.zeros_like(done)
    return state, Transition(
        done=done,
        position=state.position,
        gradient=state.changes,
        log_density=state.log_density,
        acceptance_rate=acceptance_sum / n_steps,
        energy=-state.log_density,
        energy_error=torch.zeros_like(state.log_density),
        tree_depth=torch.zeros_like(n_steps),
        n_steps=n_steps,
        diverging=no,
        reached_max_treedepth=no,
        step_size=state.step_size,
    )


def drawn(logits: Tensor, uniform: Tensor) -> Tensor:
    """Indices drawn with probabilities softmax(logits) over the axis before the last.

    :param logits: [*sites, K, chains].
    :param uniform: uniform numbers [*sites, chains].
    :returns: [*sites, chains], of the type of the uniform numbers.
    """
    cumulated = (logits - logits.amax(-2, keepdim=True)).exp().double().cumsum(-2)
    reached = uniform[..., None, :] * cumulated[..., -1:, :] >= cumulated[..., :-1, :]
    return reached.sum(-2).to(uniform)


def here(position: Tensor, changes: Tensor) -> Tensor:
    """Which state each site is in [dim, K, chains]."""
    states = torch.arange(changes.shape[1], device=position.device)
    return position[:, None] == states[:, None]


def at(values: Tensor, position: Tensor) -> Tensor:
    """Of values [dim, K, chains] those of the states of a position, [dim, chains]."""
    return values.gather(1, position.long()[:, None])[:, 0]
