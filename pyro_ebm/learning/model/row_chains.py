"""Chains over rows of mixed coordinates, of which some may be held in each row.

A transition is a trajectory of HMC in the continuous coordinates at given states, and then a sweep
over the discrete ones, each drawn given all else; both leave exp(-E) invariant. Which coordinates
are held differs from row to row (those that were observed), and one kernel moves all rows: a held
coordinate is replaced, in the energy, by what it is held at, and its place in the chain is taken by
an independent standard normal, or a state drawn evenly. The product of the two is what the kernel
leaves invariant, and its first factor is the distribution of the free coordinates given the held.

Source: Neal (2011), MCMC using Hamiltonian dynamics; Geman, Geman (1984), Stochastic relaxation,
Gibbs distributions, and the Bayesian restoration of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.learning.chains import ChainState
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.kernel import Settings
from pyro_ebm.mcmc.metric import DiagonalMetric
from pyro_ebm.mcmc.transitions import one_transition
from pyro_ebm.mcmc.within_gibbs import Sweep, sweeps

# [n, dim] -> [n]
EnergyOfRows = Callable[[Tensor], Tensor]

_LEAPS, _FIRST_STEP = 8, 0.15
_TARGET, _GAIN, _FIRST_GAIN = 0.8, 0.05, 0.5
_SHORTEST, _LONGEST = 1e-4, 1.5
# Step sizes of the chains are spread by this factor, so that no orbit closes on itself.
_SPREAD = 0.3


class RowChains:
    """Moves rows so that exp(-energy) stays invariant.

    :param energy: from rows [n, dim] to [n], smooth in the continuous coordinates.
    :param num_states: [dim] how many states each coordinate has, 0 for a continuous one.
    :param leaps: leapfrog steps of a trajectory.
    """

    def __init__(
        self, energy: EnergyOfRows, num_states: Sequence[int], *, leaps: int = _LEAPS
    ) -> None:
        self.energy = energy
        self.num_states = tuple(num_states)
        self.continuous = [i for i, count in enumerate(num_states) if count == 0]
        self.discrete = [i for i, count in enumerate(num_states) if count > 0]
        self.most = max(num_states, default=0)
        self.kernel = hmc(num_steps=leaps)

    def begin(self, rows: Float[Tensor, "n dim"]) -> ChainState:
        """Chains at rows."""
        positions = rows.detach().T.contiguous()
        ones = positions.new_ones(len(positions))
        for i in self.discrete:
            ones[i] = self.num_states[i]
        step = torch.tensor(_FIRST_STEP, dtype=torch.float64)
        updates = torch.zeros((), dtype=torch.long)
        return ChainState(positions, step, updates, torch.zeros_like(ones), ones)

    def move(
        self,
        state: ChainState,
        transitions: int,
        generator: torch.Generator,
        *,
        held: Tensor | None = None,
        values: Tensor | None = None,
    ) -> tuple[ChainState, float]:
        """All chains after so many transitions, and the mean acceptance rate of trajectories.

        :param held: which coordinates are held, [n, dim].
        :param values: what at, [n, dim]; looked at where held.
        """
        acceptance = 0.0
        for _ in range(transitions):
            state, rate = self._once(state, generator, held, values)
            acceptance += rate / transitions
        return state, acceptance

    def rows(
        self, state: ChainState, *, held: Tensor | None = None, values: Tensor | None = None
    ) -> Float[Tensor, "n dim"]:
        """The rows of chains, with what was held."""
        return _merged(state.positions.T, held, values)

    def _once(
        self,
        state: ChainState,
        generator: torch.Generator,
        held: Tensor | None,
        values: Tensor | None,
    ) -> tuple[ChainState, float]:
        positions, rate = state.positions, 1.0
        chains = positions.shape[1]
        if self.continuous:
            density = self._density(positions, held, values)
            moving = positions[self.continuous].contiguous()
            kind = {"generator": generator, "device": positions.device, "dtype": positions.dtype}
            spread = 1.0 + _SPREAD * (2.0 * torch.rand(chains, **kind) - 1.0)
            settings = self._settings(float(state.step_size) * spread, len(moving))
            chain = self.kernel.init(moving, *density(moving), settings)
            moved = one_transition(
                self.kernel,
                lambda chain, noise: self.kernel.step(density, chain, noise, settings),
                chain,
                moving,
                generator,
            )
            positions = positions.clone()
            positions[self.continuous] = moved.positions
            rate = float(moved.acceptance.mean())
            state = self._adapted(state, rate)
        if self.discrete:
            positions = self._swept(positions, generator, held, values)
        return state._replace(positions=positions), rate

    def _density(
        self, positions: Tensor, held: Tensor | None, values: Tensor | None
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Log density [n] and gradient [c, n] of the continuous coordinates at the present states;
        held ones are standard normal."""
        columns, whole = self.continuous, positions.T

        def density(moving: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                free = moving.detach().T.contiguous().requires_grad_()
                rows = free
                if self.discrete:
                    rows = whole.clone()
                    rows[:, columns] = free
                rows = _merged(rows, held, values)
                value = -self.energy(rows)
                if held is not None:
                    value = value - 0.5 * (free * held[:, columns]).square().sum(1)
                (gradient,) = torch.autograd.grad(value.sum(), free)
            return value.detach(), gradient.T.contiguous()

        return density

    def _swept(
        self,
        positions: Tensor,
        generator: torch.Generator,
        held: Tensor | None,
        values: Tensor | None,
    ) -> Tensor:
        """Each discrete coordinate drawn given all else, in turn."""
        columns = self.discrete
        units, chains = len(columns), positions.shape[1]
        states = torch.arange(self.most, device=positions.device, dtype=positions.dtype)
        counts = torch.tensor([self.num_states[i] for i in columns], device=positions.device)

        def conditionals(position: Tensor, block: Tensor) -> Tensor:
            # All chains are at the same block, as they all began with the first.
            unit = int(block[0])
            rows = positions.T.clone()
            rows[:, columns] = position.T
            every = rows.repeat(self.most, 1)
            every[:, columns[unit]] = states.clamp(max=float(counts[unit]) - 1).repeat_interleave(
                chains
            )
            if held is not None and values is not None:
                every = _merged(every, held.repeat(self.most, 1), values.repeat(self.most, 1))
            with torch.no_grad():
                found = -self.energy(every).reshape(self.most, chains)
            found = torch.where(states[:, None] < counts[unit], found, -math.inf)
            table = found.new_zeros(units, self.most, chains)
            table[unit] = found
            return table

        blocks = torch.arange(units, device=positions.device)
        kernel = sweeps(Sweep(conditionals, blocks, units, units))
        now = positions[columns].contiguous()

        def unasked(position: Tensor) -> tuple[Tensor, Tensor]:
            return position.new_zeros(chains), position

        settings = self._settings(positions.new_ones(chains), units)
        chain = kernel.init(now, *unasked(now), settings)
        moved = one_transition(
            kernel,
            lambda chain, noise: kernel.step(unasked, chain, noise, settings),
            chain,
            now,
            generator,
        )
        positions = positions.clone()
        positions[columns] = moved.positions
        return positions

    def _settings(self, step_size: Tensor, dim: int) -> Settings:
        zero = torch.zeros((), dtype=torch.long, device=step_size.device)
        return Settings(step_size, DiagonalMetric(step_size.new_ones(1, dim)), zero, zero + 10)

    def _adapted(self, state: ChainState, rate: float) -> ChainState:
        """The step size moved towards that of the wished acceptance rate."""
        gain = max(_GAIN, _FIRST_GAIN / math.sqrt(1.0 + int(state.updates)))
        size = float(state.step_size) * math.exp(gain * (rate - _TARGET) / (1.0 - _TARGET))
        bounded = torch.full_like(state.step_size, min(max(size, _SHORTEST), _LONGEST))
        return state._replace(step_size=bounded, updates=state.updates + 1)


def _merged(rows: Tensor, held: Tensor | None, values: Tensor | None) -> Any:
    if held is None or values is None:
        return rows
    return torch.where(held, values, rows)
