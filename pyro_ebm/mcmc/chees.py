"""HMC whose trajectory length is learned from all chains together, and shared by them.

A transition follows the flow for a length in time that is spread evenly around the published one,

    t = T (1 + jitter (2u - 1)),

and accepts its end as HMC does. A spread of lengths moves the fast directions, whatever their
period, together with the slow ones that T is learned for. In the n-th transition of chain c the u
is the fractional part of (c + n) (sqrt(5) - 1) / 2, a sequence of low discrepancy: no run of short
trajectories follows by chance. It depends on nothing but the two numbers, so that every transition
is an HMC of given length, and chains need not wait for one another to share it.

Source: Hoffman, Radul, Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths in
Hamiltonian Monte Carlo.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .hmc import follow, set_out
from .integrators import PhasePoint
from .kernel import Kernel, LogDensityAndGradient, Noise, Proposal, Settings, Transition

# The golden section in units of 2^-32: exact in integers however many transitions there are.
_GOLDEN, _UNIT = 2654435769, 2**32


class ChEESState(NamedTuple):
    """A chain in the middle of its trajectory, and the point from which it started.

    ``order`` numbers the transitions in the sequence of lengths.
    """

    fresh: Tensor
    point: PhasePoint
    start: Tensor
    start_gradient: Tensor
    start_log_density: Tensor
    initial_energy: Tensor
    diverging: Tensor
    n_steps: Tensor
    length: Tensor
    order: Tensor
    step_size: Tensor
    version: Tensor


def chees(*, jitter: float | int = 1.0) -> Kernel:
    """HMC of the length that ``settings.trajectory_length`` says, which warm-up learns.

    Trajectories have at least one step and at most 2^max_tree_depth - 1.

    :param jitter: lengths are spread over 1 - jitter to 1 + jitter times the learned one.
    :raises ValueError: for a jitter outside [0, 1].
    """
    if not 0.0 <= jitter <= 1.0:
        raise ValueError(f"jitter must lie in [0, 1], got {jitter}.")

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> ChEESState:
        chains = position.shape[1]
        empty = torch.zeros_like(position)
        no = torch.zeros(chains, dtype=torch.bool, device=position.device)
        count = torch.zeros(chains, dtype=torch.long, device=position.device)
        return ChEESState(
            fresh=~no,
            point=PhasePoint(position, empty, empty),
            start=position,
            start_gradient=gradient,
            start_log_density=log_density,
            initial_energy=torch.zeros_like(log_density),
            diverging=no,
            n_steps=count,
            length=count + 1,
            order=torch.arange(chains, device=position.device),
            step_size=settings.step_size.expand(chains).clone(),
            version=settings.version.expand(chains).clone(),
        )

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: ChEESState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[ChEESState, Transition]:
        assert settings.trajectory_length is not None, "no trajectory length has been published"
        most = 2**settings.max_tree_depth - 1
        u = ((state.order * _GOLDEN) % _UNIT).to(noise.uniform) / _UNIT
        duration = settings.trajectory_length * (1.0 + jitter * (2.0 * u - 1.0))
        wanted = (duration / settings.step_size).round().clamp(min=1)
        state = set_out(state, noise, settings, torch.minimum(wanted, most).long())
        state = state._replace(order=state.order + state.fresh)
        start = state.start
        state, transition = follow(log_density_and_gradient, state, noise.uniform[0], settings)
        return state, transition._replace(
            tree_depth=(transition.n_steps + 0.5).log2().ceil().long(),
            reached_max_treedepth=transition.done & (state.length >= most),
            proposal=Proposal(start, state.point.position, state.point.momentum),
        )

    return Kernel(init, step, uniforms=1)
