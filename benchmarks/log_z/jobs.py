"""Who estimates what with which settings, and the processes in which it is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from benchmarks.process import Failure, Outcome, measure
from tests.models.lattices import LATTICES
from tests.models.normalisers import NORMALISERS, normaliser

from .estimates import Estimates, Truth

OURS, LAPLACE, BLACKJAX, EBMKIT = "pyro_ebm", "Laplace IS", "BlackJAX SMC", "ebmkit AIS"
SUITE = tuple(NORMALISERS)
TIMED = ("german_credit", "german_credit_wide", "brownian_motion_unknown_scales", "funnel_10d")
WEAK = ("funnel_10d", "mixture_40_plane", "many_well_32d", "gaussian_20d")
PLAIN_DRAWS = 100_000
DRAWS = (10_000, PLAIN_DRAWS)
PARTICLES = ((250, 0.5), (1000, 0.5), (1000, 0.9))
# The latter is ebmkit's default.
TEMPERATURES = (250, 1000)
# A normal of sd 1, ebmkit's default, is its best start where nothing else stands here.
TIMED_SCALES = {"funnel_10d": 3.0}
WEAK_SCALES = {"mixture_40_plane": 30.0}
TORI = tuple(LATTICES)
START_SECONDS, MOST_SECONDS_A_RUN = 120.0, 300.0
# A process of several takes at least so many seeds: each costs it seconds to import and compile.
_FEWEST_SEEDS = 2


class Job(NamedTuple):
    """A library with a setting on a target: the module that runs it, and its options."""

    library: str
    setting: str
    target: str
    module: str
    options: Mapping[str, Any]


Found = Mapping[tuple[str, str, str], Estimates | str]


def ours(target: str) -> Job:
    """Our AIS at its defaults."""
    return Job(OURS, "defaults", target, "benchmarks.log_z.ours", {})


def laplace(target: str, num_draws: int = PLAIN_DRAWS) -> Job:
    """Plain importance sampling at the mode."""
    options = {"num_draws": num_draws}
    return Job(LAPLACE, f"{num_draws:,} draws", target, "benchmarks.log_z.laplace", options)


def blackjax(target: str, num_particles: int, target_ess: float) -> Job:
    """SMC from the prior, which aims at this share of effective particles."""
    options = {"num_particles": num_particles, "target_ess": target_ess}
    setting = f"{num_particles} particles, ESS {target_ess:.0%}"
    return Job(BLACKJAX, setting, target, "benchmarks.peers.blackjax_smc", options)


def ebmkit(target: str, base_scale: float, num_temperatures: int = TEMPERATURES[-1]) -> Job:
    """ebmkit's AIS from a normal of that scale."""
    options = {"base_scale": base_scale, "num_temperatures": num_temperatures}
    setting = f"{num_temperatures} temperatures, base of sd {base_scale:g}"
    return Job(EBMKIT, setting, target, "benchmarks.peers.ebmkit_ais", options)


def timed_jobs(target: str) -> list[Job]:
    """All that the table of error against time holds for a target."""
    return [
        ours(target),
        *(blackjax(target, *setting) for setting in PARTICLES),
        *(ebmkit(target, TIMED_SCALES.get(target, 1.0), number) for number in TEMPERATURES),
        *(laplace(target, number) for number in DRAWS),
    ]


def weak_jobs(target: str) -> list[Job]:
    """Ours and ebmkit's defaults, with the same base where one is given."""
    return [ours(target), ebmkit(target, WEAK_SCALES.get(target, 1.0))]


def lattice_jobs(target: str) -> list[Job]:
    """Ours and ebmkit's over the states of a lattice."""
    setting = f"{TEMPERATURES[-1]} temperatures, Gibbs with gradients"
    options = {"num_temperatures": TEMPERATURES[-1]}
    return [ours(target), Job(EBMKIT, setting, target, "benchmarks.peers.ebmkit_states", options)]


def suite_jobs() -> list[Job]:
    """Ours and importance sampling on every target."""
    return [job for name in SUITE for job in (ours(name), laplace(name))]


def all_jobs(targets: Collection[str]) -> list[Job]:
    """Every job of these targets, once, by table."""
    jobs = suite_jobs()
    jobs += [job for name in TIMED for job in timed_jobs(name)]
    jobs += [job for name in WEAK for job in weak_jobs(name)]
    jobs += [job for name in TORI for job in lattice_jobs(name)]
    return list({job[:3]: job for job in jobs if job.target in targets}.values())


def run_all(jobs: Collection[Job], seeds: int, workers: int = 1) -> Found:
    """The estimates of every job by its library, setting and target, or why there are none.

    :param workers: processes at a time. A process alone has as many threads as its library likes;
        one of several has one, and a share of the seeds.
    """
    # The last of the suite take longest.
    jobs = jobs if workers == 1 else [*reversed([*jobs])]
    each = seeds if workers == 1 else max(_FEWEST_SEEDS, -(-seeds // workers))
    found: dict[tuple[str, str, str], Estimates | str] = {}
    with ThreadPoolExecutor(workers) as pool:
        running = [
            [
                pool.submit(_measured, job, first, min(first + each, seeds), workers)
                for first in range(0, seeds, each)
            ]
            for job in jobs
        ]
        for job, parts in zip(jobs, running, strict=True):
            try:
                made = found[job[:3]] = _joined(job, parts, seeds)
                told = f"rms error {made.rms:.3g}, {np.median(made.seconds):.1f} s a run"
            except Failure as failure:
                found[job[:3]] = told = str(failure)
            print(f"  {job.target}: {job.library}, {job.setting}: {told}", flush=True)
    return found


def _measured(job: Job, first: int, end: int, workers: int) -> Outcome:
    return measure(
        job.module,
        {**job.options, "target": job.target, "seeds": [first, end]},
        time_limit=START_SECONDS + (end - first) * MOST_SECONDS_A_RUN,
        threads=None if workers == 1 else 1,
    )


def _joined(job: Job, parts: Collection[Future[Outcome]], seeds: int) -> Estimates:
    """What the processes made; one that failed leaves its seeds out, all that did raise Failure."""
    outcomes, failures = [], []
    for part in parts:
        try:
            outcomes.append(part.result())
        except Failure as failure:
            failures.append(failure)
    if not outcomes:
        raise failures[0]
    case = normaliser(job.target)
    truth = Truth(case.log_z, case.log_z_error, case.most_error)
    rows = np.concatenate([outcome.draws for outcome in outcomes])
    log_z, std_error, reliable, seconds = rows.T
    compilation = max(outcome.seconds.get("compilation", 0.0) for outcome in outcomes)
    return Estimates(truth, seeds, log_z, std_error, reliable, seconds, compilation)
