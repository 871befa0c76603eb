"""The tables: the suite, error against time, where ebmkit is weak, and lattices of spins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from benchmarks.table import Table, number

from .estimates import Estimates, root_mean_square
from .jobs import OURS, Found, Job, laplace, lattice_jobs, ours, timed_jobs, weak_jobs

MOST_Z, SD_OF_Z, LEAST_RELIABLE, MOST_SECONDS = 4.0, (0.8, 1.2), 7 / 8, 60.0
TELLING = 0.1


def suite(found: Found, targets: Sequence[str]) -> Table:
    """Ours at default settings on every target, with plain importance sampling beside it."""
    rows = [
        [target, *_suite_cells(found[ours(target)[:3]]), *_cells(found[laplace(target)[:3]])]
        for target in targets
    ]
    columns = (
        *("target", "log Z", "rms error", "greatest", "reported", "sd of z", "greatest z"),
        *("reliable", "seconds", "Laplace IS: rms error", "reported", "seconds"),
    )
    jobs = [job for target in targets for job in (ours(target), laplace(target))]
    return Table("The suite", columns, rows, _suite_verdict(found, targets), _numbers(found, jobs))


def against_time(found: Found, targets: Sequence[str]) -> Table:
    """What an error costs, by library and setting."""
    rows, verdicts = [], []
    for target in targets:
        jobs = timed_jobs(target)
        rows += [[target, *job[:2], *_cells(found[job[:3]]), _compiled(found, job)] for job in jobs]
        verdicts.append(f"{target}: {_least_error(found, jobs)}")
    columns = ("target", "library", "setting", "rms error", "reported", "seconds", "to compile")
    jobs = [job for target in targets for job in timed_jobs(target)]
    title = "Error against time"
    return Table(title, columns, rows, " ".join(verdicts), _numbers(found, jobs))


def weak_spots(found: Found, targets: Sequence[str]) -> Table:
    """Ours and ebmkit's defaults where a normal base is far from the target."""
    jobs = [job for target in targets for job in weak_jobs(target)]
    rows = [
        [job.target, *job[:2], *_cells(found[job[:3]]), _reliable(found[job[:3]])] for job in jobs
    ]
    columns = ("target", "library", "setting", "rms error", "reported", "seconds", "reliable")
    verdict = _weak_verdict([found[ours(target)[:3]] for target in targets])
    return Table("Where ebmkit is weak", columns, rows, verdict, _numbers(found, jobs))


def lattices(found: Found, targets: Sequence[str]) -> Table:
    """Ours and ebmkit's over states, at a critical point."""
    jobs = [job for target in targets for job in lattice_jobs(target)]
    rows = [
        [job.target, *job[:2], *_cells(found[job[:3]]), _reliable(found[job[:3]])] for job in jobs
    ]
    columns = ("target", "library", "setting", "rms error", "reported", "seconds", "reliable")
    made = {target: found[ours(target)[:3]] for target in targets}
    wide = [
        target
        for target, one in made.items()
        if isinstance(one, str) or not one.complete or not one.greatest <= one.truth.most_error
    ]
    verdict = _held(f"Every error of {OURS} is within 0.05 (0.15 for 16 x 16)", wide)
    return Table("Over states", columns, rows, verdict, _numbers(found, jobs))


def curves(found: Found, target: str) -> dict[str, list[tuple[float, float]]]:
    """Seconds and rms error of every setting, by library."""
    points: dict[str, list[tuple[float, float]]] = {}
    for job in timed_jobs(target):
        made = found[job[:3]]
        if isinstance(made, Estimates):
            at = (float(np.median(made.seconds)), made.rms)
            points.setdefault(job.library, []).append(at)
    return points


def _cells(made: Estimates | str) -> list[str]:
    """rms error, median reported error and median seconds."""
    if isinstance(made, str):
        return [made, "", ""]
    said = float(np.median(made.std_error))
    rms = number(made.rms) + ("" if made.complete else f" ({len(made.log_z)} of {made.seeds} runs)")
    return [rms, "none" if np.isnan(said) else number(said), number(float(np.median(made.seconds)))]


