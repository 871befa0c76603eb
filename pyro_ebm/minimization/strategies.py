"""How minima are looked for, beside L-BFGS from many starts."""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple


class SimulatedAnnealing(NamedTuple):
    """Simulated annealing of a discrete energy, then descent by single changes.

    ``num_sweeps``: so often every site has a turn while the temperature falls.
    """

    num_sweeps: int = 200


class BasinHopping(NamedTuple):
    """Steps from minimum to minimum of a rugged, continuous energy.

    Every run disturbs the minimum that it is at, goes down from there by L-BFGS, and stays at the
    new minimum with probability min(1, exp(-rise / temperature)). Of every run the lowest minimum
    counts. Source: Wales, Doye (1997), Global optimization by basin-hopping.

    ``num_hops``: disturbances of every run. ``step_size``: their standard deviation at first, in
    units of that of the starts, by coordinate; it follows the share of hops that are taken, which
    shall be one half. ``temperature``: None for half the standard deviation of the energies of the
    first minima.
    """

    num_hops: int = 50
    step_size: float = 0.3
    temperature: float | None = None


Strategy = SimulatedAnnealing | BasinHopping


def check_strategy(strategy: object, *, discrete: bool) -> None:
    """Refuse a strategy that does not suit, and numbers out of range.

    :raises TypeError: something else, or a strategy for the other kind of energy; no numbers.
    :raises ValueError: numbers out of range.
    """
    wanted = SimulatedAnnealing if discrete else BasinHopping
    if strategy is None:
        return
    if not isinstance(strategy, wanted):
        kind = "discrete" if discrete else "continuous"
        raise TypeError(
            f"expected strategy to be None or {wanted.__name__}(...) for a {kind} energy, got "
            f"{strategy!r}."
        )
    number = strategy.num_sweeps if isinstance(strategy, SimulatedAnnealing) else strategy.num_hops
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"expected a whole number of at least 1 in {strategy!r}.")
    if isinstance(strategy, BasinHopping):
        for name in ("step_size", "temperature"):
            positive = getattr(strategy, name)
            if positive is None and name == "temperature":
                continue
            if not isinstance(positive, Real) or isinstance(positive, bool):
                raise TypeError(f"expected {name} to be a number in {strategy!r}.")
            if not 0.0 < float(positive) < math.inf:
                raise ValueError(f"expected {name} to be positive and finite in {strategy!r}.")
