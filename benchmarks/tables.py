"""Tables made of runs: one a question, a row a target, a column a library.

A library stands with its best setting that has given right answers in all repeats, by the figure
that the table is about. What did not count is listed with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .contestants import COLUMNS, EBMKIT, NUTPIE, OURS
from .speed import COLD, WARM, Run
from .table import Table, number
from .targets import INDEPENDENT, SUITE

Figure = Callable[[Run], float]


class Best(NamedTuple):
    """The runs of a column's best setting on a target, and the median of the figure."""

    runs: tuple[Run, ...]
    value: float

    @property
    def setting(self) -> str:
        """The setting in words."""
        return self.runs[0].setting


def per_second(run: Run) -> float:
    """Effective draws a second."""
    return run.per_second


def until_enough(run: Run) -> float:
    """Seconds to an ESS of 1000."""
    return run.until_enough


def with_warmup(run: Run) -> float:
    """Gradients per effective draw, with warm-up."""
    return run.gradients_with_warmup


def after_warmup(run: Run) -> float:
    """Gradients per effective draw, after warm-up."""
    return run.gradients_after_warmup


def best(runs: Iterable[Run], figure: Figure, *, greatest: bool = False) -> Best | None:
    """The setting with the best median; None where no setting is always right."""
    settings: dict[str, list[Run]] = {}
    for run in runs:
        settings.setdefault(f"{run.column}, {run.setting}", []).append(run)
    found = [
        Best(tuple(group), float(np.median([figure(run) for run in group])))
        for group in settings.values()
        if all(run.counts for run in group)
    ]
    found = [one for one in found if np.isfinite(one.value)]
    if not found:
        return None
    return (max if greatest else min)(found, key=lambda one: one.value)


def of(
    runs: Iterable[Run], target: str, columns: str | Sequence[str], cache: str = COLD
) -> list[Run]:
    """The runs of a target and of one column or several, with that cache."""
    chosen = (columns,) if isinstance(columns, str) else columns
    return [r for r in runs if r.target == target and r.column in chosen and r.cache == cache]


def throughput(runs: Sequence[Run]) -> Table:
    """Effective draws a second after warm-up."""
    return _table(
        "Effective draws a second, after warm-up",
        runs,
        lambda found: _cell(found, per_second, greatest=True),
        "Of the worst parameter.",
    )


def first_seconds(runs: Sequence[Run], cache: str) -> Table:
    """Seconds from the start of the process."""
    said = "nothing compiled before" if cache == COLD else "what was compiled before at hand"
    return _table(
        f"Seconds from the start of the process to an ESS of 1000, {said}",
        runs,
        lambda found: _cell(found, until_enough),
        "Imports, set-up, compilation, warm-up and draws; of the worst parameter.",
        cache=cache,
    )


def memory(runs: Sequence[Run]) -> Table:
    """Peak memory of the fastest setting."""
    return _table("Peak memory in MB, of the fastest setting", runs, _memory_cell, "")


def gradients(runs: Sequence[Run]) -> Table:
    """Gradients per effective draw of ours and nutpie."""
    ours = [column for column in COLUMNS if column.startswith(OURS)]
    rows = []
    for target in _targets(runs):
        mine, theirs = of(runs, target, ours), of(runs, target, NUTPIE)
        few = [[r for r in group if r.chains == 16] for group in (mine, theirs)]
        many = [best(group, after_warmup) for group in (mine, theirs)]
        rows.append(
            [
                target,
                *(_value(best(group, with_warmup)) for group in few),
                *(_value(one) for one in many),
                *("" if one is None else f"{one.runs[0].warmup_share:.0%}" for one in many),
            ]
        )
    columns = (
        *("target", f"{OURS}, 16 chains, with warm-up", f"{NUTPIE}, 16 chains, with warm-up"),
        *(f"{OURS}, after warm-up", f"{NUTPIE}, after warm-up"),
        *(f"share of warm-up, {OURS}", f"share of warm-up, {NUTPIE}"),
    )
    verdict = "After warm-up each with the number of chains that serves it best."
    return Table("Gradients per effective draw", columns, rows, verdict, {})


