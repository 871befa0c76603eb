"""A small run in shards: in the tests' own process, and as a program that can be killed.

python -m tests.mcmc.sharded_run PATH
"""

import sys
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch

import pyro_ebm as ebm

SHARDS, SIZE, DRAWS, WARMUP = 3, 4, 30, 25
Y = torch.tensor(1.0)


def model(y: torch.Tensor) -> None:
    """One number, and its square."""
    x = pyro.sample("x", dist.Normal(0.0, 2.0))
    pyro.deterministic("square", x * x)
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def begun(executor: Executor | None = None, num_samples: int = DRAWS, **options: Any) -> ebm.MCMC:
    """A run that is always the same; finished, if nothing stops it."""
    pyro.set_rng_seed(3)
    options = {"num_chains": SHARDS * SIZE, "shard_size": SIZE, **options}
    here = executor or ebm.SerialExecutor()
    kernel = ebm.NUTS(model)
    mcmc = ebm.MCMC(kernel, num_samples, WARMUP, executor=here, disable_progbar=True, **options)
    mcmc.run(Y)
    return mcmc


def resumed(path: Path, **options: Any) -> ebm.MCMC:
    """The same run, taken up again."""
    mcmc = ebm.MCMC.resume(path, ebm.NUTS(model), **options)
    mcmc.disable_progbar = True
    mcmc.run(Y)
    return mcmc


if __name__ == "__main__":
    torch.set_num_threads(1)
    # A state after every block of steps, so that a kill comes in the middle of a shard.
    begun(store=Path(sys.argv[1]), checkpoint_seconds=0.0)
