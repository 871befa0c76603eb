"""The four comparisons: who takes part with what settings, and the table that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from .picture import STAGES
from .process import Failure, measure
from .speed import Contestant, Score, compete
from .statistics import Agreement, agreement, spread
from .table import Table, number
from .targets import EIGHT_SCHOOLS, GAUSSIANS, truth

OURS = "pyro_ebm"
CHAINS = (64, 256, 1024)
LEAST_RATIO, MOST_SECONDS, ENOUGH = 100, 6.0, 1000


def _schools(chains: int, warmup: int, num_draws: int) -> dict:
    return {"target": EIGHT_SCHOOLS, "chains": chains, "warmup": warmup, "num_draws": num_draws}


def _range(score: Score, attribute: str) -> str:
    if score.failure is not None:
        return score.failure
    middle, least, most = spread([getattr(run, attribute) for run in score.runs])
    return f"{number(middle)} ({number(least)} to {number(most)})"


def _best(scores: Sequence[Score]) -> Score | None:
    made = [score for score in scores if score.runs]
    return max(made, key=lambda score: score.median("per_second")) if made else None


def _speed_rows(scores: Sequence[Score]) -> list[list[str]]:
    return [
        [
            score.contestant.library,
            score.contestant.setting,
            _range(score, "per_second"),
            _range(score, "bulk_per_second") if score.failure is None else "",
        ]
        for score in scores
    ]


SPEED_COLUMNS = ("library", "setting", "effective draws a second", "of the bulk")


def throughput(repeats: int) -> tuple[Table, list[Score]]:
    """Eight schools after warm-up: ours with few to many chains, Pyro with and without its jit."""
    contestants = [
        Contestant(OURS, f"{chains} chains", "benchmarks.ours", _schools(chains, 100, 200))
        for chains in CHAINS
    ]
    contestants += [
        Contestant(
            "Pyro",
            "1 chain, jit" if jit else "1 chain",
            "benchmarks.peers.pyro_nuts",
            {"jit": jit, "warmup": 300, "num_draws": 400},
            time_limit=180.0,
        )
        for jit in (False, True)
    ]
    scores = compete(contestants, repeats)
    ours, theirs = (
        _best([s for s in scores if (s.contestant.library == OURS) == mine])
        for mine in (True, False)
    )
    numbers: dict = {"scores": [score.numbers() for score in scores]}
    verdict = "No ratio: one side has no draws."
    if ours is not None and theirs is not None:
        ratio = min(ours.median(of) / theirs.median(of) for of in ("per_second", "bulk_per_second"))
        numbers["ratio"] = ratio
        verdict = (
            f"{OURS} with {ours.contestant.setting} is {number(ratio)} times as fast as Pyro with "
            f"{theirs.contestant.setting} (at least {LEAST_RATIO} wanted: "
            f"{_met(ratio >= LEAST_RATIO)})."
        )
    rows = _speed_rows(scores)
    return Table("Eight schools, after warm-up", SPEED_COLUMNS, rows, verdict, numbers), scores


def cold_start(repeats: int) -> tuple[Table, list[Score]]:
    """From the start of a process, imports and all, to draws worth 1000 in the worst parameter."""
    contestants = [
        Contestant(OURS, "64 chains, 80 + 50", "benchmarks.ours", _schools(64, 80, 50)),
        Contestant(
            "nutpie",
            "4 chains, 400 + 1000",
            "benchmarks.peers.nutpie_nuts",
            {"chains": 4, "warmup": 400, "num_draws": 1000},
            threads=None,
        ),
        Contestant(
            "NumPyro",
            "4 chains, 500 + 1000",
            "benchmarks.peers.numpyro_nuts",
            {"chains": 4, "warmup": 500, "num_draws": 1000},
            threads=None,
        ),
    ]
    scores = compete(contestants, repeats)
    rows = []
    for score in scores:
        library, setting = score.contestant.library, score.contestant.setting
        if score.failure is not None:
            rows.append([library, setting, score.failure, "", "", "", ""])
            continue
        stages = [number(float(np.median(part))) for part in zip(*score.stages, strict=True)]
        rows.append(
            [library, setting, _range(score, "until_draws"), *stages, number(_least(score))]
        )
    ours = scores[0]
    seconds = ours.median("until_draws")
    verdict = (
        f"{OURS}: {number(seconds)} s (below {MOST_SECONDS:.0f} s wanted: "
        f"{_met(seconds < MOST_SECONDS and bool(ours.runs) and _least(ours) >= ENOUGH)})."
    )
    table = Table(
        f"From the start of the process to an ESS of {ENOUGH}, eight schools",
        ("library", "chains, warm-up + draws", "seconds", *STAGES, "least ESS"),
        rows,
        verdict,
        {"scores": [score.numbers() for score in scores]},
    )
    return table, scores


def _least(score: Score) -> float:
    return min(min(run.effective.mean, run.effective.bulk) for run in score.runs)


def gaussians(repeats: int) -> tuple[Table, dict[str, list[Score]]]:
    """Two Gaussians against ebmkit's batched NUTS, all chains started at exact draws."""
    groups: dict[str, list[Score]] = {}
    rows, verdicts, numbers = [], [], {}
    chains = 64
    for target in GAUSSIANS:
        shared = {"target": target, "chains": chains, "num_draws": 200}
        contestants = [
            Contestant(
                library, f"{chains} chains", module, {**shared, "warmup": 100}, time_limit=limit
            )
            for library, module, limit in (
                (OURS, "benchmarks.ours", 120.0),
                ("ebmkit", "benchmarks.peers.ebmkit_nuts", 300.0),
            )
        ]
        scores = groups[target] = compete(contestants, repeats)
        rows += [[target, *row] for row in _speed_rows(scores)]
        ratio = scores[0].median("per_second") / scores[1].median("per_second")
        numbers[target] = {"scores": [score.numbers() for score in scores]}
        if np.isfinite(ratio):
            numbers[target]["ratio"] = ratio
            verdicts.append(f"{target}: {number(ratio)} times ebmkit's speed.")
        else:
            verdicts.append(f"{target}: no ratio, one side has no draws.")
    columns = ("target", *SPEED_COLUMNS)
    title = "Two Gaussians, after warm-up"
    return Table(title, columns, rows, " ".join(verdicts), numbers), groups


