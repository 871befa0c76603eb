"""Hamiltonian Monte Carlo with a trajectory of given length, desynchronised like NUTS.

A transition draws a momentum, follows the Hamiltonian flow for a length in time, and accepts its
end with probability min(1, exp(H(start) - H(end))). The length may be jittered per transition,
which keeps a trajectory from closing on itself. A single leapfrog step is the Metropolis-adjusted
Langevin algorithm.

Source: Duane, Kennedy, Pendleton, Roweth (1987), Hybrid Monte Carlo; Neal (2011), MCMC using
Hamiltonian dynamics.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .integrators import Leap, PhasePoint, kinetic_energy, leapfrog
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

MAX_STEPS = 1024


class HMCState(NamedTuple):
    """A chain in the middle of its trajectory, and the point from which it started."""

    fresh: Tensor
    point: PhasePoint
    start: Tensor
    start_gradient: Tensor
    start_log_density: Tensor
    initial_energy: Tensor
    diverging: Tensor
    n_steps: Tensor
    length: Tensor
    step_size: Tensor
    version: Tensor


def hmc(
    *,
    trajectory_length: float | int | None = None,
    num_steps: int | None = None,
    jitter: float | int = 0.0,
) -> Kernel:
    """HMC with a fixed length in time, or a fixed number of leapfrog steps.

    :param trajectory_length: in units of time of the whitened flow; the number of steps is this
        over the step size, at least one and at most 1024.
    :param num_steps: instead, a number of steps whatever their size.
    :param jitter: each transition's length is uniform within 1 - jitter and 1 + jitter times it.
    """
    if (trajectory_length is None) == (num_steps is None):
        raise ValueError("Give exactly one of trajectory_length and num_steps.")
    if trajectory_length is not None and not trajectory_length > 0:
        raise ValueError(f"trajectory_length must be positive, got {trajectory_length}.")
    if num_steps is not None and num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if not 0.0 <= jitter < 1.0:
        raise ValueError(f"jitter must lie in [0, 1), got {jitter}.")

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> HMCState:
        chains = position.shape[1]
        empty = torch.zeros_like(position)
        no = torch.zeros(chains, dtype=torch.bool, device=position.device)
        count = torch.zeros(chains, dtype=torch.long, device=position.device)
        return HMCState(
            fresh=~no,
            point=PhasePoint(position, empty, empty),
            start=position,
            start_gradient=gradient,
            start_log_density=log_density,
            initial_energy=torch.zeros_like(log_density),
            diverging=no,
            n_steps=count,
            length=count + 1,
            step_size=settings.step_size.expand(chains).clone(),
            version=settings.version.expand(chains).clone(),
        )

    def length_of(noise: Noise, settings: Settings) -> Tensor:
        stretch = 1.0 + jitter * (2.0 * noise.uniform[0] - 1.0)
        if trajectory_length is not None:
            length = trajectory_length * stretch / settings.step_size
            return length.floor().clamp(min=1, max=MAX_STEPS).long()
        assert num_steps is not None
        return (num_steps * stretch).round().clamp(min=1).long()

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: HMCState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[HMCState, Transition]:
        state = set_out(state, noise, settings, length_of(noise, settings))
        return follow(log_density_and_gradient, state, noise.uniform[1], settings)

    return Kernel(init, step, uniforms=2)


def restarted(
    state: HMCState, where: Tensor, position: Tensor, log_density: Tensor, gradient: Tensor
) -> HMCState:
    """The state in which chains ``where`` [chains] begin a transition at other values."""
    return state._replace(
        fresh=state.fresh | where,
        start=torch.where(where, position, state.start),
        start_gradient=torch.where(where, gradient, state.start_gradient),
        start_log_density=torch.where(where, log_density, state.start_log_density),
    )


def set_out(state: Any, noise: Noise, settings: Settings, length: Tensor) -> Any:
    """The state in which every fresh chain starts on ``length`` [chains] leapfrog steps."""
    fresh = state.fresh
    version = torch.where(fresh, settings.version, state.version)
    push = force(settings.metric, version, state.start_gradient)
    energy = kinetic_energy(noise.normal) - state.start_log_density
    return state._replace(
        point=choose(fresh, PhasePoint(state.start, noise.normal, push), state.point),
        initial_energy=torch.where(fresh, energy, state.initial_energy),
        diverging=state.diverging & ~fresh,
        n_steps=torch.where(fresh, 0, state.n_steps),
        length=torch.where(fresh, length, state.length),
        step_size=torch.where(fresh, settings.step_size, state.step_size),
        version=version,
    )


def follow(
    log_density_and_gradient: LogDensityAndGradient,
    state: Any,
    uniform: Tensor,
    settings: Settings,
) -> tuple[Any, Transition]:
    """One leapfrog step of every chain; where a trajectory ends, ``uniform`` [chains] decides."""
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
    # A point of infinite energy ends the trajectory: seen from either end it is the same point,
    # so that the rejection is reversible. A large but finite error is followed to the end.
    diverging = state.diverging | (delta > MAX_ENERGY_ERROR)
    done = (state.n_steps + 1 >= state.length) | delta.isinf()
    acceptance = torch.where(done, (-delta).clamp(max=0.0).exp(), 0.0)
    return arrive(
        state,
        leap,
        energy=energy,
        delta=delta,
        done=done,
        diverging=diverging,
        accept=done & (uniform < acceptance),
        acceptance=acceptance,
    )


def arrive(
    state: Any,
    leap: Leap,
    *,
    energy: Tensor,
    delta: Tensor,
    done: Tensor,
    diverging: Tensor,
    accept: Tensor,
    acceptance: Tensor,
) -> tuple[Any, Transition]:
    """The state after a leapfrog step, and what it reports: shared by kernels whose trajectory has
    one end, where chains that ``accept`` [chains] it take it for their next start.
    """
    n_steps = state.n_steps + 1
    position = torch.where(accept, leap.point.position, state.start)
    gradient = torch.where(accept, leap.gradient, state.start_gradient)
    log_density = torch.where(accept, leap.log_density, state.start_log_density)
    new = state._replace(
        fresh=done,
        point=leap.point,
        start=position,
        start_gradient=gradient,
        start_log_density=log_density,
        diverging=diverging,
        n_steps=n_steps,
    )
    transition = Transition(
        done=done,
        position=position,
        gradient=gradient,
        log_density=log_density,
        acceptance_rate=acceptance,
        energy=torch.where(accept, energy, state.initial_energy),
        energy_error=torch.where(accept, delta, 0.0),
        tree_depth=torch.zeros_like(n_steps),
        n_steps=n_steps,
        diverging=diverging,
        reached_max_treedepth=torch.zeros_like(done),
        step_size=state.step_size,
    )
    return new, transition
