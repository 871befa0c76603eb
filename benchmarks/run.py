"""Measures everything and writes results.md, results.json and results.png: ``make bench``.

Four tables: speed on eight schools, time from the start of a process, speed on two Gaussians, and
whether the errors are those that the effective sample sizes promise.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from . import picture
from .comparisons import OURS, cold_start, errors, gaussians, throughput
from .machine import attributes
from .table import write
from .targets import EIGHT_SCHOOLS

RESULTS = Path(__file__).parent / "results"
HEADING = "pyro_ebm beside other libraries"
REMARKS = (
    "Medians of the repeats, with the least and the greatest; one process at a time. Effective "
    "draws are those of the worst parameter: of its mean, which the last table holds against the "
    "true error, and of its bulk (ArviZ's estimates, of all chains joined end to end, as those of "
    "many short chains are too high where draws are anticorrelated). The time after warm-up is all "
    "that counts as sampling. "
    "Nothing of pyro_ebm is compiled.",
)
LIBRARIES = ("torch", "pyro-ppl", "numpyro", "jax", "nutpie", "pymc", "ebmkit", "arviz-stats")


def main() -> None:
    """Measure, write, and say where the results are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="of every measurement of time")
    parser.add_argument("--seeds", type=int, default=200, help="of the comparison of errors")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    given = parser.parse_args()
    began = time.perf_counter()
    print("Eight schools, after warm-up", flush=True)
    fast, fast_scores = throughput(given.repeats)
    print("From the start of the process", flush=True)
    cold, cold_scores = cold_start(given.repeats)
    print("Two Gaussians", flush=True)
    normal, normal_scores = gaussians(given.repeats)
    print("Errors of many seeds", flush=True)
    agree = errors(given.seeds)
    tables = [fast, cold, normal, agree]
    write(
        tables,
        given.results / "results",
        heading=HEADING,
        remarks=REMARKS,
        attributes=attributes(LIBRARIES, began),
    )
    bars = {
        target: [
            picture.Bar(
                f"{score.contestant.library}, {score.contestant.setting}",
                score.median("per_second"),
                score.contestant.library == OURS,
            )
            for score in scores
            if score.runs
        ]
        for target, scores in {EIGHT_SCHOOLS: fast_scores, **normal_scores}.items()
    }
    starts = {
        score.contestant.library: [
            float(np.median(part)) for part in zip(*score.stages, strict=True)
        ]
        for score in cold_scores
        if score.runs
    }
    picture.draw(bars, starts, given.results / "results.png")
    print((given.results / "results.md").read_text())
    print(f"Written to {given.results}: results.md, results.json, results.png")


if __name__ == "__main__":
    main()
