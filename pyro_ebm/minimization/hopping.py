"""Basin hopping: a walk over the minima of a rugged energy.

Descents are of very different lengths. So no run waits for another: all go down together, an
evaluation of all at a time, and those that have arrived are looked at every few evaluations, take
their new minimum or stay at the old one, and hop on. What a hop needs to know is which minimum is
lower, to a fraction of the temperature, and no more: descents end there, and whoever wants the
lowest minimum to rounding goes down to its bottom once, in the end.

Source: Li, Scheraga (1987), Monte Carlo-minimization approach to the multiple-minima problem in
protein folding; Wales, Doye (1997), Global optimization by basin-hopping and the lowest energy
structures of Lennard-Jones clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.optimize.lbfgs import Rules, Runs, ValueAndGradient, advanced, begun, rules_for
from pyro_ebm.optimize.line_search import where

from .strategies import BasinHopping

_TAKEN = 0.5
_GAIN = 0.1
# A run that hops down to where the energy falls without end stays where it was.
_COLDEST = 1e-12
# Evaluations between two looks at who has arrived: a look costs as much as one.
_ROUNDS = 8
# What L-BFGS expects to fall yet where a descent ends, in units of the temperature. Along soft
# directions it is too hopeful, by a factor of hundreds.
_SHARE = 1e-4


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
    :param max_evaluations: of a descent, after which its hop is refused.
    """
    here, lowest = first, first
    temperature = _temperature(strategy, first)
    rules = rules_for(first.positions, decrement=_SHARE * temperature)
    step_size = strategy.step_size
    kind = {"generator": generator, "dtype": spread.dtype, "device": spread.device}

    def disturbed(at: Tensor) -> tuple[Runs, Tensor]:
        moved = at + step_size * spread[:, None] * torch.randn(at.shape, **kind)
        return _descents(objective, moved, rules)

    runs, sound = disturbed(here.positions)
    left = torch.full_like(runs.num_steps, strategy.num_hops)
    evaluations = torch.zeros_like(left)
    while bool((left > 0).any()):
        for _ in range(_ROUNDS):
            runs = advanced(runs, objective, rules)
        evaluations = evaluations + _ROUNDS
        ended = (left > 0) & (runs.done | (evaluations >= max_evaluations))
        if not bool(ended.any()):
            continue
        arrived = sound & runs.done & runs.value.isfinite() & ~runs.unbounded
        rise = torch.where(arrived, runs.value - here.energies, torch.inf)
        chance = (-rise / temperature).clamp(max=0.0).exp()
        taken = ended & (torch.rand(rise.shape, **kind) < chance)
        here = where(taken, Visited(runs.position, runs.value), here)
        lowest = where(here.energies < lowest.energies, here, lowest)
        share = float(ended.double().mean())
        step_size *= 1.0 + _GAIN * (float(taken.double().mean()) - _TAKEN * share)
        left = left - ended.long()
        fresh, good = disturbed(here.positions)
        runs = _resumed(ended & (left > 0), fresh, runs)
        sound = torch.where(ended, good, sound)
        evaluations = torch.where(ended, 0, evaluations)
    return lowest


def _temperature(strategy: BasinHopping, first: Visited) -> float:
    if strategy.temperature is not None:
        return strategy.temperature
    finite = first.energies[first.energies.isfinite()]
    deviation = float(finite.std()) if len(finite) > 1 else 0.0
    return max(0.5 * deviation, _COLDEST)


def _descents(objective: ValueAndGradient, starts: Tensor, rules: Rules) -> tuple[Runs, Tensor]:
    """Descents that begin, and which of them may: those at a finite energy."""
    value, gradient = objective(starts)
    sound = value.isfinite() & gradient.isfinite().all(0)
    # One that may not has arrived at once, by a slope of zero.
    value, gradient = torch.where(sound, value, 0.0), torch.where(sound, gradient, 0.0)
    return begun(starts, value, gradient, rules=rules), sound


def _resumed(where_new: Tensor, new: Runs, old: Runs) -> Runs:
    """Runs of which some begin anew."""
    memory = where(where_new, new.memory, old.memory)
    search = where(where_new, new.search, old.search)
    # These two are tuples themselves: in their place stands any tensor until they come back.
    bare = (each._replace(memory=each.value, search=each.value) for each in (new, old))
    return where(where_new, *bare)._replace(memory=memory, search=search)
