"""Counts the gradients of an effective draw: ``python -m benchmarks.gradients``.

A count needs no quiet machine. Effective draws are those of the worst parameter, the lesser of its
bulk's and its tails'. Ours are of the defaults with nutpie's number of chains, tuning and draws,
and with many chains; nutpie's are of its own defaults, once with a diagonal and once with its
low-rank metric, of which the better one counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .answers import judge
from .contestants import JAX_ALONE, NUTPIE, OURS
from .machine import attributes
from .process import Failure, measure
from .table import Table, number, write
from .targets import SUITE

RESULTS = Path(__file__).parent / "results" / "gradients"
HEADING = "Gradients per effective draw"
REMARKS = (
    "All gradients of all chains over the effective draws of the worst parameter, the lesser of "
    "its bulk and its tails, of all chains joined end to end; the first run of each setting whose "
    "means and sds lie within their standard errors of the truth. Ours are made at the defaults, "
    "in float64.",
    "With 4 chains warm-up is counted in: 400 transitions and 1000 draws a chain; nutpie's own "
    "defaults are the same for its diagonal metric, and 800 of tuning for its low-rank one, of "
    "which the better one stands here. With many chains it is left out, and its share of all "
    "gradients stands beside; what faster chains do while they wait for the slowest, and the "
    "transitions between warm-up and the first draw, are counted with the draws.",
)
# By number of chains the transitions of warm-up and the draws of every chain.
OF_OURS = {4: (400, 1000), 64: (100, 200), 1024: (80, 100)}
# By nutpie's metric its default tuning.
OF_NUTPIE = {False: 400, True: 800}
_SEEDS, _SECONDS = 3, 600.0
_VERSIONS = ("torch", "pyro-ppl", "nutpie", "pymc", "arviz-stats")


class Count(NamedTuple):
    """The gradients of a run, and what its draws are worth."""

    target: str
    setting: str
    warmup: float
    sampling: float
    ess: float
    why_not: str

    @property
    def in_all(self) -> float:
        """Gradients per effective draw, those of warm-up too."""
        return (self.warmup + self.sampling) / self.ess

    @property
    def after_warmup(self) -> float:
        """Gradients per effective draw, of the draws alone."""
        return self.sampling / self.ess

    @property
    def warmup_share(self) -> float:
        """The part of all gradients that warm-up took."""
        return self.warmup / (self.warmup + self.sampling)


def count(target: str, setting: str, module: str, options: Mapping[str, Any]) -> Count:
    """The first of a few seeds with a right answer; else what was wrong with the last."""
    found = Count(target, setting, np.nan, np.nan, np.nan, "")
    with tempfile.TemporaryDirectory() as caches:
        for seed in range(_SEEDS):
            given = {**options, "target": target, "seed": seed}
            try:
                made = measure(module, given, time_limit=_SECONDS, caches=Path(caches))
            except Failure as failure:
                return found._replace(why_not=str(failure))
            answer = judge(target, made.draws)
            warmup, sampling = made.facts["gradients"]
            ess = min(answer.effective.bulk, answer.effective.tail)
            found = Count(target, setting, warmup, sampling, ess, answer.wrong)
            if not answer.wrong:
                break
    return found


def of_ours(target: str, chains: int) -> Count:
    """Ours with so many chains."""
    warmup, num_draws = OF_OURS[chains]
    options = {"chains": chains, "warmup": warmup, "num_draws": num_draws, "dtype": "float64"}
    options["jit_compile"] = False
    return count(target, f"{OURS} {chains}", "benchmarks.ours", options)


def of_nutpie(target: str, low_rank: bool) -> Count:
    """nutpie at its defaults."""
    options = {
        "chains": 4,
        "warmup": OF_NUTPIE[low_rank],
        "num_draws": 1000,
        "low_rank": low_rank,
        "backend": "jax" if target in JAX_ALONE else "numba",
    }
    setting = f"{NUTPIE} {'low-rank' if low_rank else 'diagonal'}"
    return count(target, setting, "benchmarks.peers.nutpie_nuts", options)


def table(counts: Sequence[Count]) -> Table:
    """A row a target, and in how many ours need no more than nutpie's."""
    rows, ratios = [], {chains: [] for chains in OF_OURS}
    for target in dict.fromkeys(one.target for one in counts):
        own = {one.setting: one for one in counts if one.target == target}
        ours = {chains: own[f"{OURS} {chains}"] for chains in OF_OURS}
        theirs = [one for one in own.values() if one.setting.startswith(NUTPIE)]
        right = [one for one in theirs if not one.why_not]
        row = [target, _told(ours[4], ours[4].in_all)]
        row.append(number(min(one.in_all for one in right)) if right else theirs[0].why_not)
        for one in ours.values():
            told = _told(one, one.after_warmup)
            row.append(told if one.why_not else f"{told} ({one.warmup_share:.0%})")
        row.append(number(min(one.after_warmup for one in right)) if right else "")
        for chains, one in ours.items():
            if one.why_not or not right:
                continue
            ratio = one.in_all if chains == 4 else one.after_warmup
            best = [each.in_all if chains == 4 else each.after_warmup for each in right]
            ratios[chains].append(ratio / min(best))
        rows.append(row)
    return Table(
        "Ours beside nutpie's",
        [
            "target",
            f"{OURS}, 4 chains, warm-up included",
            f"{NUTPIE}, 4 chains, the same",
            *(f"{OURS}, {chains} chains, after warm-up (its share)" for chains in OF_OURS),
            f"{NUTPIE}, 4 chains, after warm-up",
        ],
        rows,
        " ".join(_verdict(chains, values) for chains, values in ratios.items() if values),
        {"counts": [one._asdict() for one in counts]},
    )


def _told(one: Count, value: float) -> str:
    return one.why_not or number(value)


def _verdict(chains: int, values: Sequence[float]) -> str:
    what = "warm-up included" if chains == 4 else "after warm-up"
    return (
        f"{OURS} with {chains} chains, {what}: no more gradients than {NUTPIE} on "
        f"{sum(value <= 1 for value in values)} of {len(values)}, in the median "
        f"{np.median(values):.2f} times as many, at most {max(values):.2f} times."
    )


def main() -> None:
    """Count, write after every target, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SUITE, default=SUITE, help="these targets")
    parser.add_argument("--results", type=Path, default=RESULTS, help="without ending")
    given = parser.parse_args()
    began = time.perf_counter()
    counts: list[Count] = []
    for target in given.only:
        counts += [of_ours(target, chains) for chains in OF_OURS]
        counts += [of_nutpie(target, low_rank) for low_rank in OF_NUTPIE]
        for one in counts[-len(OF_OURS) - len(OF_NUTPIE) :]:
            print(f"{target}, {one.setting}: {_told(one, one.in_all)}", flush=True)
        write(
            [table(counts)],
            given.results,
            heading=HEADING,
            remarks=REMARKS,
            attributes=attributes(_VERSIONS, began),
        )
    print(given.results.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
