"""A small run on disk: in the tests' own process, and as a program that can be killed.

python -m tests.mcmc.stored_run PATH begin|resume
"""

import sys
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch

import pyro_ebm as ebm

SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0])
Y = torch.tensor([28.0, 8.0, -3.0, 7.0])
CHAINS, DRAWS, WARMUP = 6, 60, 40


def model(sigma: torch.Tensor, y: torch.Tensor) -> None:
    """Eight schools, four of them."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * z, event_dim=0)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def begun(num_samples: int = DRAWS, kernel: Any = None, **options: Any) -> ebm.MCMC:
    """A run that is always the same; finished, if nothing stops it."""
    pyro.set_rng_seed(3)
    options = {"num_chains": CHAINS, "disable_progbar": True, **options}
    mcmc = ebm.MCMC(kernel or ebm.NUTS(model), num_samples, WARMUP, **options)
    mcmc.run(SIGMA, Y)
    return mcmc


def resumed(path: Path, num_samples: int | None = None, kernel: Any = None) -> ebm.MCMC:
    """The same run, taken up again."""
    mcmc = ebm.MCMC.resume(path, kernel or ebm.NUTS(model), num_samples=num_samples)
    mcmc.run(SIGMA, Y)
    return mcmc


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    if sys.argv[2] == "begin":
        # A state after every block of steps, so that a kill may come while one is written.
        begun(store=folder, checkpoint_seconds=0.0)
    else:
        resumed(folder)
