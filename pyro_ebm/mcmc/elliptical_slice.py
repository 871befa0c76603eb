"""Elliptical slice sampling: for densities that are a Gaussian times anything, without gradients.

Let p(x) be proportional to N(x; m, L L^T) exp(l(x)). A direction nu is drawn from the Gaussian, and
an ellipse goes through x and nu,

    x(a) = m + (x - m) cos a + L z sin a,   z standard normal,

along which the Gaussian is invariant. Points on it are tried, from a bracket of angles around the
present one that shrinks to the side of each that fails, until l(x(a)) exceeds log u + l(x): there
always is one. Nothing is tuned, and l may be flat, or jump, as the number of errors of a perceptron
does. Any Gaussian is right, as l is what remains of the log density when it is taken away; a good
one is near to p.

One step tries one angle for every chain. Chains that fail try again, the others begin anew.

Source: Murray, Adams, MacKay (2010), Elliptical slice sampling.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition


class SliceState(NamedTuple):
    """Chains on their ellipses: where they are, through what ``direction`` [dim, chains] each goes,
    the level to exceed, and the angles between which the next is drawn."""

    fresh: Tensor
    position: Tensor
    gradient: Tensor
    log_density: Tensor
    direction: Tensor
    level: Tensor
    low: Tensor
    high: Tensor
    n_steps: Tensor
    version: Tensor


def elliptical_slice(mean: Tensor, factor: Tensor) -> Kernel:
    """Elliptical slice sampling beside a Gaussian.

    :param mean: m [dim].
    :param factor: L, lower triangular [dim, dim], or the standard deviations [dim].
    :raises ValueError: shapes that do not agree; a factor that is not positive.
    """
    if mean.dim() != 1 or factor.shape not in ((len(mean),), (len(mean), len(mean))):
        raise ValueError(
            f"expected a mean [dim] and a factor [dim, dim] or [dim], got {tuple(mean.shape)} and "
            f"{tuple(factor.shape)}."
        )
    diagonal = factor if factor.dim() == 1 else factor.diagonal()
    if not bool((diagonal > 0).all()):
        raise ValueError("expected a factor with a positive diagonal.")

    def log_rest(position: Tensor, log_density: Tensor) -> Tensor:
        """l [chains], up to a constant; what is no number has no density."""
        apart = position - mean.to(position)[:, None]
        scale = factor.to(position)
        if scale.dim() == 1:
            white = apart / scale[:, None]
        else:
            white = torch.linalg.solve_triangular(scale, apart, upper=False)
        rest = log_density + 0.5 * white.square().sum(0)
        return torch.where(rest.isnan(), -torch.inf, rest)

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> SliceState:
        chains = position.shape[1]
        zero = torch.zeros_like(log_density)
        no = torch.zeros(chains, dtype=torch.bool, device=position.device)
        return SliceState(
            fresh=~no,
            position=position,
            gradient=gradient,
            log_density=log_density,
            direction=torch.zeros_like(position),
            level=zero,
            low=zero,
            high=zero,
            n_steps=no.long(),
            version=settings.version.expand(chains).clone(),
        )

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: SliceState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[SliceState, Transition]:
        fresh, centre, scale = state.fresh, mean.to(noise.normal)[:, None], factor.to(noise.normal)
        push = scale[:, None] * noise.normal if scale.dim() == 1 else scale @ noise.normal
        direction = torch.where(fresh, push, state.direction)
        # log(1 - u) is finite, so that a chain on a plateau accepts its like, and none of zero.
        level = log_rest(state.position, state.log_density) + (1.0 - noise.uniform[0]).log()
        level = torch.where(fresh, level, state.level)
        first = 2.0 * math.pi * noise.uniform[1]
        between = state.low + noise.uniform[1] * (state.high - state.low)
        angle = torch.where(fresh, first, between)
        low = torch.where(fresh, first - 2.0 * math.pi, state.low)
        high = torch.where(fresh, first, state.high)
        position = centre + (state.position - centre) * angle.cos() + direction * angle.sin()
        log_density, gradient = log_density_and_gradient(position)
        accept = log_rest(position, log_density) >= level
        n_steps = torch.where(fresh, 0, state.n_steps) + 1
        version = torch.where(fresh, settings.version, state.version)
        state = SliceState(
            fresh=accept,
            position=torch.where(accept, position, state.position),
            gradient=torch.where(accept, gradient, state.gradient),
            log_density=torch.where(accept, log_density, state.log_density),
            direction=direction,
            level=level,
            low=torch.where(angle < 0, angle, low),
            high=torch.where(angle < 0, high, angle),
            n_steps=n_steps,
            version=version,
        )
        no = torch.zeros_like(accept)
        return state, Transition(
            done=accept,
            position=state.position,
            gradient=state.gradient,
            log_density=state.log_density,
            acceptance_rate=torch.ones_like(log_density),
            energy=-state.log_density,
            energy_error=torch.zeros_like(log_density),
            tree_depth=torch.zeros_like(n_steps),
            n_steps=n_steps,
            diverging=no,
            reached_max_treedepth=no,
            step_size=settings.step_size.expand_as(log_density),
        )

    return Kernel(init, step, uniforms=2)