def _suite_cells(made: Estimates | str) -> list[str]:
    if isinstance(made, str):
        return ["", made, "", "", "", "", "", ""]
    rms, said, seconds = _cells(made)
    return [
        f"{made.truth.log_z:.3f}",
        rms,
        number(made.greatest),
        said,
        f"{root_mean_square(made.z):.2f}",
        f"{np.abs(made.z).max():.1f}",
        _reliable(made),
        seconds,
    ]


def _reliable(made: Estimates | str) -> str:
    if isinstance(made, str):
        return ""
    if np.isnan(made.reliable).all():
        return "not said"
    return f"{made.reliable.sum():.0f}/{made.seeds}"


def _compiled(found: Found, job: Job) -> str:
    made = found[job[:3]]
    return number(made.compilation) if isinstance(made, Estimates) and made.compilation else ""


def _suite_verdict(found: Found, targets: Sequence[str]) -> str:
    made = {target: found[ours(target)[:3]] for target in targets}
    done = {name: one for name, one in made.items() if isinstance(one, Estimates)}
    ends = [name for name in targets if name not in done or not done[name].complete]
    pooled = root_mean_square(np.concatenate([[], *(one.z for one in done.values())]))
    low, high = SD_OF_Z
    verdicts = [
        _held("Every run comes to an end", ends),
        _held(
            f"Every |z| is below {MOST_Z:.0f}",
            [name for name, one in done.items() if not (np.abs(one.z) < MOST_Z).all()],
        ),
        f"The sd of all z, about 0, is {pooled:.2f} (in {low} to {high} wanted: "
        f"{'met' if low <= pooled <= high else 'not met'}).",
        _held(
            "Every error is within 0.05 (0.1 for the funnel)",
            [name for name, one in done.items() if not one.greatest <= one.truth.most_error],
        ),
        _held(
            "At least 7 runs of 8 are reliable",
            [n for n, one in done.items() if one.reliable.sum() < LEAST_RELIABLE * one.seeds],
        ),
        _held(
            "Every run takes less than a minute",
            [name for name, one in done.items() if one.seconds.max() >= MOST_SECONDS],
        ),
        _proves_nothing(found, done),
    ]
    return " ".join(verdicts)


def _held(claim: str, failing: Collection[str]) -> str:
    return f"{claim}: {f'not met ({_listed(failing)})' if failing else 'met'}."


def _proves_nothing(found: Found, done: dict[str, Estimates]) -> str:
    """The rows in which importance sampling at the mode does as well."""
    plain = {target: found[laplace(target)[:3]] for target in done}
    names = [
        target
        for target, one in plain.items()
        if isinstance(one, Estimates) and one.rms <= done[target].rms
    ]
    if not names:
        return "In no row does Laplace IS err as little."
    return f"These rows prove nothing, as Laplace IS errs no more: {_listed(names)}."


def _least_error(found: Found, jobs: Sequence[Job]) -> str:
    made = [(job, found[job[:3]]) for job in jobs]
    done = [(job, one) for job, one in made if isinstance(one, Estimates)]
    mine = [_price(job, one) for job, one in done if job.library == OURS]
    others = [(one.rms, job, one) for job, one in done if job.library != OURS]
    if not mine or not others:
        return "there is nothing to compare."
    _, job, one = min(others, key=lambda other: other[0])
    return f"{mine[0]}; the best of the others, {_price(job, one)}."


def _price(job: Job, made: Estimates) -> str:
    seconds = float(np.median(made.seconds))
    return f"{job.library} ({job.setting}): {number(made.rms)} in {number(seconds)} s"


def _weak_verdict(made: Sequence[Estimates | str]) -> str:
    done = [one for one in made if isinstance(one, Estimates)]
    small = all(one.rms < TELLING for one in done)
    silent = sum(int((~(np.abs(one.errors) <= TELLING) & (one.reliable > 0)).sum()) for one in done)
    met = len(done) == len(made) and all(one.complete for one in done) and (small or silent == 0)
    return (
        f"{OURS}: an rms error below {TELLING} everywhere, or no reliable run that is off by more: "
        f"{'met' if met else 'not met'} ({silent} such runs)."
    )


def _numbers(found: Found, jobs: Iterable[Job]) -> dict:
    numbers: dict = {}
    for job in jobs:
        made = found[job[:3]]
        of_target = numbers.setdefault(job.target, {})
        of_target[f"{job.library}, {job.setting}"] = (
            made.numbers() if isinstance(made, Estimates) else {"failure": made}
        )
    return numbers


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
