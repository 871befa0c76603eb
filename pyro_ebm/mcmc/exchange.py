"""The exchange algorithm: posteriors of parameters whose likelihood lacks log Z(theta).

With p(x | theta) = f(x; theta) / Z(theta) the ratio of two posterior densities has the unknown
Z(theta) / Z(theta'). Data y drawn from the model at the proposed theta' stand in for it: the move
from theta to theta' is accepted with probability

    min(1, p(theta') f(x; theta') / (p(theta) f(x; theta)) * f(y; theta) / f(y; theta')),

in which all Z cancel, and the posterior is exact if y is an exact draw. The last factor is a noisy
estimate of Z(theta) / Z(theta'), and its noise costs acceptance; a path from theta' to theta with
K densities between, f(.; theta')^(1-b) f(.; theta)^b, and a transition of y at each, is less noisy,
and exact as well. Proposals are normal steps from theta, all coordinates together.

Source: Murray, Ghahramani, MacKay (2006), MCMC for doubly-intractable distributions; with y the end
of a Markov chain that begins at the data: Liang (2010), A double Metropolis-Hastings sampler for
spatial models with intractable normalizing constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from .metric import velocity

# log of an estimate of Z(theta) / Z(theta'), of theta', theta [dim, chains] and uniform numbers.
LogRatio = Callable[[Tensor, Tensor, Tensor], Tensor]

# Uniform numbers of a chain that are drawn at once.
_NUMBERS = 2**12


class ExchangeState(NamedTuple):
    """Chains between two steps: positions with log densities and gradients that lack log Z."""

    fresh: Tensor
    position: Tensor
    log_density: Tensor
    gradient: Tensor
    version: Tensor


def exchange(log_ratio: LogRatio, *, uniforms: int) -> Kernel:
    """The exchange algorithm; a step is a transition.

    :param log_ratio: the log of what stands in for Z(theta) / Z(theta').
    :param uniforms: how many uniform numbers of a chain it takes.
    """

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> ExchangeState:
        fresh = torch.ones_like(log_density, dtype=torch.bool)
        version = settings.version.expand(len(fresh)).clone()
        return ExchangeState(fresh, position, log_density, gradient, version)

    def step(
        density: LogDensityAndGradient, state: ExchangeState, noise: Noise, settings: Settings
    ) -> tuple[ExchangeState, Transition]:
        way = velocity(settings.metric, settings.version, noise.normal)
        proposed = state.position + settings.step_size * way
        log_density, gradient = density(proposed)
        # A proposal without a density is rejected, and no data are drawn at it.
        possible = log_density.isfinite()
        at = torch.where(possible, proposed, state.position)
        ratio = log_ratio(at, state.position, noise.uniform[1:])
        log_acceptance = log_density - state.log_density + ratio
        acceptance = log_acceptance.nan_to_num(-torch.inf, torch.inf).clamp(max=0.0).exp()
        acceptance = torch.where(possible, acceptance, 0.0)
        accept = noise.uniform[0] < acceptance
        new = state._replace(
            position=torch.where(accept, proposed, state.position),
            log_density=torch.where(accept, log_density, state.log_density),
            gradient=torch.where(accept, gradient, state.gradient),
        )
        no, none = torch.zeros_like(accept), torch.zeros_like(state.version)
        return new, Transition(
            done=~no,
            position=new.position,
            gradient=new.gradient,
            log_density=new.log_density,
            acceptance_rate=acceptance,
            energy=-new.log_density,
            energy_error=torch.zeros_like(acceptance),
            tree_depth=none,
            n_steps=none + 1,
            diverging=no,
            reached_max_treedepth=no,
            step_size=settings.step_size.expand(len(accept)),
        )

    block = max(1, min(Kernel(init, step, 0).block, _NUMBERS // uniforms))
    return Kernel(init, step, uniforms=1 + uniforms, block=block)