def errors(seeds: int) -> Table:
    """The mean squared error of the means times ESS over the variance, over many seeds of ours."""
    found: dict[str, Agreement] = {}
    rows, failures = [], []
    for target in (EIGHT_SCHOOLS, *GAUSSIANS):
        setting = {"target": target, "chains": 64, "warmup": 80, "num_draws": 100}
        # Nothing is timed here, so both cores may work.
        cuts = [0, seeds // 2, seeds]
        jobs = [{**setting, "seeds": pair} for pair in pairwise(cuts)]

        def job(options: dict) -> np.ndarray:
            return measure("benchmarks.errors", options, time_limit=900.0).draws

        try:
            with ThreadPoolExecutor(len(jobs)) as pool:
                means, ess = np.concatenate(list(pool.map(job, jobs))).swapaxes(0, 1)
        except Failure as failure:
            failures.append(target)
            rows.append([target, "", "", str(failure), "", ""])
            continue
        checked = found[target] = agreement(means, ess, *truth(target))
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
    numbers = {target: checked._asdict() for target, checked in found.items()}
    return Table(
        "Do the errors agree?",
        (
            "target",
            "seeds",
            "mean ESS",
            "squared error x ESS / variance",
            "99.8 % interval",
            "inside",
        ),
        rows,
        verdict,
        numbers,
    )


def _met(condition: bool) -> str:
    return "met" if condition else "not met"