def promised(runs: Sequence[Run]) -> Table:
    """Squared errors of the means over what the effective sample sizes promise."""
    rows = []
    for column in (*COLUMNS, EBMKIT):
        found = [r.squared_error for r in runs if r.column == column and r.counts]
        if found:
            rows.append([column, str(len(found)), f"{np.mean(found):.2f}"])
    verdict = (
        "About 1 where the effective sample sizes are honest; the parameters of a run err together."
    )
    return Table(
        "Errors of the means by library",
        ("library", "runs", "squared error over the promised"),
        rows,
        verdict,
        {},
    )


def uncounted(runs: Sequence[Run]) -> Table:
    """Every run that does not count, with the reason."""
    rows = [[r.target, r.column, r.setting, r.why_not] for r in runs if not r.counts]
    seen = list(dict.fromkeys(map(tuple, rows)))
    columns = ("target", "library", "setting", "why")
    verdict = "" if seen else "Every answer counts."
    return Table("What does not count, and why", columns, [list(row) for row in seen], verdict, {})


def beside_ebmkit(runs: Sequence[Run]) -> Table:
    """Two Gaussians of independent coordinates, all chains started at exact draws."""
    columns = (f"{OURS} float32", f"{OURS} float64", EBMKIT)
    targets = [target for target in INDEPENDENT if any(r.target == target for r in runs)]
    rows = [
        [target, *(_cell(of(runs, target, c), per_second, greatest=True) for c in columns)]
        for target in targets
    ]
    said = "64 chains, started at exact draws."
    title = "Two Gaussians beside ebmkit: effective draws a second, after warm-up"
    return Table(title, ("target", *columns), rows, said, {})


def all_tables(runs: Sequence[Run]) -> list[Table]:
    """The tables that have rows."""
    made = [
        throughput(runs),
        first_seconds(runs, COLD),
        first_seconds(runs, WARM),
        gradients(runs),
        memory(runs),
        beside_ebmkit(runs),
        promised(runs),
    ]
    return [*(table for table in made if table.rows), uncounted(runs)]


def points(
    runs: Sequence[Run], figure: Figure, *, greatest: bool = False, cache: str = COLD
) -> dict[str, dict[str, float]]:
    """The best figure by column and target, for a picture."""
    found: dict[str, dict[str, float]] = {}
    for column in COLUMNS:
        for target in _targets(runs):
            one = best(of(runs, target, column, cache), figure, greatest=greatest)
            if one is not None:
                found.setdefault(column, {})[target] = one.value
    return found


def _targets(runs: Sequence[Run]) -> list[str]:
    return [target for target in SUITE if any(run.target == target for run in runs)]


def _table(
    title: str,
    runs: Sequence[Run],
    cell: Callable[[list[Run]], str],
    verdict: str,
    cache: str = COLD,
) -> Table:
    shown = [c for c in COLUMNS if any(r.column == c and r.target in SUITE for r in runs)]
    rows = [
        [target, *(cell(of(runs, target, column, cache)) for column in shown)]
        for target in _targets(runs)
    ]
    return Table(title, ("target", *shown), rows, verdict, {})


def _cell(runs: Sequence[Run], figure: Figure, *, greatest: bool = False) -> str:
    found = best(runs, figure, greatest=greatest)
    return _value(found) if found is not None or not runs else _reason(runs)


def _reason(runs: Sequence[Run]) -> str:
    """Why no setting counts, in two words; the reasons stand in a table of their own."""
    return "no answer" if all(math.isnan(run.ess) for run in runs) else "wrong answer"


def _value(found: Best | None) -> str:
    return "" if found is None else f"{number(found.value)} ({found.setting})"


def _memory_cell(runs: Sequence[Run]) -> str:
    found = best(runs, per_second, greatest=True)
    return "" if found is None else number(float(np.median([r.memory for r in found.runs])))
