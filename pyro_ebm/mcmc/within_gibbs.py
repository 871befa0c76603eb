"""NUTS within Gibbs: a trajectory of the continuous coordinates, then discrete ones drawn anew.

A position holds the continuous coordinates and, behind them, numbers of states. A transition is a
trajectory of an inner kernel at fixed states, followed by some blocks of units, each drawn from its
distribution given all else:

    p(unit i = k | rest) proportional to exp(conditionals[i, k]).

Both leave the target invariant, and so does one after the other. Chains go on one by one, as they
do within trees: a chain in a trajectory makes a leapfrog step, a chain in a sweep draws a block,
and one evaluation of the density serves both. It gives a chain in a sweep its log density and
gradient anew, without which the next trajectory would begin with those of other states. Nobody
waits; the price is that the distributions of a block are computed at every step, for whoever needs
them.

Source: Geman, Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian
restoration of images; Neal (2011), MCMC using Hamiltonian dynamics, section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .adaptation import Adaptation, Warmup
from .discrete import drawn
from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition

# Blocks that are drawn after a trajectory, at most: the next one goes on with the others.
MOST_BLOCKS = 32


class Sweep(NamedTuple):
    """How the units of discrete sites are drawn; ``blocks`` [units] numbers the block of each.

    ``conditionals(positions, block)`` gives log probabilities [units, K, chains] of the units of
    the block [chains] of every chain; ``length`` is how many blocks a transition draws.
    """

    conditionals: Callable[[Tensor, Tensor], Tensor]
    blocks: Tensor
    num_blocks: int
    length: int

    def draw(self, position: Tensor, block: Tensor, uniform: Tensor) -> Tensor:
        """The units [units, chains] with those of one block of every chain drawn anew."""
        units = position[len(position) - len(self.blocks) :]
        anew = drawn(self.conditionals(position, block), uniform)
        return torch.where(self.blocks.to(block.device)[:, None] == block, anew, units)


class WithinGibbsState(NamedTuple):
    """Chains between two steps: the ``inner`` state, and the ``position`` [dim, chains] of each.

    ``left`` blocks are still to be drawn in a sweep, 0 in a trajectory; ``block`` is the next one.
    ``ended`` [8, chains] is what the trajectory has reported.
    """

    fresh: Tensor
    inner: Any
    position: Tensor
    block: Tensor
    left: Tensor
    ended: Tensor
    version: Tensor


# What a trajectory reports beside its draw.
_NUMBERS = ("acceptance_rate", "energy", "energy_error", "step_size")
_COUNTS = ("tree_depth", "n_steps")
_FLAGS = ("diverging", "reached_max_treedepth")


def within_gibbs(inner: Kernel, sweep: Sweep, *, restarted: Callable[..., Any]) -> Kernel:
    """A kernel over continuous coordinates, with sweeps over discrete ones between transitions.

    :param inner: evaluates the density once a step.
    :param restarted: ``restarted(state, where, position, log_density, gradient)``, the state of the
        inner kernel in which chains ``where`` begin a transition at other values.
    """
    units = len(sweep.blocks)

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> WithinGibbsState:
        continuous = len(position) - units
        state = inner.init(position[:continuous], log_density, gradient[:continuous], settings)
        none = torch.zeros_like(state.fresh, dtype=torch.long)
        ended = log_density.expand(len(_NUMBERS + _COUNTS + _FLAGS), -1).clone()
        return WithinGibbsState(state.fresh, state, position, none, none, ended, state.version)

    def step(
        density: LogDensityAndGradient,
        state: WithinGibbsState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[WithinGibbsState, Transition]:
        continuous = len(state.position) - units
        still, old = state.position.split([continuous, units])
        sweeping = state.left > 0
        uniform, for_units = noise.uniform.split([inner.uniforms, units])
        drawn_anew = sweep.draw(state.position, state.block, for_units)
        numbers = torch.where(sweeping, drawn_anew, old)
        seen: list[tuple[Tensor, Tensor]] = []

        def given_numbers(moving: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(density(torch.cat([torch.where(sweeping, still, moving), numbers])))
            return seen[-1][0], seen[-1][1][:continuous]

        moved, transition = inner.step(
            given_numbers,
            state.inner._replace(version=state.version),
            Noise(noise.normal[:continuous], uniform),
            settings,
        )
        ((log_density, gradient),) = seen
        moved = restarted(moved, sweeping, still, log_density, gradient[:continuous])
        arrived = transition.done & ~sweeping
        left = torch.where(arrived, sweep.length, (state.left - 1).clamp(min=0))
        done = sweeping & (left == 0)
        block = torch.where(sweeping, (state.block + 1) % sweep.num_blocks, state.block)
        names = (*_NUMBERS, *_COUNTS, *_FLAGS)
        report = torch.stack([getattr(transition, name).to(state.ended) for name in names])
        ended = torch.where(arrived, report, state.ended)
        position = torch.cat([torch.where(arrived, transition.position, still), numbers])
        new = WithinGibbsState(done, moved, position, block, left, ended, moved.version)
        told: dict[str, Any] = dict(zip(names, ended, strict=True))
        told |= {name: told[name].long() for name in _COUNTS}
        told |= {name: told[name] > 0 for name in _FLAGS}
        return new, Transition(
            done=done,
            position=position,
            gradient=gradient,
            log_density=log_density,
            **told,
        )

    def make_room(state: WithinGibbsState, num_steps: int) -> WithinGibbsState:
        return state._replace(inner=inner.make_room(state.inner, num_steps))

    return Kernel(init, step, uniforms=inner.uniforms + units, make_room=make_room)


class SweepState(NamedTuple):
    """Chains between two blocks of a sweep, where no coordinate is continuous."""

    fresh: Tensor
    position: Tensor
    block: Tensor
    n_steps: Tensor
    step_size: Tensor
    version: Tensor


def sweeps(sweep: Sweep) -> Kernel:
    """Sweeps alone, where all coordinates are numbers of states."""

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> SweepState:
        chains = position.shape[1]
        none = torch.zeros(chains, dtype=torch.long, device=position.device)
        step_size = settings.step_size.expand(chains).to(position).clone()
        version = settings.version.expand(chains).clone()
        return SweepState(none == 0, position, none, none, step_size, version)

    def step(
        density: LogDensityAndGradient, state: SweepState, noise: Noise, settings: Settings
    ) -> tuple[SweepState, Transition]:
        position = sweep.draw(state.position, state.block, noise.uniform)
        log_density, gradient = density(position)
        n_steps = state.n_steps + 1
        done = n_steps >= sweep.length
        no = torch.zeros_like(done)
        none = torch.zeros_like(n_steps)
        new = state._replace(
            fresh=done,
            position=position,
            block=(state.block + 1) % sweep.num_blocks,
            n_steps=n_steps.masked_fill(done, 0),
        )
        return new, Transition(
            done=done,
            position=position,
            gradient=gradient,
            log_density=log_density,
            acceptance_rate=torch.ones_like(log_density),
            energy=-log_density,
            energy_error=torch.zeros_like(log_density),
            tree_depth=none,
            n_steps=n_steps,
            diverging=no,
            reached_max_treedepth=no,
            step_size=state.step_size,
        )

    return Kernel(init, step, uniforms=len(sweep.blocks), normals=False)


class ContinuousPart(NamedTuple):
    """A warm-up that sees the first ``dim`` coordinates only."""

    warmup: Warmup
    dim: int

    @property
    def num_steps(self) -> int:
        """Transitions of every chain, the last twenty without learning."""
        return self.warmup.num_steps

    def begin(
        self,
        density: LogDensityAndGradient,
        position: Tensor,
        log_density: Tensor,
        gradient: Tensor,
        momentum: Tensor,
        *,
        settings: Settings | None,
    ) -> Adaptation:
        """The state of learning at the starts, with the numbers of states held."""
        moving, numbers = position[: self.dim], position[self.dim :]

        def held(continuous: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = density(torch.cat([continuous, numbers]))
            return value, slope[: self.dim]

        return self.warmup.begin(
            held,
            moving,
            log_density,
            gradient[: self.dim],
            momentum[: self.dim],
            settings=settings,
        )

    def learn(
        self, state: Adaptation, transition: Transition, versions: Tensor
    ) -> tuple[Adaptation, bool]:
        """Take in one step of all chains; tells whether all is learned."""
        transition = transition._replace(
            position=transition.position[: self.dim], gradient=transition.gradient[: self.dim]
        )
        return self.warmup.learn(state, transition, versions)
