"""Records for tests: of real runs of the sampling loop, and of positions made up."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.api.record import RunRecord
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import STATISTICS, Plan, run_chains
from pyro_ebm.target import Target

from .stage import problem_of


def run(
    target: Target,
    *,
    chains: int,
    draws: int,
    warmup: int,
    keep_warmup: bool = False,
    max_tree_depth: int = 10,
) -> RunRecord:
    """A run of NUTS."""
    generator = torch.Generator().manual_seed(0)
    start = target.initial_positions(chains, generator=generator)
    adapt = Warmup(warmup, max_tree_depth=max_tree_depth)
    plan = Plan(draws, adapt, keep_warmup=keep_warmup)
    result = run_chains(
        problem_of(target), nuts(max_tree_depth=max_tree_depth), start, plan, generator=generator
    )
    assert result.error is None
    before = result.warmup_draws
    return RunRecord(
        target,
        result.draws.positions.permute(2, 0, 1),
        {name: value.T for name, value in result.draws.statistics.items()},
        None if before is None else before.positions.permute(2, 0, 1),
        None if before is None else {name: value.T for name, value in before.statistics.items()},
        attrs={"seed": 17, "sampler": "NUTS"},
        max_tree_depth=max_tree_depth,
    )


def made_up(
    target: Target,
    positions: Tensor | None = None,
    *,
    statistics: Mapping[str, Tensor] | None = None,
    **fields: Any,
) -> RunRecord:
    """A record of given positions [chain, draw, dim], of 2 x 3 standard normal ones if not given.

    Statistics are those of a run in which nothing went wrong.
    """
    if positions is None:
        positions = torch.randn(2, 3, target.dim, dtype=target.dtype)
    shape = positions.shape[:2]
    values = {name: torch.zeros(shape, dtype=target.dtype) for name in STATISTICS}
    values["energy"] = torch.randn(shape, dtype=target.dtype)
    values["n_steps"] = values["n_steps"] + 7
    values["acceptance_rate"] = values["acceptance_rate"] + 0.8
    return RunRecord(target, positions, {**values, **(statistics or {})}, **fields)
