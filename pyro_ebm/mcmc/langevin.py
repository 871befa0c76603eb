"""Langevin dynamics that nobody corrects: drift along the gradient, noise, and no rejection.

    x' = x + (e^2/2) L L^T grad log p(x) + e s L z,   z standard normal.

With s = 1 this is one leapfrog step of size e, whose error the Metropolis rule would take away
(:mod:`.hmc` with one step). Without that rule the chain samples another density than p, off by an
amount that falls with e; with s below 1 a colder one. Learning an energy can live with this, as the
sampler is then part of what is learned; nothing else in this package can.

Source: Roberts, Tweedie (1996), Exponential convergence of Langevin distributions and their
discrete approximations; Nijkamp, Hill, Zhu, Wu (2019), Learning non-convergent non-persistent
short-run MCMC toward energy-based model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from .metric import force, velocity


class LangevinState(NamedTuple):
    """Chains with their gradients; every step is a whole transition."""

    fresh: Tensor
    position: Tensor
    gradient: Tensor
    version: Tensor


def unadjusted_langevin(*, noise_scale: float = 1.0) -> Kernel:
    """Langevin steps without a Metropolis rule: biased, for the negative phase of learning.

    :param noise_scale: s, the noise as a multiple of that which fits the drift.
    """
    if not noise_scale >= 0.0:
        raise ValueError(f"noise_scale must be at least 0, got {noise_scale}.")

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> LangevinState:
        chains = position.shape[1]
        yes = torch.ones(chains, dtype=torch.bool, device=position.device)
        return LangevinState(yes, position, gradient, settings.version.expand(chains).clone())

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: LangevinState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[LangevinState, Transition]:
        size, version = settings.step_size, state.version
        push = 0.5 * size * force(settings.metric, version, state.gradient)
        momentum = push + noise_scale * noise.normal
        position = state.position + size * velocity(settings.metric, version, momentum)
        log_density, gradient = log_density_and_gradient(position)
        one = torch.ones_like(log_density)
        none = torch.zeros_like(state.fresh, dtype=torch.long)
        no = torch.zeros_like(state.fresh)
        return state._replace(position=position, gradient=gradient), Transition(
            done=state.fresh,
            position=position,
            gradient=gradient,
            log_density=log_density,
            acceptance_rate=one,
            energy=-log_density,
            energy_error=torch.zeros_like(log_density),
            tree_depth=none,
            n_steps=none + 1,
            diverging=no,
            reached_max_treedepth=no,
            step_size=size.expand_as(one),
        )

    return Kernel(init, step, uniforms=0)
