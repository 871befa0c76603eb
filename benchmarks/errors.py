"""Many short runs of pyro_ebm on one target, each with its own seed, start and warm-up.

The step is recorded once and serves all seeds, as a recording holds for every run of its shapes;
otherwise each is what :class:`pyro_ebm.MCMC` runs. Handed over are the means and the effective
sample sizes, [seed, 2, parameter].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import pyro_ebm as ebm
from benchmarks.ours import sampled
from benchmarks.statistics import joined
from benchmarks.targets import arranged
from benchmarks.worker import Stopwatch, hand_over, options
from pyro_ebm.diagnostics import ess_mean
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.target.vectorize import traced


def recorded_once() -> Callable[..., Callable]:
    """Record a function for the shapes of its first example, and use that recording ever after."""
    recordings: list[Callable] = []

    def record(function: Callable, *example: Any) -> Callable:
        if not recordings:
            recordings.append(traced(function, *example))
        return recordings[0]

    return record


def main() -> None:
    """Run the seeds that the options name."""
    watch = Stopwatch()
    given = options()
    name, chains = given["target"], given["chains"]
    model, args, kwargs = sampled(name)
    kernel = ebm.NUTS(model)
    target = kernel.target(args, kwargs, None)
    problem = Problem(target.log_density_and_gradient, recorded_once())
    plan = Plan(given["num_draws"], kernel.warmup(target, given["warmup"]))
    pure = kernel.kernel()
    rows = []
    for seed in range(*given["seeds"]):
        generator = torch.Generator().manual_seed(seed)
        start = target.initial_positions(chains, strategy=kernel.init_strategy, generator=generator)
        result = run_chains(problem, pure, start, plan, generator=generator)
        if result.error is not None:
            raise result.error
        sites = target.constrain(result.draws.positions.permute(2, 0, 1))
        draws = arranged(name, {site: value.numpy() for site, value in sites.items()})
        rows.append([draws.mean((0, 1), dtype=float), ess_mean(joined(draws))])
    watch.lap("sampling")
    hand_over(rows, watch)


if __name__ == "__main__":
    main()
