"""The no-U-turn sampler, desynchronised: one leapfrog step of every chain's own tree per call.

A transition doubles its trajectory, forwards or backwards at random, until it turns, diverges or
reaches the greatest depth. The next state is drawn from the trajectory with the multinomial weights
exp(-H): uniformly within a new half, and biased towards the new half between halves.

Source: Hoffman, Gelman (2014), The No-U-Turn Sampler; Betancourt (2017), A conceptual introduction
to Hamiltonian Monte Carlo; the iterative form: Phan, Pradhan, Jankowiak (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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
from .trajectory import Checkpoints, CheckTable, check_table, crosses_middle, extend, is_turning


class Draw(NamedTuple):
    """A point chosen from a trajectory: position, its plain gradient, log density and energy H."""

    position: Tensor
    gradient: Tensor
    log_density: Tensor
    energy: Tensor


class NUTSState(NamedTuple):
    """Everything a chain needs in the middle of its tree.

    ``moving`` is the end that grows, ``idle`` the other; ``forward`` whether the moving end is the
    later one in time. ``tree`` and ``half`` are the draws from the whole tree and from the new half
    under construction, with their log weights and momentum sums; ``leaf`` counts the leaves of the
    new half. ``fresh`` chains start a transition at their next step.
    """

    fresh: Tensor
    moving: PhasePoint
    idle: PhasePoint
    forward: Tensor
    tree: Draw
    tree_log_weight: Tensor
    tree_momentum_sum: Tensor
    half: Draw
    half_log_weight: Tensor
    half_momentum_sum: Tensor
    leaf: Tensor
    depth: Tensor
    max_depth: Tensor
    checkpoints: Checkpoints
    initial_energy: Tensor
    acceptance_sum: Tensor
    n_steps: Tensor
    step_size: Tensor
    version: Tensor


def nuts(*, max_tree_depth: int = 10) -> Kernel:
    """NUTS with multinomial weights and trees of at most 2^max_tree_depth - 1 leapfrog steps."""
    if max_tree_depth < 1:
        raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}.")

    table = check_table(max_tree_depth)
    tables: dict[torch.device, CheckTable] = {}

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> NUTSState:
        chains = position.shape[1]
        tables[position.device] = CheckTable(*(part.to(position.device) for part in table))
        zero = torch.zeros_like(log_density)
        count = torch.zeros(chains, dtype=torch.long, device=position.device)
        point = PhasePoint(position, torch.zeros_like(position), torch.zeros_like(position))
        draw = Draw(position, gradient, log_density, zero)
        empty = torch.zeros_like(position)
        rows = empty.expand(max(max_tree_depth - 1, 1), *position.shape)
        return NUTSState(
            fresh=torch.ones(chains, dtype=torch.bool, device=position.device),
            moving=point,
            idle=point,
            forward=torch.ones(chains, dtype=torch.bool, device=position.device),
            tree=draw,
            tree_log_weight=zero,
            tree_momentum_sum=empty,
            half=draw,
            half_log_weight=zero,
            half_momentum_sum=empty,
            leaf=count,
            depth=count,
            max_depth=count + max_tree_depth,
            checkpoints=Checkpoints(rows.clone(), rows.clone(), rows.clone()),
            initial_energy=zero,
            acceptance_sum=zero,
            n_steps=count,
            step_size=settings.step_size.expand(chains).clone(),
            version=settings.version.expand(chains).clone(),
        )

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: NUTSState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[NUTSState, Transition]:
        state = _begin(state, noise, settings)
        state = _turn_to(state, noise.uniform[0] < 0.5)
        signed = torch.where(state.forward, state.step_size, -state.step_size)
        leap = leapfrog(
            log_density_and_gradient, state.moving, signed, settings.metric, state.version
        )
        energy = kinetic_energy(leap.point.momentum) - leap.log_density
        delta = energy - state.initial_energy
        delta = torch.where(delta.isnan(), torch.inf, delta)
        diverging = delta > MAX_ENERGY_ERROR

        # The new leaf joins the new half, which keeps one of its leaves by weight.
        half_log_weight = torch.logaddexp(state.half_log_weight, -delta)
        take_leaf = noise.uniform[1].log() < -delta - half_log_weight
        leaf_draw = Draw(leap.point.position, leap.gradient, leap.log_density, energy)
        half = choose(take_leaf, leaf_draw, state.half)
        half_momentum_sum = state.half_momentum_sum + leap.point.momentum
        checkpoints, turned_inside = extend(
            state.checkpoints,
            tables[state.fresh.device],
            state.leaf,
            state.moving.momentum,
            leap.point.momentum,
            half_momentum_sum,
        )
        leaf = state.leaf + 1

        # A complete half without a turn joins the tree; the tree may then turn as a whole.
        failed = diverging | turned_inside
        complete = (leaf == 2**state.depth) & ~failed
        take_half = complete & (noise.uniform[2].log() < half_log_weight - state.tree_log_weight)
        tree = choose(take_half, half, state.tree)
        tree_log_weight = torch.where(
            complete, torch.logaddexp(state.tree_log_weight, half_log_weight), state.tree_log_weight
        )
        tree_momentum_sum = torch.where(
            complete, state.tree_momentum_sum + half_momentum_sum, state.tree_momentum_sum
        )
        depth = state.depth + complete
        # The first leaf of the half, and the old end of the tree before it, are at level 0.
        turned = is_turning(state.idle.momentum, leap.point.momentum, tree_momentum_sum)
        turned = turned | crosses_middle(
            state.idle.momentum,
            state.tree_momentum_sum,
            checkpoints.before[0],
            checkpoints.momentum[0],
            half_momentum_sum,
            leap.point.momentum,
        )
        at_max_depth = complete & (depth >= state.max_depth)
        done = failed | (complete & turned) | at_max_depth

        acceptance_sum = state.acceptance_sum + (-delta).clamp(max=0.0).exp()
        n_steps = state.n_steps + 1
        new = state._replace(
            fresh=done,
            moving=leap.point,
            tree=tree,
            tree_log_weight=tree_log_weight,
            tree_momentum_sum=tree_momentum_sum,
            half=half,
            half_log_weight=torch.where(complete, -torch.inf, half_log_weight),
            half_momentum_sum=torch.where(complete, 0.0, half_momentum_sum),
            leaf=torch.where(complete, 0, leaf),
            depth=depth,
            checkpoints=checkpoints,
            acceptance_sum=acceptance_sum,
            n_steps=n_steps,
        )
        transition = Transition(
            done=done,
            position=tree.position,
            gradient=tree.gradient,
            log_density=tree.log_density,
            acceptance_rate=acceptance_sum / n_steps,
            energy=tree.energy,
            energy_error=tree.energy - state.initial_energy,
            tree_depth=depth + failed,
            n_steps=n_steps,
            diverging=diverging,
            reached_max_treedepth=at_max_depth & ~turned,
            step_size=state.step_size,
        )
        return new, transition

    return Kernel(init, step, uniforms=3)


def _begin(state: NUTSState, noise: Noise, settings: Settings) -> NUTSState:
    """Fresh chains draw a momentum and take up the step size and metric that are published."""
    fresh = state.fresh
    version = torch.where(fresh, settings.version, state.version)
    push = force(settings.metric, version, state.tree.gradient)
    start = PhasePoint(state.tree.position, noise.normal, push)
    energy = kinetic_energy(noise.normal) - state.tree.log_density
    initial_energy = torch.where(fresh, energy, state.initial_energy)
    return state._replace(
        moving=choose(fresh, start, state.moving),
        idle=choose(fresh, start, state.idle),
        tree=state.tree._replace(energy=torch.where(fresh, energy, state.tree.energy)),
        tree_log_weight=torch.where(fresh, 0.0, state.tree_log_weight),
        tree_momentum_sum=torch.where(fresh, noise.normal, state.tree_momentum_sum),
        half_log_weight=torch.where(fresh, -torch.inf, state.half_log_weight),
        half_momentum_sum=torch.where(fresh, 0.0, state.half_momentum_sum),
        leaf=torch.where(fresh, 0, state.leaf),
        depth=torch.where(fresh, 0, state.depth),
        max_depth=torch.where(fresh, settings.max_tree_depth, state.max_depth),
        initial_energy=initial_energy,
        acceptance_sum=torch.where(fresh, 0.0, state.acceptance_sum),
        n_steps=torch.where(fresh, 0, state.n_steps),
        step_size=torch.where(fresh, settings.step_size, state.step_size),
        version=version,
    )


def _turn_to(state: NUTSState, go_forward: Tensor) -> NUTSState:
    """At the first leaf of a new half, let the end on the drawn side be the moving one."""
    opening = state.leaf == 0
    forward = torch.where(opening, go_forward, state.forward)
    swap = forward != state.forward
    return state._replace(
        moving=choose(swap, state.idle, state.moving),
        idle=choose(swap, state.moving, state.idle),
        forward=forward,
    )
