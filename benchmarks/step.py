"""What a step of NUTS costs beside the gradient in it: ``python -m benchmarks.step``.

Eight schools, the compiled gradient, many chains that each go at their own pace. Between two blocks
of steps the compiled gradient is evaluated as often on its own, so that both are measured under the
same load; what is printed are medians of CPU time over blocks, and their ratio.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import pyro
import torch

import pyro_ebm as ebm
from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.native_nuts import native_nuts
from pyro_ebm.mcmc.run import Plan, Problem, Progress, run_chains
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced
from tests.models import load

_CHAINS, _DTYPES = (64, 1024), (torch.float32, torch.float64)
_DRAWS, _WARMUP = 1000, 100


class Cost(NamedTuple):
    """Microseconds of CPU time: a step of all chains, and the bare gradient of all chains."""

    step: float
    gradient: float

    @property
    def ratio(self) -> float:
        """The step in gradients."""
        return self.step / self.gradient


def measure(target: Target, chains: int, *, num_samples: int, compile_graph: bool = True) -> Cost:
    """The cost of a step of NUTS when it keeps its draws.

    :param compile_graph: compile the gradient; else it is the recording that is measured.
    """
    generator = torch.Generator().manual_seed(0)
    start = target.initial_positions(chains, generator=generator)
    density = None
    if compile_graph and target.in_c is not None:
        density = target.in_c.at(start, target.log_density_and_gradient)
    if density is None:
        density = traced(target.log_density_and_gradient, start, compile_graph=compile_graph)
    problem, kernel = Problem(density, lambda function, *_: function), native_nuts(start.dtype)
    warm = run_chains(problem, kernel, start, Plan(1, Warmup(_WARMUP)), generator=generator)
    if warm.error is not None or warm.state is None:
        raise RuntimeError("The chains could not be warmed up.") from warm.error
    steps: list[float] = []
    gradients: list[float] = []

    def report(progress: Progress) -> None:
        nonlocal began
        if progress.total - progress.done <= kernel.block:
            # The last blocks are shorter.
            return
        steps.append(time.process_time() - began)
        began = time.process_time()
        for _ in range(kernel.block):
            density(start)
        gradients.append(time.process_time() - began)
        began = time.process_time()

    plan, settings = Plan(num_samples, Warmup(0)), warm.state.settings
    began = time.process_time()
    start = warm.state.position.contiguous()
    run_chains(problem, kernel, start, plan, generator=generator, settings=settings, report=report)
    # The first block holds what is done once.
    step, gradient = (statistics.median(part[1:]) for part in (steps, gradients))
    return Cost(1e6 * step / kernel.block, 1e6 * gradient / kernel.block)


def costs(name: str = "eight_schools") -> Iterator[tuple[int, torch.dtype, Cost]]:
    """The cost for some numbers of chains, in both precisions."""
    default = torch.get_default_dtype()
    for dtype, chains in itertools.product(_DTYPES, _CHAINS):
        torch.set_default_dtype(dtype)
        pyro.set_rng_seed(0)
        try:
            posterior = load(name)
            target = ebm.NUTS(posterior.model).target(posterior.args, posterior.kwargs, None)
            yield chains, dtype, measure(target, chains, num_samples=_DRAWS)
        finally:
            torch.set_default_dtype(default)


def main() -> None:
    """Print a row for every number of chains and precision."""
    print("chains  precision  step (us)  gradient (us)  ratio")
    for chains, dtype, cost in costs():
        row = f"{cost.step:9.1f}  {cost.gradient:13.1f}  {cost.ratio:5.2f}"
        print(f"{chains:6}  {str(dtype).removeprefix('torch.'):9}  {row}")


if __name__ == "__main__":
    main()
