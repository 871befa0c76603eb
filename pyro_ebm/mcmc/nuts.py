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
from .trajectory import (
    TREE,
    TREE_ACROSS,
    Checkpoints,
    CheckTable,
    check_table,
    extend,
    num_rows,
)


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
    new half, and ``turning`` says that the tree turns on the way to its first leaf. ``fresh``
    chains start a transition at their next step. ``checked`` [rows, leaves] belongs to the rows of
    the checkpoints.
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
    turning: Tensor
    leaf: Tensor
    depth: Tensor
    max_depth: Tensor
    checkpoints: Checkpoints
    checked: Tensor
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

    def table_on(device: torch.device) -> CheckTable:
        if device not in tables:
            tables[device] = CheckTable(*(part.to(device) for part in table))
        return tables[device]

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> NUTSState:
        chains = position.shape[1]
        checked = table_on(position.device).checked
        zero = torch.zeros_like(log_density)
        count = torch.zeros(chains, dtype=torch.long, device=position.device)
        yes = torch.ones(chains, dtype=torch.bool, device=position.device)
        empty = torch.zeros_like(position)
        point = PhasePoint(position, empty, empty)
        draw = Draw(position, gradient, log_density, zero)
        rows = empty.expand(len(checked), *position.shape)
        return NUTSState(
            fresh=yes,
            moving=point,
            idle=point,
            forward=yes,
            tree=draw,
            tree_log_weight=zero,
            tree_momentum_sum=empty,
            half=draw,
            half_log_weight=zero - torch.inf,
            half_momentum_sum=empty,
            turning=~yes,
            leaf=count,
            depth=count,
            max_depth=count + max_tree_depth,
            checkpoints=Checkpoints(rows.clone(), rows.clone()),
            checked=checked,
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
        opening = state.leaf == 0
        deepest = settings.max_tree_depth.clamp(max=max_tree_depth)
        state = _begin(state, noise, settings._replace(max_tree_depth=deepest))
        state = _turn_to(state, noise.uniform[0] < 0.5, opening)
        signed = torch.where(state.forward, state.step_size, -state.step_size)
        leap = leapfrog(
            log_density_and_gradient, state.moving, signed, settings.metric, state.version
        )
        energy = kinetic_energy(leap.point.momentum) - leap.log_density
        delta = (energy - state.initial_energy).nan_to_num(torch.inf, torch.inf, -torch.inf)
        diverging = delta > MAX_ENERGY_ERROR
        log_uniform = noise.uniform[1:].log()

        # The new leaf joins the new half, which keeps one of its leaves by weight.
        half_log_weight = torch.logaddexp(state.half_log_weight, -delta)
        take_leaf = log_uniform[0] < -delta - half_log_weight
        leaf_draw = Draw(leap.point.position, leap.gradient, leap.log_density, energy)
        half = choose(take_leaf, leaf_draw, state.half)
        half_momentum_sum = state.half_momentum_sum + leap.point.momentum
        checkpoints, turns = extend(
            state.checkpoints,
            table_on(state.leaf.device).rows.index_select(1, state.leaf),
            tree=(state.idle.momentum, state.tree_momentum_sum),
            before=state.moving.momentum,
            momentum=leap.point.momentum,
            momentum_sum=half_momentum_sum,
        )
        turned_inside = (turns & state.checked.index_select(1, state.leaf)).any(0)
        turning = torch.where(opening, turns[TREE], state.turning)
        leaf = state.leaf + 1

        # A complete half without a turn joins the tree; the tree may then turn as a whole.
        failed = diverging | turned_inside
        complete = (leaf == torch.ones_like(leaf) << state.depth) & ~failed
        take_half = complete & (log_uniform[1] < half_log_weight - state.tree_log_weight)
        tree = choose(take_half, half, state.tree)
        depth = state.depth + complete
        turned = complete & (turning | turns[TREE] | turns[TREE_ACROSS])
        at_max_depth = complete & (depth >= state.max_depth)
        done = failed | turned | at_max_depth

        acceptance_sum = state.acceptance_sum + (-delta).clamp(max=0.0).exp()
        n_steps = state.n_steps + 1
        # What follows begins anew with the next half, or with the next transition.
        tree_log_weight = torch.logaddexp(state.tree_log_weight, half_log_weight)
        tree_momentum_sum = state.tree_momentum_sum + half_momentum_sum
        over = complete | done
        new = state._replace(
            fresh=done,
            moving=leap.point,
            tree=tree,
            tree_log_weight=torch.where(complete, tree_log_weight, state.tree_log_weight),
            tree_momentum_sum=torch.where(complete, tree_momentum_sum, state.tree_momentum_sum),
            half=half,
            half_log_weight=half_log_weight.masked_fill(over, -torch.inf),
            half_momentum_sum=half_momentum_sum.masked_fill(over, 0.0),
            turning=turning,
            leaf=leaf.masked_fill(over, 0),
            depth=depth.masked_fill(done, 0),
            checkpoints=checkpoints,
            acceptance_sum=acceptance_sum.masked_fill(done, 0.0),
            n_steps=n_steps.masked_fill(done, 0),
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

    def make_room(state: NUTSState, num_steps: int) -> NUTSState:
        """As many rows of checkpoints as the trees can need in so many steps."""
        # A half that begins now has at most num_steps leaves; an open one what its depth says.
        levels = max(int(state.depth.max()), (num_steps - 1).bit_length(), 1)
        checked = table_on(state.leaf.device).checked[: num_rows(levels)]
        if len(checked) == len(state.checked):
            return state
        checkpoints = Checkpoints(*(_resize(part, len(checked)) for part in state.checkpoints))
        return state._replace(checkpoints=checkpoints, checked=checked)

    return Kernel(init, step, uniforms=3, make_room=make_room)


def restarted(
    state: NUTSState, where: Tensor, position: Tensor, log_density: Tensor, gradient: Tensor
) -> NUTSState:
    """The state in which chains ``where`` [chains] begin a transition at other values."""
    begun = Draw(position, gradient, log_density, state.tree.energy)
    return state._replace(
        fresh=state.fresh | where,
        tree=choose(where, begun, state.tree),
        half_log_weight=state.half_log_weight.masked_fill(where, -torch.inf),
        half_momentum_sum=state.half_momentum_sum.masked_fill(where, 0.0),
        leaf=state.leaf.masked_fill(where, 0),
        depth=state.depth.masked_fill(where, 0),
        acceptance_sum=state.acceptance_sum.masked_fill(where, 0.0),
        n_steps=state.n_steps.masked_fill(where, 0),
    )


def _resize(rows: Tensor, number: int) -> Tensor:
    if number <= len(rows):
        return rows[:number].clone()
    return torch.cat([rows, rows.new_zeros(number - len(rows), *rows.shape[1:])])


def _begin(state: NUTSState, noise: Noise, settings: Settings) -> NUTSState:
    """Fresh chains draw a momentum and take up the step size and metric that are published."""
    fresh = state.fresh
    version = torch.where(fresh, settings.version, state.version)
    push = force(settings.metric, version, state.tree.gradient)
    start = PhasePoint(state.tree.position, noise.normal, push)
    energy = kinetic_energy(noise.normal) - state.tree.log_density
    return state._replace(
        moving=choose(fresh, start, state.moving),
        idle=choose(fresh, start, state.idle),
        tree=state.tree._replace(energy=torch.where(fresh, energy, state.tree.energy)),
        tree_log_weight=state.tree_log_weight.masked_fill(fresh, 0.0),
        tree_momentum_sum=torch.where(fresh, noise.normal, state.tree_momentum_sum),
        max_depth=torch.where(fresh, settings.max_tree_depth, state.max_depth),
        initial_energy=torch.where(fresh, energy, state.initial_energy),
        step_size=torch.where(fresh, settings.step_size, state.step_size),
        version=version,
    )


def _turn_to(state: NUTSState, go_forward: Tensor, opening: Tensor) -> NUTSState:
    """At the first leaf of a new half, let the end on the drawn side be the moving one."""
    swap = opening & (go_forward != state.forward)
    return state._replace(
        moving=choose(swap, state.idle, state.moving),
        idle=choose(swap, state.moving, state.idle),
        forward=state.forward ^ swap,
    )
