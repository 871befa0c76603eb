"""Minimising: the lowest energies of a model or an energy, from many starts at once.

Continuous energies are gone down by L-BFGS, from rugged ones by hopping from minimum to minimum;
discrete ones are annealed.

A minimum of the energy is a mode of the density exp(-E(x)/T) at every temperature. Of a Pyro model
it is the maximum a posteriori; with coordinates held at what was observed it is inference in an
energy-based model: the lowest energy over what is latent. Many dispersed starts tell how many
minima there are, and how wide the basin of each is; they cannot tell of one that no start fell
into.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.optimize import distinct_minima, lbfgs
from pyro_ebm.target import worthwhile_threads

from .annealed import minimize_discrete
from .border import falls_at_border, falls_far, lower_inside, push
from .hopping import Visited, hop
from .problem import Problem, problem_of
from .result import Minima
from .starts import start_positions
from .strategies import BasinHopping, SimulatedAnnealing, Strategy, check_strategy


def minimize(
    energy_or_model: Any,
    *args: Any,
    observed: Any = None,
    starts: Any = 64,
    strategy: Strategy | None = None,
    max_evaluations: int = 2000,
    **kwargs: Any,
) -> Minima:
    """Find the minima of an energy, or the modes of a Pyro model, from many starts.

    For an energy E(x) itself is minimised, whatever the temperature; for a model minus its log
    joint density as a function of the values of its latent sites, without the Jacobian of the
    coordinates that the search moves in. A minimum of a discrete energy is a configuration from
    which no change of a single site leads lower.

    Args:
        energy_or_model: a Pyro model, an EnergyDistribution, an Energy (a net or function through
            `as_energy`) or a Target.
        args: arguments of the model.
        observed: what is held fixed: of a model a dictionary {site: value}; of an energy a pair
            (held, values) as `clamp` takes them, a mask or indices, or {index: value}.
        starts: how many dispersed starts, or starting configurations: a tensor [n, *event], for a
            model {site: [n, *shape]}. Held coordinates are overwritten.
        strategy: for a discrete energy :class:`SimulatedAnnealing`, which is also what None means;
            for a continuous one L-BFGS from every start (None), or :class:`BasinHopping`.
        max_evaluations: how often a search by L-BFGS evaluates the energy, for all runs at once.
        kwargs: keyword arguments of the model.

    Returns:
        The distinct minima, lowest first, with how many starts each drew. All runs along which
        the energy falls without end make one row.

    Raises:
        TypeError: neither a model nor an energy; arguments, `observed` or `starts` of another type.
        ValueError: starts of another shape or outside the support; a start where the energy is not
            finite; a model that cannot be frozen (see `Target.from_model`).

    Warns:
        UserWarning: the energy falls without end along some runs, or the lowest end is no minimum.
    """
    problem = problem_of(energy_or_model, args, kwargs, observed=observed)
    discrete = problem.target.num_states is not None
    if problem.target.sampled:
        raise TypeError(
            f"minimize moves no discrete sites of models, and {list(problem.target.sampled)} of "
            "this target are sampled. Condition on them, or freeze the model without discrete=."
        )
    check_strategy(strategy, discrete=discrete)
    begun = start_positions(problem, starts)
    if discrete:
        generator = torch.Generator(begun.device).manual_seed(int(torch.randint(2**62, ())))
        annealing = strategy if isinstance(strategy, SimulatedAnnealing) else SimulatedAnnealing()
        return minimize_discrete(problem, begun, annealing, generator)
    with worthwhile_threads(problem.target, begun.shape[1]):
        ends = _search(problem, begun, max_evaluations)
        if isinstance(strategy, BasinHopping):
            ends = _hop(problem, ends, begun, strategy, max_evaluations)
    values = problem.values(ends.positions)
    start_values = problem.features(problem.values(begun))
    flat = problem.features(values)
    endless = ends.endless | ~flat.isfinite().all(0)
    converged = ends.converged & ~endless
    # Runs without an end have none to tell them apart: the lowest stands for all.
    runs = torch.arange(len(endless), device=endless.device)
    lowest = torch.where(endless, ends.energies, torch.inf).argmin()
    stand_in = torch.where(endless, lowest, runs)
    found = distinct_minima(
        flat[:, stand_in],
        ends.energies[stand_in],
        converged=converged,
        spread=start_values.std(1, correction=0),
    )
    chosen = stand_in[found.representatives]
    positions = problem.whole({name: value[chosen] for name, value in values.items()})
    minima = Minima(positions, ends.energies[chosen], found.counts, converged[chosen])
    _warn(minima, endless)
    return minima


class _Ends(NamedTuple):
    positions: Tensor
    energies: Tensor
    converged: Tensor
    endless: Tensor


def _search(problem: Problem, starts: Tensor, max_evaluations: int) -> _Ends:
    """Run down from every start, out to the border where the way leads there."""
    objective = problem.value_and_gradient(starts.shape[1])
    start_values, _ = objective(starts)
    first = lbfgs(objective, starts, max_evaluations=max_evaluations)
    usual = problem.effect(starts).mean(1, keepdim=True)
    pushed = push(objective, first.positions, problem.effect(first.positions), usual_effect=usual)
    again = lower_inside(objective, pushed)
    second = first
    if not torch.equal(again, first.positions):
        second = lbfgs(objective, again, max_evaluations=max_evaluations)
    # A run that had arrived may have nothing left to show it by.
    resumed = (again != pushed.positions).any(0)
    converged = second.converged | (first.converged & ~resumed)
    outside = pushed.outside & ~resumed
    ends = second.positions
    inwards = falls_at_border(objective, ends, outside, start_values=start_values)
    outwards = falls_far(objective, ends, problem.effect(ends), starts=starts, usual_effect=usual)
    endless = second.unbounded | (first.unbounded & ~resumed) | inwards | outwards
    return _Ends(ends, second.values, converged, endless)


def _hop(
    problem: Problem, ends: _Ends, starts: Tensor, strategy: BasinHopping, max_evaluations: int
) -> _Ends:
    """Hop on from the ends of a first search, and search once more from the best of every run."""
    generator = torch.Generator(starts.device).manual_seed(int(torch.randint(2**62, ())))
    first = Visited(ends.positions, torch.where(ends.endless, torch.inf, ends.energies))
    spread = starts.std(1, correction=0) if starts.shape[1] > 1 else torch.ones_like(starts[:, 0])
    lowest = hop(
        problem.value_and_gradient(starts.shape[1]),
        first,
        spread,
        strategy,
        generator,
        max_evaluations=max_evaluations,
    )
    return _search(problem, lowest.positions, max_evaluations)


def _warn(minima: Minima, endless: Tensor) -> None:
    if bool(endless.any()):
        warnings.warn(
            f"The energy falls without end along {int(endless.sum())} of {len(endless)} runs: they "
            "have no minimum, and the density cannot be normalised or is infinite at a border. "
            "Those rows are not converged. Add a term that confines, or declare a bounded support.",
            stacklevel=3,
        )
    elif not bool(minima.converged[0]):
        warnings.warn(
            f"The search ended at energy {float(minima.energies[0]):.6g} before it came to a "
            "minimum. Raise max_evaluations, or check whether the energy is smooth and finite "
            "around it.",
            stacklevel=3,
        )
