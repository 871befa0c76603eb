"""Do the errors agree? Ours over many seeds on targets whose moments are known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from .process import Failure, measure
from .statistics import Agreement, agreement
from .table import Table, number
from .targets import EIGHT_SCHOOLS, INDEPENDENT, reference

EXACT = (EIGHT_SCHOOLS, *INDEPENDENT)
_SETTING = {"chains": 64, "warmup": 80, "num_draws": 100}
_SECONDS = 900.0


def errors(seeds: int, targets: Sequence[str] = EXACT) -> Table:
    """The mean squared error of the means times ESS over the variance, over many seeds of ours."""
    found: dict[str, Agreement] = {}
    rows, failures = [], []
    for target in targets:
        try:
            means, ess = _means_and_ess(target, seeds)
        except Failure as failure:
            failures.append(target)
            rows.append([target, "", "", str(failure), "", ""])
            continue
        known = reference(target)
        checked = found[target] = agreement(means, ess, known.mean, known.sd)
        rows.append(
            [
                target,
                str(seeds),
                number(float(ess.mean())),
                f"{checked.ratio:.3f}",
                f"{checked.low:.3f} to {checked.high:.3f}",
                "yes" if checked.holds else "no",
            ]
        )
        print(f"  {target}: {checked.ratio:.3f} in {checked.low:.3f} to {checked.high:.3f}")
    outside = [*failures, *(target for target, checked in found.items() if not checked.holds)]
    verdict = (
        f"Not as the effective sample sizes say: {', '.join(outside)}."
        if outside
        else "The errors are those that the effective sample sizes say."
    )
    columns = ("target", "seeds", "mean ESS", "squared error x ESS / variance")
    return Table(
        "Do the errors agree?",
        (*columns, "99.8 % interval", "inside"),
        rows,
        verdict,
        {target: checked._asdict() for target, checked in found.items()},
    )


def _means_and_ess(target: str, seeds: int) -> np.ndarray:
    """Both [seed, parameter], one after the other; nothing is timed, so both cores may work."""
    cuts = [0, seeds // 2, seeds]
    jobs = [{**_SETTING, "target": target, "seeds": pair} for pair in pairwise(cuts)]

    def job(options: dict) -> np.ndarray:
        return measure("benchmarks.errors", options, time_limit=_SECONDS).draws

    with ThreadPoolExecutor(len(jobs)) as pool:
        return np.concatenate(list(pool.map(job, jobs))).swapaxes(0, 1)
