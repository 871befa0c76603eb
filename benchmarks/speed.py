"""Runs of contestants: what each has cost and brought, as rows that go to JSON and come back."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyro_ebm.diagnostics import RELIABLE_DRAWS

from .answers import judge
from .contestants import Contestant
from .process import Failure, measure

ENOUGH = 1000.0
COLD, WARM = "cold", "warm"


class Run(NamedTuple):
    """One process: what it was, and what came of it.

    ``draws`` are those of every chain; ``cache`` says whether compiled code of an earlier process
    was at hand. Seconds: ``until_draws`` from the start of the process, ``sampling`` after warm-up,
    ``alone`` the same without what is compiled in it. Gradients are those of all chains together;
    ``memory`` is the peak in MB. An answer counts where ``why_not`` is "".
    """

    target: str
    column: str
    setting: str
    chains: int
    draws: int
    cache: str
    repeat: int
    why_not: str
    ess: float = math.nan
    squared_error: float = math.nan
    until_draws: float = math.nan
    sampling: float = math.nan
    alone: float = math.nan
    warmup_gradients: float = math.nan
    gradients: float = math.nan
    memory: float = math.nan

    @property
    def counts(self) -> bool:
        """Whether there is an answer, and a right one."""
        return not self.why_not

    @property
    def per_second(self) -> float:
        """Effective draws a second, after warm-up."""
        return self.ess / self.alone

    @property
    def until_enough(self) -> float:
        """Seconds from the start of the process to an ESS of 1000.

        The sampling that the run has made beyond is taken off at its pace, what lacks is added;
        chains keep the 50 draws without which an ESS means little.
        """
        part = max(ENOUGH / self.ess, RELIABLE_DRAWS / self.draws)
        return self.until_draws + (part - 1.0) * self.alone

    @property
    def gradients_with_warmup(self) -> float:
        """Gradients per effective draw, those of warm-up included."""
        return (self.warmup_gradients + self.gradients) / self.ess

    @property
    def gradients_after_warmup(self) -> float:
        """Gradients per effective draw of the draws alone."""
        return self.gradients / self.ess

    @property
    def warmup_share(self) -> float:
        """The part of all gradients that warm-up took."""
        return self.warmup_gradients / (self.warmup_gradients + self.gradients)

    def numbers(self) -> dict[str, Any]:
        """The row for JSON; None where there is no number."""
        row = self._asdict()
        return {key: None if value != value else value for key, value in row.items()}


def compete(group: Sequence[Contestant], repeat: int) -> Iterator[Run]:
    """Run the contestants of one column, each with nothing compiled; then the soonest once more.

    Of those that compile in several ways, the soonest of each. Every process keeps what it compiles
    in a folder of its own, where the later run finds it.
    """
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(i) for i in range(len(group))]
        runs = []
        for contestant, caches in zip(group, folders, strict=True):
            runs.append(run(contestant, repeat, COLD, caches))
            yield runs[-1]
        counting = [i for i, one in enumerate(runs) if one.counts]
        for way in dict.fromkeys(group[i].way for i in counting):
            own = [i for i in counting if group[i].way == way]
            soonest = min(own, key=lambda i: runs[i].until_enough)
            yield run(group[soonest], repeat, WARM, folders[soonest])


def unmeasured(contestant: Contestant, repeat: int, why_not: str, cache: str = COLD) -> Run:
    """The row of a contestant of which no figures are known."""
    length = [contestant.options[key] for key in ("chains", "num_draws")]
    return Run(*contestant[:3], *length, cache, repeat, why_not)


def run(contestant: Contestant, repeat: int, cache: str, caches: Path) -> Run:
    """One process and the judgement on its answer."""
    try:
        outcome = measure(
            contestant.module,
            {**contestant.options, "target": contestant.target, "seed": repeat},
            time_limit=contestant.time_limit,
            threads=contestant.threads,
            caches=caches,
        )
    except Failure as failure:
        return unmeasured(contestant, repeat, str(failure), cache)
    answer = judge(contestant.target, outcome.draws)
    sampling = outcome.seconds["sampling"]
    warmup, after = outcome.facts.get("gradients", (math.nan, math.nan))
    return unmeasured(contestant, repeat, answer.wrong, cache)._replace(
        ess=min(answer.effective.mean, answer.effective.bulk),
        squared_error=answer.squared_error,
        until_draws=outcome.until_draws,
        sampling=sampling,
        alone=outcome.facts.get("alone", sampling),
        warmup_gradients=warmup,
        gradients=after,
        memory=outcome.facts["memory"],
    )


def read(rows: Sequence[dict[str, Any]]) -> list[Run]:
    """Runs from their rows."""
    return [
        Run(**{key: math.nan if value is None else value for key, value in row.items()})
        for row in rows
    ]
