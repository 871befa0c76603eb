"""Gibbs with gradients: one change at a time, the most telling ones proposed most often.

A step proposes to put site i into another state k with probability

    q(i, k | x) proportional to exp(changes[i, k] / 2),

the square root being the balance that makes most proposals acceptable whatever the energy, and
accepts by Metropolis-Hastings with the changes at the new configuration. Where changes are guessed
from a gradient this is exact too.

Source: Grathwohl, Swersky, Hashemi, Duvenaud, Maddison (2021), Oops I took a gradient: scalable
sampling for discrete distributions; Zanella (2020), Informed proposals for local MCMC in discrete
spaces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .discrete import (
    DiscreteState,
    LogDensityAndChanges,
    Proposed,
    drawn,
    here,
    judge,
    set_out,
    start,
)
from .kernel import Kernel, Noise, Settings, Transition


def gibbs_with_gradients(*, num_steps: int = 1) -> Kernel:
    """Locally balanced single changes.

    :param num_steps: proposals of a transition.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")

    def step(
        density: LogDensityAndChanges, state: DiscreteState, noise: Noise, settings: Settings
    ) -> tuple[DiscreteState, Transition]:
        state = set_out(state, settings)
        dim, states, _ = state.changes.shape
        log_q = _log_proposal(state.position, state.changes)
        chosen = drawn(log_q, noise.uniform[0]).long()
        site, k = chosen // states, (chosen % states).to(state.position)
        is_site = torch.arange(dim, device=site.device)[:, None] == site
        position = torch.where(is_site, k, state.position)
        log_density, changes = density(position)
        before = (is_site * state.position).sum(0).long()
        back = _log_proposal(position, changes).gather(0, (site * states + before)[None])[0]
        forth = log_q.gather(0, chosen[None])[0]
        new = Proposed(position, log_density, changes, back - forth)
        return judge(state, new, noise.uniform[1], num_steps=num_steps)

    return Kernel(start, step, uniforms=2, normals=False)


def _log_proposal(position: Tensor, changes: Tensor) -> Tensor:
    """log q(i, k | x) [dim * K, chains]."""
    weight = torch.where(here(position, changes), -torch.inf, 0.5 * changes)
    return weight.flatten(0, 1).log_softmax(0)
