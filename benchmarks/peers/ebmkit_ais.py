"""ebmkit's AIS: 64 chains, HMC at every temperature, a normal base.

The energy is recorded once as a list of tensor operations, so that no Pyro is left in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from ebm import ais_log_z
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.log_z.estimates import Estimate, estimate_all
from benchmarks.worker import Stopwatch, options
from pyro_ebm import Target
from pyro_ebm.annealing.freeze import as_target
from tests.models.normalisers import normaliser

NUM_CHAINS = 64


def recorded_energy(target: Target) -> Callable[[Tensor], Tensor]:
    """The energy of positions [chain, dim], as [chain], for that number of chains."""
    example = torch.randn(NUM_CHAINS, target.dim)
    energy = torch.func.vmap(lambda position: -target.log_density(position))
    graph = make_fx(energy)(example)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded: Any = torch.jit.trace(graph, (example,), check_trace=False)
    return recorded


def main() -> None:
    """Record, then estimate for every seed."""
    watch = Stopwatch()
    given = options()
    torch.set_default_dtype(torch.float64)
    case = normaliser(given["target"])
    target = as_target(case.model, case.args, {})
    watch.lap("set-up")
    energy = recorded_energy(target)
    watch.lap("compilation")

    def estimate(seed: int) -> Estimate:
        torch.manual_seed(seed)
        found = ais_log_z(
            energy,
            (target.dim,),
            base_scale=given["base_scale"],
            n_temps=given["num_temperatures"],
            n_chains=NUM_CHAINS,
        )
        return Estimate(found.log_z, found.stderr)

    estimate_all(estimate, watch)


if __name__ == "__main__":
    main()
