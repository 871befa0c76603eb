"""Replicas of one energy at all states of a grid at once, which swap places with neighbours.

Every row is one replica of one ladder; a ladder has one at each state and never meets another
ladder, so that ladders are independent. A sweep proposes another state of every site in turn and
takes it with the probability 1 / (1 + exp(rise)). Then neighbours swap, and those nearest to s = 0
swap with new draws of the uniform law: a replica is born there, and what a state holds has
forgotten the start once it was born.

Source: Swendsen, Wang (1986), Replica Monte Carlo simulation of spin glasses; Hukushima, Nemoto
(1996), Exchange Monte Carlo method and application to spin glass simulations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_ebm.energies import evaluate
from pyro_ebm.energies.sites import num_sites, site_values
from pyro_ebm.target.vectorize import traced

from .grid import Grid
from .linear import LinearEnergy

# Rows that are moved together: more of them do not fit into a cache.
_ROWS = 256
# Swaps are cheap beside a sweep, and carry replicas far.
_ROUNDS = 3
FROM_THE_START = -1


class Replicas(NamedTuple):
    """``numbers`` [rows, sites] of states, ``statistics`` [rows, k] and ``born`` [rows], a number
    of its own for each draw of the uniform law; rows are states, and in each of them ladders."""

    numbers: Int[Tensor, "rows sites"]
    statistics: Float[Tensor, "rows k"]
    born: Int[Tensor, " rows"]

    def at(self, rows: Tensor) -> Replicas:
        """What stands at rows, in their order."""
        return Replicas(*(values[rows] for values in self))


class Pool(NamedTuple):
    """Draws of all states: of those of the grid ``statistics`` [sweeps, states, ladders, k], of the
    uniform law ``uniform`` [sweeps, nodes, ladders, k]; ``born`` [sweeps, nodes, ladders] tells at
    s = 1 which replica it was, ``accepted`` the rates of swaps along s and every param. ``linear``
    is whether the energy was found to be linear at all draws."""

    statistics: Tensor
    uniform: Tensor
    born: Tensor
    accepted: list[Tensor]
    linear: bool


class Sampler:
    """Replicas of a linear energy.

    :param linear: the energy.
    :param temperature: T.
    :param ladders: how many independent ones.
    """

    def __init__(self, linear: LinearEnergy, temperature: float, ladders: int) -> None:
        energy = linear.energy
        like = next((t for t in energy.parameters() if t.is_floating_point()), None)
        states = site_values(energy, like)
        # Numbers of states may be whole; what a callable is given is real.
        self.states = states if states.is_floating_point() else states.to(torch.get_default_dtype())
        self.sites = num_sites(energy)
        self.linear, self.temperature, self.ladders = linear, temperature, ladders
        self._recordings: dict[int, Callable] = {}

    def values(self, numbers: Tensor) -> Tensor:
        """Configurations [n, *event] of numbers of states."""
        return self.states[numbers].reshape(len(numbers), *self.linear.energy.event_shape)

    def uniform(self, rows: int, generator: torch.Generator) -> Tensor:
        """Numbers of states [rows, sites] of independent sites."""
        return torch.randint(
            len(self.states), (rows, self.sites), generator=generator, device=generator.device
        )

    def pool(self, grid: Grid, sweeps: int, dropped: int, generator: torch.Generator) -> Pool:
        """Draws of all sweeps but those that are dropped."""
        replicas = self._started(grid)
        chosen = multipliers(grid, self.temperature).repeat_interleave(self.ladders, 0)
        nodes = len(grid.nodes)
        kept, uniform, born, swaps = [], [], [], []
        linear = True
        for sweep in range(sweeps):
            numbers = self._swept(replicas.numbers, grid, generator)
            replicas = replicas._replace(numbers=numbers, statistics=self._statistics(numbers))
            fresh = self._fresh(nodes * self.ladders, sweep, generator)
            if sweep >= dropped:
                kept.append(replicas.statistics)
                uniform.append(fresh.statistics)
                linear = linear and self._is_linear(replicas, generator)
            replicas, accepted = self._swapped(replicas, fresh, grid, chosen, generator)
            if sweep >= dropped:
                swaps.append(accepted)
                born.append(replicas.born[-nodes * self.ladders :])
        rates = [torch.stack(along).mean(0) for along in zip(*swaps, strict=True)]
        return Pool(
            torch.stack(kept).unflatten(1, (-1, self.ladders)),
            torch.stack(uniform).unflatten(1, (-1, self.ladders)),
            torch.stack(born).unflatten(1, (-1, self.ladders)),
            rates,
            linear,
        )

    @property
    def kinds(self) -> Int[Tensor, " ladders"]:
        """Which state all sites of a ladder begin in: two ladders at least in each of them."""
        count = len(self.states)
        number = max(2, min(count, self.ladders // 2))
        some = torch.linspace(0, count - 1, number).round().long()
        return some[torch.arange(self.ladders) % number]

    def _started(self, grid: Grid) -> Replicas:
        first = self.kinds.repeat(len(grid.scale))
        numbers = first[:, None].expand(-1, self.sites).clone()
        born = torch.full((len(first),), FROM_THE_START)
        return Replicas(numbers, self._statistics(numbers), born)

    def _fresh(self, rows: int, sweep: int, generator: torch.Generator) -> Replicas:
        numbers = self.uniform(rows, generator)
        return Replicas(numbers, self._statistics(numbers), sweep * rows + torch.arange(rows))

    def _statistics(self, numbers: Tensor) -> Tensor:
        return self.linear.statistics(self.values(numbers))

    def _is_linear(self, replicas: Replicas, generator: torch.Generator) -> bool:
        low, high = self.linear.low, self.linear.high
        params = (
            low
            + (high - low)
            * torch.rand(len(low), generator=generator, device=generator.device).double()
        )
        x = self.values(replicas.numbers)
        return bool(self.linear.holds(x, replicas.statistics, params).all())

    def _swept(self, numbers: Tensor, grid: Grid, generator: torch.Generator) -> Tensor:
        params = grid.params.repeat_interleave(self.ladders, 0)
        scale = grid.scale.repeat_interleave(self.ladders) / self.temperature
        parts = zip(numbers.split(_ROWS), params.split(_ROWS), scale.split(_ROWS), strict=True)
        return torch.cat([self._part_swept(*part, generator) for part in parts])

    def _part_swept(
        self, numbers: Tensor, params: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        rows, sites = numbers.shape
        count = len(self.states)
        numbers = numbers.clone()
        x, params = self.states[numbers], params.to(self.states)
        energy = self._energy(x, params)
        steps = 1 + torch.randint(
            count - 1, (sites, rows), generator=generator, device=generator.device
        )
        uniform = torch.rand(
            sites, rows, generator=generator, dtype=torch.float64, device=generator.device
        )
        for site in range(sites):
            before = numbers[:, site].clone()
            other = (before + steps[site]) % count
            x[:, site] = self.states[other]
            proposed = self._energy(x, params)
            taken = uniform[site] < (scale * (energy - proposed)).sigmoid()
            numbers[:, site] = torch.where(taken, other, before)
            x[:, site] = self.states[numbers[:, site]]
            energy = torch.where(taken, proposed, energy)
        return numbers

    def _energy(self, x: Tensor, params: Tensor) -> Tensor:
        """E of configurations by site [rows, sites, ...], each at its own params."""
        x = x.reshape(len(x), *self.linear.energy.event_shape)
        if len(x) not in self._recordings:

            def energies(x: Tensor, params: Tensor) -> Tensor:
                return evaluate(self.linear.energy, x, [*params.unbind(-1)])

            self._recordings[len(x)] = traced(energies, x, params)
        return self._recordings[len(x)](x, params).double()

    def _swapped(
        self,
        replicas: Replicas,
        fresh: Replicas,
        grid: Grid,
        chosen: Tensor,
        generator: torch.Generator,
    ) -> tuple[Replicas, list[Tensor]]:
        """After swaps along all directions, with the rates of acceptance between neighbours."""
        replicas, at_zero = self._renewed(replicas, fresh, chosen, generator)
        rows = torch.arange(len(chosen)).reshape(*grid.shape, self.ladders)
        rates = []
        directions = list(enumerate(grid.shape))
        for axis, length in directions * _ROUNDS:
            shape = list(grid.shape)
            shape[axis] -= 1
            along = torch.zeros(shape, dtype=torch.float64)
            for parity in range(2):
                lower = torch.arange(parity, length - 1, 2)
                first = rows.index_select(axis, lower).reshape(-1)
                second = rows.index_select(axis, lower + 1).reshape(-1)
                replicas, taken = _swap(replicas, first, second, chosen, generator)
                shape[axis] = len(lower)
                rate = taken.double().reshape(*shape, self.ladders).mean(-1)
                along.index_copy_(axis, lower, rate)
            rates.append(along)
        first = rates[: len(directions)]
        first[0] = torch.cat([at_zero.reshape(1, *grid.shape[1:]), first[0]])
        return replicas, first

    def _renewed(
        self, replicas: Replicas, fresh: Replicas, chosen: Tensor, generator: torch.Generator
    ) -> tuple[Replicas, Tensor]:
        """Swap the lowest rung with draws at s = 0."""
        number = len(fresh.born)
        lowest = replicas.at(torch.arange(number))
        fall = (chosen[:number] * (lowest.statistics - fresh.statistics)).sum(1)
        taken = (
            torch.rand(number, generator=generator, device=generator.device).log().double() < fall
        )
        rows = torch.arange(len(replicas.born))
        rows[:number] = torch.where(taken, len(rows) + torch.arange(number), rows[:number])
        both = Replicas(*(torch.cat(pair) for pair in zip(replicas, fresh, strict=True)))
        return both.at(rows), taken.double().reshape(-1, self.ladders).mean(1)


def _swap(
    replicas: Replicas, first: Tensor, second: Tensor, chosen: Tensor, generator: torch.Generator
) -> tuple[Replicas, Tensor]:
    """Swap pairs of rows, or not, and tell which."""
    apart = replicas.statistics[first] - replicas.statistics[second]
    fall = ((chosen[first] - chosen[second]) * apart).sum(1)
    taken = (
        torch.rand(len(first), generator=generator, device=generator.device).log().double() < fall
    )
    rows = torch.arange(len(replicas.born))
    rows[first] = torch.where(taken, second, first)
    rows[second] = torch.where(taken, first, second)
    return replicas.at(rows), taken


def multipliers(grid: Grid, temperature: float) -> Float[Tensor, "states k"]:
    """What the statistics of a state are multiplied by: s/T and s theta/T."""
    ones = torch.ones(len(grid.scale), 1, dtype=torch.float64)
    return grid.scale[:, None] / temperature * torch.cat([ones, grid.params], 1)
