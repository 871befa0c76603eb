"""Minima of discrete energies, from runs of simulated annealing."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_ebm.mcmc.simulated_annealing import anneal, descend
from pyro_ebm.target.discrete import DiscreteProgram

from .problem import Problem
from .result import Minima
from .strategies import SimulatedAnnealing

# Changes of a descent, for each site.
_MOST_CHANGES = 10


def minimize_discrete(
    problem: Problem, starts: Tensor, strategy: SimulatedAnnealing, generator: torch.Generator
) -> Minima:
    """The distinct minima that annealed runs end in.

    :param starts: indices of states [dim, runs].
    """
    target = problem.target
    program = target.program
    assert isinstance(program, DiscreteProgram)
    cooled = anneal(target, starts, strategy.num_sweeps, generator)
    exact = program if program.exact else program.with_exact_changes()
    ends, at_minimum = descend(exact.log_density_and_changes, cooled, _MOST_CHANGES * target.dim)
    distinct, which = ends.unique(dim=1, return_inverse=True)
    counts = which.bincount(minlength=distinct.shape[1])
    converged = torch.zeros_like(counts, dtype=torch.bool)
    converged[which] = at_minimum
    values = problem.values(distinct)
    energies = program.terms(distinct.T).energies["x"]
    order = energies.argsort(stable=True)
    positions = problem.whole({name: value[order] for name, value in values.items()})
    return Minima(positions, energies[order], counts[order], converged[order])
