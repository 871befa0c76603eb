"""Basin hopping: a walk over the minima of a rugged energy.

Source: Li, Scheraga (1987), Monte Carlo-minimization approach to the multiple-minima problem in
protein folding; Wales, Doye (1997), Global optimization by basin-hopping and the lowest energy
structures of Lennard-Jones clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.optimize import lbfgs
from pyro_ebm.optimize.lbfgs import ValueAndGradient

from .strategies import BasinHopping

_TAKEN = 0.5
_GAIN = 0.1
# A run that hops down to where the energy falls without end stays where it was.
_COLDEST = 1e-12


class Visited(NamedTuple):
    """Of every run the lowest minimum that it met: [dim, runs] and [runs]."""

    positions: Tensor
    energies: Tensor


def hop(
    objective: ValueAndGradient,
    first: Visited,
    spread: Tensor,
    strategy: BasinHopping,
    generator: torch.Generator,
    *,
    max_evaluations: int,
) -> Visited:
    """Hop from the first minima of all runs.

    :param spread: how far apart the starts were, by coordinate [dim].
    """
    here, lowest = first, first
    temperature = strategy.temperature
    if temperature is None:
        finite = first.energies[first.energies.isfinite()]
        deviation = float(finite.std()) if len(finite) > 1 else 0.0
        temperature = max(0.5 * deviation, _COLDEST)
    step_size = strategy.step_size
    kind = {"generator": generator, "dtype": spread.dtype, "device": spread.device}
    for _ in range(strategy.num_hops):
        noise = torch.randn(here.positions.shape, **kind)
        disturbed = here.positions + step_size * spread[:, None] * noise
        ends = lbfgs(objective, disturbed, max_evaluations=max_evaluations)
        there = Visited(ends.positions, ends.values)
        sound = there.energies.isfinite() & ~ends.unbounded
        rise = torch.where(sound, there.energies - here.energies, torch.inf)
        taken = torch.rand(rise.shape, **kind) < (-rise / temperature).clamp(max=0.0).exp()
        here = _chosen(taken, there, here)
        lowest = _chosen(here.energies < lowest.energies, here, lowest)
        step_size *= 1.0 + _GAIN * (float(taken.double().mean()) - _TAKEN)
    return lowest


def _chosen(where: Tensor, new: Visited, old: Visited) -> Visited:
    return Visited(
        torch.where(where, new.positions, old.positions),
        torch.where(where, new.energies, old.energies),
    )
