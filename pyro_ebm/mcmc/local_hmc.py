"""HMC whose step size follows the local scale: short where the density is steep, long where flat.

A transition draws its step size from a log-normal around a value that depends on the gradient where
it starts,

    log e ~ N(log e0 + s(x), spread^2),   s(x) = -1/2 log((|L^T g(x)|^2 / dim + 1) / 2),

goes a fixed number of leapfrog steps of that size, and is accepted with probability
min(1, exp(H(x) - H(y)) N(log e | y) / N(log e | x)): the size is a variable that is drawn anew
given the position and then left alone, so that the target stays invariant. In a funnel, where no
one step size suits neck and mouth, this is what moves the particles in both.

Source: Bou-Rabee, Carpenter, Marsden (2024), GIST: Gibbs self-tuning for locally adaptive
Hamiltonian Monte Carlo.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .hmc import arrive
from .integrators import PhasePoint, kinetic_energy, leapfrog
from .kernel import (
    MAX_ENERGY_ERROR,
    Kernel,
    LogDensityAndGradient,
    Noise,
    Settings,
    Transition,
    choose,
)
from .metric import force


class LocalHMCState(NamedTuple):
    """A chain in the middle of its trajectory, and the point from which it started.

    ``step_size`` is the one drawn for this transition; ``surprise`` is minus twice the logarithm of
    its density at the start, up to a constant.
    """

    fresh: Tensor
    point: PhasePoint
    start: Tensor
    start_gradient: Tensor
    start_log_density: Tensor
    initial_energy: Tensor
    surprise: Tensor
    diverging: Tensor
    n_steps: Tensor
    step_size: Tensor
    version: Tensor


def local_hmc(*, num_steps: int, spread: float = 0.5) -> Kernel:
    """HMC with a number of leapfrog steps of a size drawn at the start of every transition.

    :param spread: the standard deviation of the logarithm of the step size at one position.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if not spread > 0.0:
        raise ValueError(f"spread must be positive, got {spread}.")

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> LocalHMCState:
        chains = position.shape[1]
        empty = torch.zeros_like(position)
        zero = torch.zeros_like(log_density)
        no = torch.zeros(chains, dtype=torch.bool, device=position.device)
        return LocalHMCState(
            fresh=~no,
            point=PhasePoint(position, empty, empty),
            start=position,
            start_gradient=gradient,
            start_log_density=log_density,
            initial_energy=zero,
            surprise=zero,
            diverging=no,
            n_steps=torch.zeros(chains, dtype=torch.long, device=position.device),
            step_size=settings.step_size.expand(chains).clone(),
            version=settings.version.expand(chains).clone(),
        )

    def begin(state: LocalHMCState, noise: Noise, settings: Settings) -> LocalHMCState:
        fresh = state.fresh
        version = torch.where(fresh, settings.version, state.version)
        push = force(settings.metric, version, state.start_gradient)
        energy = kinetic_energy(noise.normal) - state.start_log_density
        deviation = torch.special.ndtri(noise.uniform[0].clamp(1e-6, 1.0 - 1e-6))
        drawn = settings.step_size * (_local_log_scale(push) + spread * deviation).exp()
        return state._replace(
            point=choose(fresh, PhasePoint(state.start, noise.normal, push), state.point),
            initial_energy=torch.where(fresh, energy, state.initial_energy),
            surprise=torch.where(fresh, deviation.square(), state.surprise),
            diverging=state.diverging & ~fresh,
            n_steps=torch.where(fresh, 0, state.n_steps),
            step_size=torch.where(fresh, drawn, state.step_size),
            version=version,
        )

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: LocalHMCState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[LocalHMCState, Transition]:
        state = begin(state, noise, settings)
        leap = leapfrog(
            log_density_and_gradient,
            state.point,
            state.step_size,
            settings.metric,
            state.version,
        )
        energy = kinetic_energy(leap.point.momentum) - leap.log_density
        delta = energy - state.initial_energy
        delta = torch.where(delta.isnan(), torch.inf, delta)
        diverging = state.diverging | (delta > MAX_ENERGY_ERROR)
        done = (state.n_steps + 1 >= num_steps) | delta.isinf()
        # How likely the end would have been to draw the same step size.
        local = settings.step_size.log() + _local_log_scale(leap.point.force)
        back = ((state.step_size.log() - local) / spread).square()
        log_ratio = -delta - 0.5 * (back - state.surprise)
        log_ratio = torch.where(log_ratio.isnan(), -torch.inf, log_ratio)
        acceptance = torch.where(done, log_ratio.clamp(max=0.0).exp(), 0.0)
        return arrive(
            state,
            leap,
            energy=energy,
            delta=delta,
            done=done,
            diverging=diverging,
            accept=done & (noise.uniform[1] < acceptance),
            acceptance=acceptance,
        )

    return Kernel(init, step, uniforms=2)


def _local_log_scale(push: Tensor) -> Tensor:
    """s [chains] of whitened forces [dim, chains]."""
    return -0.5 * (0.5 * (push.square().mean(0) + 1.0)).log()
