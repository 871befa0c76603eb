"""The discrete Langevin proposal: every site may change at each step, independently of the others.

Site i goes to state k with probability

    q_i(k | x) proportional to exp(changes[i, k] / 2 - [k is another state] / (2 a)),

a logistic function where there are two states: half of the change pulls, as the gradient pulls in
a Langevin step, and the step size a says how readily sites move at all. The whole proposal is
accepted by Metropolis-Hastings; warm-up tunes the step size to the acceptance rate that is best for
locally balanced proposals.

Source: Zhang, Liu, Liu (2022), A Langevin-like sampler for discrete distributions; Sun, Dai,
Schuurmans (2022), Optimal scaling for locally balanced proposals in discrete spaces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .discrete import (
    DiscreteState,
    LogDensityAndChanges,
    Proposed,
    at,
    drawn,
    here,
    judge,
    set_out,
    start,
)
from .kernel import Kernel, Noise, Settings, Transition


def discrete_langevin(dim: int, *, num_steps: int = 1) -> Kernel:
    """Discrete Metropolis-adjusted Langevin.

    :param dim: the number of sites.
    :param num_steps: proposals of a transition.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")

    def step(
        density: LogDensityAndChanges, state: DiscreteState, noise: Noise, settings: Settings
    ) -> tuple[DiscreteState, Transition]:
        state = set_out(state, settings)
        forth = _log_proposal(state.position, state.changes, state.step_size)
        position = drawn(forth, noise.uniform[:dim])
        log_density, changes = density(position)
        back = _log_proposal(position, changes, state.step_size)
        ratio = at(back, state.position).double().sum(0) - at(forth, position).double().sum(0)
        new = Proposed(position, log_density, changes, ratio.to(log_density))
        return judge(state, new, noise.uniform[dim], num_steps=num_steps)

    return Kernel(start, step, uniforms=dim + 1, normals=False)


def _log_proposal(position: Tensor, changes: Tensor, step_size: Tensor) -> Tensor:
    """log q_i(k | x) [dim, K, chains]."""
    reluctance = torch.where(here(position, changes), 0.0, 0.5 / step_size)
    return (0.5 * changes - reluctance).log_softmax(1)
