"""Chains over the latents of rows, each row's posterior its own: HMC on all of them at once.

Rows do not interact, so that one batched gradient moves every chain. All chains share a step size,
which follows the acceptance rate; each transition leaves the posteriors under the present
parameters invariant, so that chains which are kept from step to step of learning follow them.

Source: Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model; Tieleman
(2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.kernel import Settings
from pyro_ebm.mcmc.metric import DiagonalMetric
from pyro_ebm.mcmc.transitions import one_transition

LogJoint = Callable[[Tensor], Tensor]

_LEAPS, _JITTER = 6, 0.3
_WISHED = 0.75
_GAIN, _FIRST_GAIN = 0.05, 0.5
_FIRST_STEP = 0.1


class StepSize(NamedTuple):
    """The step size that all chains share, and how often it was adapted."""

    size: float = _FIRST_STEP
    updates: int = 0

    def towards(self, acceptance: float) -> StepSize:
        """Larger where more was accepted than is wished for."""
        gain = max(_GAIN, _FIRST_GAIN / math.sqrt(1.0 + self.updates))
        return StepSize(self.size * math.exp(gain * (acceptance - _WISHED)), self.updates + 1)


class MovedLatents(NamedTuple):
    """Latents [n, d] after some transitions, with the mean acceptance rate of these."""

    latents: Tensor
    step_size: StepSize
    acceptance: float


def move_latents(
    log_joint: LogJoint,
    latents: Float[Tensor, "n d"],
    step_size: StepSize,
    *,
    transitions: int,
    generator: torch.Generator,
    adapt: bool = True,
) -> MovedLatents:
    """Every chain after so many transitions of HMC.

    :param log_joint: log p(x_i, z_i) but for a constant, from latents [n, d] to [n].
    :param latents: where the chains are.
    """
    kernel = hmc(num_steps=_LEAPS, jitter=_JITTER)
    positions = latents.detach().T.contiguous()
    zero = torch.zeros((), dtype=torch.long, device=positions.device)
    metric = DiagonalMetric(positions.new_ones(1, len(positions)))
    acceptance = 0.0

    def log_density_and_gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = z.T.contiguous().requires_grad_()
            log_density = log_joint(leaf)
            (gradient,) = torch.autograd.grad(log_density.sum(), leaf)
        return log_density.detach(), gradient.T.contiguous()

    for _ in range(transitions):
        sizes = positions.new_full((positions.shape[1],), step_size.size)
        settings = Settings(sizes, metric, zero, zero + 10)
        begun = kernel.init(positions, *log_density_and_gradient(positions), settings)
        moved = one_transition(
            kernel,
            lambda chain, noise, settings=settings: kernel.step(
                log_density_and_gradient, chain, noise, settings
            ),
            begun,
            positions,
            generator,
        )
        positions = moved.positions
        rate = float(moved.acceptance.mean())
        acceptance += rate / transitions
        if adapt:
            step_size = step_size.towards(rate)
    return MovedLatents(positions.T.contiguous(), step_size, acceptance)
