"""Simulated annealing of discrete energies: cool slowly, then go down to the nearest minimum.

Every start is a chain that samples exp(-E/T) while T falls from where all states are alike to where
hardly any change is made that raises the energy; then single changes are made, the best one first,
as long as one lowers the energy. What is left is a minimum: no single change goes lower.

Source: Kirkpatrick, Gelatt, Vecchi (1983), Optimization by simulated annealing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram

from .couplings import binary_pairs
from .discrete import LogDensityAndChanges, discrete_settings
from .gibbs import gibbs
from .gibbs_with_gradients import gibbs_with_gradients
from .kernel import Kernel, Noise
from .tempered_gibbs import TemperedGibbs, tempered_gibbs

# The temperatures at either end, in units of a usual change of energy and of the smallest one.
_HOTTEST, _COLDEST = 2.0, 0.1
# No colder than this share of the hottest: differences of rounding are no changes.
_RANGE = 1e-4
_PROBED = 64


def anneal(target: Target, starts: Tensor, num_sweeps: int, generator: torch.Generator) -> Tensor:
    """Indices of states [dim, runs] after so many sweeps of falling temperature.

    Temperatures are in units of the target's own.
    """
    program = target.program
    assert isinstance(program, DiscreteProgram)
    sweeps = _sweeps_in_c(target)
    if sweeps is not None:
        return _annealed_in_c(sweeps, target, starts, num_sweeps, generator)
    kernel, num_steps = _sweep(program)
    runs = starts.shape[1]
    settings = discrete_settings(1.0, starts)

    def tempered(beta: Tensor) -> LogDensityAndChanges:
        def density(position: Tensor) -> tuple[Tensor, Tensor]:
            log_density, changes = target.recorded(position)
            # Zero times an infinite change is no number, where no change is meant.
            return beta * log_density, (beta * changes).nan_to_num(0.0, torch.inf, -torch.inf)

        return density

    def begin(position: Tensor, beta: Tensor) -> Any:
        return kernel.init(position, *tempered(beta)(position), settings)

    def step(chain: Any, noise: Noise, beta: Tensor) -> Any:
        return kernel.step(tempered(beta), chain, noise, settings)[0]

    kind = {"generator": generator, "dtype": starts.dtype, "device": starts.device}
    key = torch.zeros((), dtype=torch.long, device=starts.device)
    record = target.recorder(starts)
    recorded_begin: Callable | None = None
    recorded_step: Callable | None = None
    position = starts
    for inverse in _inverse_temperatures(target, num_sweeps, generator):
        beta = starts.new_tensor(inverse)
        recorded_begin = recorded_begin or record(begin, position, beta)
        chain = recorded_begin(position, beta)
        for _ in range(num_steps):
            noise = Noise(key, torch.rand(kernel.uniforms, runs, **kind))
            recorded_step = recorded_step or record(step, chain, noise, beta)
            chain = recorded_step(chain, noise, beta)
        position = chain.position
    return position


def steps_of_a_sweep(target: Target) -> int:
    """How many evaluations give every site a turn; one for sweeps in C, which need none."""
    program = target.program
    assert isinstance(program, DiscreteProgram)
    return 1 if _sweeps_in_c(target) is not None else _sweep(program)[1]


def _sweeps_in_c(target: Target) -> TemperedGibbs | None:
    return tempered_gibbs(binary_pairs(target), torch.zeros(target.dim), 0.0)


def _annealed_in_c(
    sweeps: TemperedGibbs,
    target: Target,
    starts: Tensor,
    num_sweeps: int,
    generator: torch.Generator,
) -> Tensor:
    """The same by sweeps in C, of which each goes there and back and counts as two."""
    position = starts
    for inverse in _inverse_temperatures(target, (num_sweeps + 1) // 2, generator):
        key = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        betas = starts.new_full(starts.shape[1:], inverse)
        position = sweeps.sweep(position, betas, key, number=1)
    return position


def descend(
    density: LogDensityAndChanges, position: Tensor, max_changes: int
) -> tuple[Tensor, Tensor]:
    """Make the best single change of every run while one lowers the energy.

    :param density: with exact changes.
    :returns: positions [dim, runs], and which of them no single change lowers.
    """
    dim, runs = position.shape
    at_minimum = torch.zeros(runs, dtype=torch.bool, device=position.device)
    for _ in range(max_changes):
        log_density, changes = density(position)
        gain, best = changes.flatten(0, 1).max(0)
        least = 8 * torch.finfo(gain.dtype).eps * (1.0 + log_density.abs())
        at_minimum = ~(gain > least)
        if bool(at_minimum.all()):
            break
        states = changes.shape[1]
        site, state = best // states, (best % states).to(position)
        moves = ~at_minimum & (torch.arange(dim, device=site.device)[:, None] == site)
        position = torch.where(moves, state, position)
    return position, at_minimum


def _sweep(program: DiscreteProgram) -> tuple[Kernel, int]:
    """A kernel, and how many of its steps give every site a turn."""
    if program.exact:
        blocks = program.blocks
        return gibbs(blocks), int(blocks.max()) + 1
    return gibbs_with_gradients(num_steps=program.dim), program.dim


def _inverse_temperatures(
    target: Target, num_sweeps: int, generator: torch.Generator
) -> Iterator[float]:
    """One a sweep, from hot to cold in equal ratios."""
    probes = target.initial_positions(_PROBED, generator=generator)
    with torch.no_grad():
        _, changes = target.log_density_and_changes(probes)
    sizes = changes[changes.isfinite() & (changes != 0)].abs().double()
    if len(sizes) == 0:
        return
    hottest = _HOTTEST * float(sizes.square().mean().sqrt())
    coldest = max(_COLDEST * float(sizes.min()), _RANGE * hottest)
    ratio = math.log(hottest / coldest)
    for sweep in range(num_sweeps):
        yield math.exp(ratio * sweep / max(1, num_sweeps - 1)) / hottest
