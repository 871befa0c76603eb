"""The measurements of speed: repeated processes, summed up as one contestant each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .picture import STAGES
from .process import Failure, Outcome, measure
from .statistics import Effective, spread, worst


class Contestant(NamedTuple):
    """What is run: a module with its options; ``threads`` as :func:`measure` takes them."""

    library: str
    setting: str
    module: str
    options: Mapping[str, Any]
    time_limit: float = 120.0
    threads: int | None = 1


class Run(NamedTuple):
    """One repeat: effective draws of the worst parameter, and seconds by stage."""

    effective: Effective
    stages: tuple[float, float, float]
    until_draws: float

    @property
    def per_second(self) -> float:
        """Effective draws of the mean per second after warm-up."""
        return self.effective.mean / self.stages[2]

    @property
    def bulk_per_second(self) -> float:
        """Effective draws of the bulk per second after warm-up."""
        return self.effective.bulk / self.stages[2]


class Score(NamedTuple):
    """All repeats of a contestant, or why there are none."""

    contestant: Contestant
    runs: tuple[Run, ...]
    failure: str | None

    def median(self, attribute: str) -> float:
        """Median over the repeats; NaN when there are none."""
        return spread([getattr(run, attribute) for run in self.runs])[0] if self.runs else np.nan

    @property
    def stages(self) -> list[tuple[float, float, float]]:
        """Per repeat the seconds by stage."""
        return [run.stages for run in self.runs]

    def numbers(self) -> dict[str, Any]:
        """Every number, for JSON."""
        runs = [
            {
                "ess": run.effective._asdict(),
                "seconds": dict(zip(STAGES, run.stages, strict=True)),
                "until_draws": run.until_draws,
            }
            for run in self.runs
        ]
        return {**self.contestant._asdict(), "runs": runs, "failure": self.failure}


def compete(contestants: list[Contestant], repeats: int) -> list[Score]:
    """Run all contestants in turn, ``repeats`` times around; one that fails is out."""
    runs: list[list[Run]] = [[] for _ in contestants]
    failures: list[str | None] = [None for _ in contestants]
    for repeat in range(repeats):
        for i, contestant in enumerate(contestants):
            if failures[i] is not None:
                continue
            label = f"{contestant.library}, {contestant.setting}"
            try:
                outcome = measure(
                    contestant.module,
                    {**contestant.options, "seed": repeat},
                    time_limit=contestant.time_limit,
                    threads=contestant.threads,
                )
            except Failure as failure:
                failures[i] = str(failure)
                print(f"  {label}: {failure}", flush=True)
                continue
            runs[i].append(_run(outcome))
            print(
                f"  {label}: {runs[i][-1].per_second:,.0f} a second, "
                f"{outcome.until_draws:.1f} s in all",
                flush=True,
            )
    return [
        Score(contestant, tuple(found), failure)
        for contestant, found, failure in zip(contestants, runs, failures, strict=True)
    ]


def _run(outcome: Outcome) -> Run:
    before, sampling = (outcome.seconds[stage] for stage in STAGES[1:])
    start = outcome.until_draws - before - sampling
    return Run(worst(outcome.draws), (start, before, sampling), outcome.until_draws)
