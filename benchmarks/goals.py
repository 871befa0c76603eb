"""What is to be reached, whether it is, and on which targets ours is behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .contestants import COLUMNS, NUMPYRO, NUTPIE, OURS, PYRO
from .speed import COLD, WARM, Run
from .table import Table, number
from .tables import after_warmup, best, of, per_second, until_enough, with_warmup
from .targets import EIGHT_SCHOOLS, SUITE

AT_LEAST = {NUTPIE: 3.0, f"{NUMPYRO} vectorised": 30.0, PYRO: 1000.0}
AHEAD = 0.9


class Goal(NamedTuple):
    """A claim, what was found, and whether it is met; None where there is nothing to compare."""

    claim: str
    found: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """In words whether it is met."""
        return {True: "met", False: "not met", None: "not measured"}[self.met]


def to_reach(runs: Sequence[Run]) -> Table:
    """All goals as a table."""
    found = goals(runs)
    rows = [[goal.claim, goal.found, goal.verdict] for goal in found]
    numbers = {goal.claim: goal.met for goal in found}
    return Table("To reach", ("goal", "found", "verdict"), rows, "", numbers)


def goals(runs: Sequence[Run]) -> list[Goal]:
    """All goals, judged by these runs."""
    return [
        *(_times_as_fast(runs, *pair) for pair in AT_LEAST.items()),
        _ahead_in_the_median(runs),
        *(_ahead_in_time(runs, cache) for cache in (COLD, WARM)),
        *_few_gradients(runs),
    ]


def ratios(runs: Sequence[Run], library: str) -> dict[str, float]:
    """By target the effective draws a second of ours over those of a library.

    Infinite where the library has no right answer.
    """
    found = {}
    for target in SUITE:
        theirs = of(runs, target, _columns(library))
        mine = best(of(runs, target, _columns(OURS)), per_second, greatest=True)
        if not theirs or not of(runs, target, _columns(OURS)):
            continue
        other = best(theirs, per_second, greatest=True)
        if mine is None:
            found[target] = 0.0
        else:
            found[target] = np.inf if other is None else mine.value / other.value
    return found


def _columns(library: str) -> tuple[str, ...]:
    """The columns of a library, or the one of that name; Pyro with and without its jit."""
    return tuple(c for c in COLUMNS if c == library or c.startswith(f"{library} "))


def _times_as_fast(runs: Sequence[Run], library: str, least: float) -> Goal:
    claim = f"On eight schools {least:,.0f} times the effective draws a second of {library}"
    found = ratios(runs, library)
    if EIGHT_SCHOOLS not in found:
        return Goal(claim, "", None)
    ratio = found[EIGHT_SCHOOLS]
    return Goal(claim, f"{_times(ratio)}", ratio >= least)


def _ahead_in_the_median(runs: Sequence[Run]) -> Goal:
    claim = f"More effective draws a second than {NUTPIE} in the median of the suite"
    found = ratios(runs, NUTPIE)
    if not found:
        return Goal(claim, "", None)
    middle = float(np.median(list(found.values())))
    behind = _listed({t: _times(r) for t, r in found.items() if r < 1})
    ahead = sum(ratio > 1 for ratio in found.values())
    said = f"{_times(middle)}, ahead on {ahead} of {len(found)}"
    return Goal(claim, f"{said}; behind on {behind}" if behind else said, middle > 1)


def _ahead_in_time(runs: Sequence[Run], cache: str) -> Goal:
    claim = (
        f"Sooner at an ESS of 1000 than {NUTPIE} and {NUMPYRO} on nine targets in ten, from "
        f"a {cache} cache"
    )
    ahead, behind = [], {}
    for target in SUITE:
        mine = of(runs, target, _columns(OURS), cache)
        peers = {name: of(runs, target, _columns(name), cache) for name in (NUTPIE, NUMPYRO)}
        # In a warm cache there are only those that had a right answer before.
        if not mine or not any(peers.values()):
            continue
        own = best(mine, until_enough)
        others = {name: best(found, until_enough) for name, found in peers.items()}
        known = {name: found.value for name, found in others.items() if found is not None}
        first = min(known, key=lambda name: known[name], default=None)
        if own is not None and (first is None or own.value < known[first]):
            ahead.append(target)
        else:
            said = "no right answer" if own is None else f"{number(own.value)} s"
            behind[target] = said if first is None else f"{said}, {first} {number(known[first])} s"
    if not ahead and not behind:
        return Goal(claim, "", None)
    count = len(ahead) + len(behind)
    said = f"{len(ahead)} of {count}" + (f"; behind on {_listed(behind)}" if behind else "")
    return Goal(claim, said, len(ahead) >= AHEAD * count)


def _few_gradients(runs: Sequence[Run]) -> list[Goal]:
    """Ours beside nutpie: with warm-up at its number of chains, and after warm-up."""
    made = []
    for claim, figure, chains in (
        (f"No more gradients per effective draw than {NUTPIE}, 16 chains", with_warmup, 16),
        (f"No more after warm-up, each at its best, than {NUTPIE}", after_warmup, None),
    ):
        ahead, behind = 0, {}
        for target in SUITE:
            pair = [
                best(
                    [r for r in of(runs, target, _columns(name)) if chains in (None, r.chains)],
                    figure,
                )
                for name in (OURS, NUTPIE)
            ]
            mine, theirs = pair
            if mine is None or theirs is None:
                continue
            if mine.value <= theirs.value:
                ahead += 1
            else:
                behind[target] = f"{number(mine.value)} to {number(theirs.value)}"
        count = ahead + len(behind)
        said = f"{ahead} of {count}" + (f"; more on {_listed(behind)}" if behind else "")
        made.append(Goal(claim, said if count else "", 2 * ahead >= count if count else None))
    return made


def _times(ratio: float) -> str:
    return f"{number(ratio)} times" if np.isfinite(ratio) else "the other has no right answer"


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{target}: {said}" for target, said in found.items())
