"""Who estimates what with which settings, and the processes in which it is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.process import Failure, measure
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
START_SECONDS, MOST_SECONDS_A_RUN = 120.0, 300.0


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


def all_jobs(targets: Collection[str]) -> list[Job]:
    """Every job of these targets, once, by table."""
    jobs = [job for name in SUITE for job in (ours(name), laplace(name))]
    jobs += [job for name in TIMED for job in timed_jobs(name)]
    jobs += [job for name in WEAK for job in weak_jobs(name)]
    return list({job[:3]: job for job in jobs if job.target in targets}.values())


def run_all(jobs: Collection[Job], seeds: int) -> Found:
    """The estimates of every job by its library, setting and target, or why there are none."""
    found: dict[tuple[str, str, str], Estimates | str] = {}
    for job in jobs:
        try:
            made = found[job[:3]] = _run(job, seeds)
            told = f"rms error {made.rms:.3g}, {np.median(made.seconds):.1f} s a run"
        except Failure as failure:
            found[job[:3]] = told = str(failure)
        print(f"  {job.target}: {job.library}, {job.setting}: {told}", flush=True)
    return found


def _run(job: Job, seeds: int) -> Estimates:
    outcome = measure(
        job.module,
        {**job.options, "target": job.target, "seeds": seeds},
        time_limit=START_SECONDS + seeds * MOST_SECONDS_A_RUN,
        threads=None,
    )
    case = normaliser(job.target)
    truth = Truth(case.log_z, case.log_z_error, case.most_error)
    log_z, std_error, reliable, seconds = outcome.draws.T
    compilation = outcome.seconds.get("compilation", 0.0)
    return Estimates(truth, seeds, log_z, std_error, reliable, seconds, compilation)
