"""Measures normalisers and writes log_z.md, log_z.json and log_z.png: ``make bench-log-z``.

Four tables: the suite of targets whose log Z is known, error against time beside other libraries,
the targets on which one of them is weak, and lattices of spins. ``--suite`` measures the first
alone, and writes log_z_suite.md and log_z_suite.json; ``--lattices`` the last, log_z_lattices.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks import picture
from benchmarks.machine import attributes
from benchmarks.run import RESULTS
from benchmarks.table import write

from .jobs import OURS, SUITE, TIMED, TORI, WEAK, all_jobs, lattice_jobs, run_all, suite_jobs
from .tables import against_time, curves, lattices, suite, weak_spots

NAME = "log_z"
ALL = (*SUITE, *TORI)
HEADING = "log Z beside other libraries"
REMARKS = (
    "Errors are in nats, over several seeds: their root mean square, and the median of what the "
    "library reports as its standard error. Seconds are the median of a run; compilation, once a "
    "process, stands apart. z is the error over the reported one. Of one process at a time the "
    "threads are the library's own choice, several have one each; float64 throughout.",
    "pyro_ebm is at its defaults, with the base that the case gives for `mixture_40_plane` alone. "
    "Laplace IS draws from a Student-t at the mode. BlackJAX's adaptive tempered SMC starts at the "
    "prior (the funnel: a normal of sd 3) and resamples systematically; HMC's metric follows the "
    "particles, its step size the acceptance rate, and the kind of metric, that rate and the "
    "number of moves were tuned by hand for each target. ebmkit has 64 chains, its default HMC and "
    "a normal base, of sd 1 unless the setting says another: on German credit that serves it "
    "better than the prior of sd 10. Over states its chains begin at even ones and "
    "propose one spin by Gibbs with gradients at each temperature, its default; to propose every "
    "spin there takes as many times as long as there are spins.",
)
LIBRARIES = ("torch", "pyro-ppl", "blackjax", "jax", "ebmkit", "arviz-stats")


def main() -> None:
    """Measure, write, and say where the results are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log_z", description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="of every estimate")
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL, help="these targets")
    parser.add_argument("--suite", action="store_true", help="the first table alone, no peers")
    parser.add_argument("--lattices", action="store_true", help="the last table alone")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes at a time, of one thread each if several"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    given = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    began = time.perf_counter()
    jobs, shown, part = all_jobs(given.only), (SUITE, TIMED, WEAK, TORI), ""
    if given.suite:
        jobs, shown, part = suite_jobs(), (SUITE, (), (), ()), "_suite"
    elif given.lattices:
        jobs = [job for name in TORI for job in lattice_jobs(name)]
        shown, part = ((), (), (), TORI), "_lattices"
    jobs = [job for job in jobs if job.target in given.only]
    found = run_all(jobs, given.seeds, given.workers)
    chosen = [[name for name in names if name in given.only] for names in shown]
    makers = (suite, against_time, weak_spots, lattices)
    name = f"{NAME}{part}"
    tables = [make(found, names) for make, names in zip(makers, chosen, strict=True) if names]
    write(
        tables,
        given.results / name,
        heading=HEADING,
        remarks=REMARKS,
        attributes={
            "seeds": given.seeds,
            "processes at a time": given.workers,
            **attributes(LIBRARIES, began),
        },
    )
    panels = {name: curves(found, name) for name in chosen[1]}
    if panels:
        picture.draw_errors(panels, OURS, given.results / f"{name}.png")
    print((given.results / f"{name}.md").read_text())
    print(f"Written to {given.results}: {name}.md, {name}.json{f', {name}.png' if panels else ''}")


if __name__ == "__main__":
    main()
