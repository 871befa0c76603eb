"""Measures everything and writes results.md, results.json and results.png: ``make bench``.

A process a measurement, one at a time; every one is written down as it ends, so that an
interrupted run keeps what it has. One repeat of all takes two hours on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import picture
from .contestants import GEARS, LIBRARIES, OURS, USUAL_GEARS, Contestant, contestants
from .goals import to_reach
from .machine import attributes
from .models import check
from .seeds import errors
from .speed import COLD, WARM, Run, compete, read, unmeasured
from .table import Table, write
from .tables import all_tables, per_second, points, until_enough
from .targets import INDEPENDENT, SUITE

RESULTS = Path(__file__).parent / "results"
HEADING = "pyro_ebm beside other libraries"
REMARKS = (
    "Medians of the repeats, one process at a time. Effective draws are those of the worst "
    "parameter: the lesser of its mean's and its bulk's, ArviZ's estimates of all chains joined "
    "end to end, as those of many short chains are too high where draws are anticorrelated. A "
    "speed counts only where every mean and sd lies within its standard errors of the truth. "
    "Every library has its best number of chains by the table's own figure; gradients are "
    "those of all chains. The pace after warm-up holds no compilation; nutpie's, which is "
    "told only with its tuning, is shared out by gradients. JAX runs what it is given at once, "
    "not behind what it compiles next, as the time of draws would be hidden there.",
)
VERSIONS = ("torch", "pyro-ppl", "numpyro", "jax", "nutpie", "pymc", "ebmkit", "arviz-stats")


class Results:
    """The runs so far, and where they are written after each."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.runs: list[Run] = []
        self.seeds: list[Table] = []
        self.done = False
        self._given, self._began = given, time.perf_counter()
        if given.resume:
            stored = json.loads((given.results / "results.json").read_text())
            self.runs = read(stored["attributes"].get("runs", []))

    def add(self, run: Run) -> None:
        """One more, written down and told."""
        self.runs.append(run)
        told = run.why_not or (
            f"{run.per_second:,.0f} a second, {run.until_enough:.1f} s to an ESS of 1000"
        )
        print(f"  {run.column}, {run.setting}, {run.cache}: {told}", flush=True)
        self.write()

    def has(self, group: Sequence[Contestant], repeat: int) -> bool:
        """Whether a column's runs are all there; those of one that is begun are dropped."""
        target, column = group[0].target, group[0].column
        own = [r for r in self.runs if (r.target, r.column, r.repeat) == (target, column, repeat)]
        cold = {r.setting for r in own if r.cache == COLD}
        warm = any(r.cache == WARM for r in own) or not any(r.counts for r in own)
        if warm and cold >= {one.setting for one in group}:
            return True
        self.runs = [run for run in self.runs if run not in own]
        return False

    def write(self) -> None:
        """All tables and every number."""
        write(
            [to_reach(self.runs), *all_tables(self.runs), *self.seeds],
            self._given.results / "results",
            heading=HEADING,
            remarks=[*REMARKS, *self._partial()],
            attributes={
                **attributes(VERSIONS, self._began),
                **{k: str(v) for k, v in vars(self._given).items()},
                "complete": self.done and not self._partial(),
                "runs": [run.numbers() for run in self.runs],
            },
        )

    def draw(self) -> None:
        """The picture: speed after warm-up, and the first seconds of a process."""
        fast = points(self.runs, per_second, greatest=True)
        soon = points(self.runs, until_enough)
        if not fast:
            return
        panels = [
            picture.Panel("after warm-up", "effective draws a second", fast),
            picture.Panel("from the start of the process", "seconds to an ESS of 1000", soon),
        ]
        picture.draw(panels, OURS, self._given.results / "results.png")

    def _partial(self) -> list[str]:
        """What a reader must know of results that are not those of the whole suite."""
        given, said = self._given, []
        if not self.done:
            said.append("The run had not ended when this was written.")
        left_out = [target for target in (*SUITE, *INDEPENDENT) if target not in given.only]
        if left_out:
            said.append(f"A part of the suite, without {', '.join(left_out)}.")
        others = [library for library in LIBRARIES if library not in given.libraries]
        if others:
            said.append(f"Without {', '.join(others)}.")
        return said


def main() -> None:
    """Measure, write, and say where the results are."""
    given = _arguments()
    results = Results(given)
    try:
        _measure(results, given)
        results.done = True
    except KeyboardInterrupt:
        print("Interrupted: what was measured is kept.")
    results.write()
    results.draw()
    print((given.results / "results.md").read_text())
    print(f"Written to {given.results}")


def _measure(results: Results, given: argparse.Namespace) -> None:
    differing = check(given.libraries, given.only)
    for repeat in range(given.repeats):
        for target in given.only:
            print(f"{target}, repeat {repeat + 1} of {given.repeats}", flush=True)
            everyone = contestants(target, libraries=given.libraries, gears=given.gears)
            for group in _by_column(everyone):
                if results.has(group, repeat):
                    continue
                why = differing.get((group[0].library, target))
                if why is not None:
                    for one in group:
                        results.add(unmeasured(one, repeat, why))
                    continue
                for run in compete(group, repeat):
                    results.add(run)
    if given.seeds and OURS in given.libraries:
        print("Errors of many seeds", flush=True)
        results.seeds.append(errors(given.seeds))


def _by_column(everyone: Sequence[Contestant]) -> list[list[Contestant]]:
    groups: dict[str, list[Contestant]] = {}
    for one in everyone:
        groups.setdefault(one.column, []).append(one)
    return list(groups.values())


def _arguments() -> Any:
    targets = (*SUITE, *INDEPENDENT)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="of every measurement")
    parser.add_argument("--only", nargs="+", choices=targets, default=targets, help="these targets")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--gears", nargs="+", choices=GEARS, default=USUAL_GEARS, help="of ours")
    parser.add_argument("--seeds", type=int, default=200, help="of the comparison of errors")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    parser.add_argument("--resume", action="store_true", help="go on where a run was interrupted")
    given = parser.parse_args()
    if given.repeats < 1 or given.seeds < 0:
        parser.error("expected --repeats of at least 1 and --seeds of at least 0")
    if given.resume and not (given.results / "results.json").exists():
        parser.error(f"there is no results.json in {given.results} to resume from")
    return given


if __name__ == "__main__":
    main()
