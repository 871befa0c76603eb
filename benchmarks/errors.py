"""Many short runs of pyro_ebm on one target, each with its own seed, start and warm-up.

The density is compiled once and serves all seeds; otherwise each is what :class:`pyro_ebm.MCMC`
runs. Handed over are the means and the effective
sample sizes, [seed, 2, parameter].
"""

from __future__ import annotations

import torch

import pyro_ebm as ebm
from benchmarks.ours import sampled
from benchmarks.statistics import joined
from benchmarks.targets import arranged
from benchmarks.worker import Stopwatch, hand_over, options
from pyro_ebm.diagnostics import ess_mean
from pyro_ebm.mcmc.api.gears import Chains, gear_of
from pyro_ebm.mcmc.run import Plan, run_chains


def main() -> None:
    """Run the seeds that the options name."""
    watch = Stopwatch()
    given = options()
    name, chains = given["target"], given["chains"]
    model, args, kwargs = sampled(name)
    kernel = ebm.NUTS(model)
    target = kernel.target(args, kwargs, None)
    transitions = given["warmup"], given["num_draws"]
    plan = Plan(given["num_draws"], kernel.warmup(target, given["warmup"]))
    rows, gear = [], None
    for seed in range(*given["seeds"]):
        generator = torch.Generator().manual_seed(seed)
        start = target.initial_positions(chains, strategy=kernel.init_strategy, generator=generator)
        gear = gear or gear_of(kernel, target, Chains(start), sum(transitions))
        result = run_chains(gear.problem, gear.kernel, start, plan, generator=generator)
        if result.error is not None:
            raise result.error
        sites = target.constrain(result.draws.positions.permute(2, 0, 1))
        draws = arranged(name, {site: value.numpy() for site, value in sites.items()})
        rows.append([draws.mean((0, 1), dtype=float), ess_mean(joined(draws))])
    watch.lap("sampling")
    hand_over(rows, watch)


if __name__ == "__main__":
    main()
