"""A small estimate on disk: in the tests' own process, and as a program that can be killed.

python -m tests.annealing.stored_estimate PATH METHOD begin|resume
"""

import sys
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch

import pyro_ebm as ebm

SIGMA = torch.tensor([1.5, 1.0, 0.5])
Y = torch.tensor([2.8, 0.8, -0.3])


def model(sigma: torch.Tensor, y: torch.Tensor) -> None:
    """A mean and a spread."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    with pyro.plate("measurement", len(sigma)):
        pyro.sample("y", dist.Normal(mu, sigma + tau), obs=y)


def base() -> Any:
    """A base over both unconstrained coordinates."""
    return dist.Normal(torch.zeros(2), 1.5).to_event(1)


METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ais": (ebm.AIS, {"num_particles": 64, "schedule": ebm.Optimized(relative_variance=0.05)}),
    "smc": (ebm.SMC, {"num_particles": 64}),
    "adaptive": (
        ebm.SMC,
        {"num_particles": 64, "schedule": ebm.Adaptive(0.98), "waste_free": 4},
    ),
    "tempering": (
        ebm.ParallelTempering,
        {"num_ladders": 4, "num_sweeps": 16, "num_rounds": 2},
    ),
    "integration": (
        ebm.ThermodynamicIntegration,
        {
            "num_particles": 64,
            "schedule": ebm.InverseTemperatures([0.0, 0.01, 0.1, 0.4, 1.0]),
            "moves": ebm.NUTSMoves(2),
        },
    ),
}


def begun(name: str, **options: Any) -> ebm.LogZ:
    """A run that is always the same; finished, if nothing stops it."""
    method, settings = METHODS[name]
    pyro.set_rng_seed(3)
    options = {"base": base(), "moves": ebm.HMCMoves(1), **settings, **options}
    return method(model, **options).run(SIGMA, Y)


def resumed(path: Path, name: str, **options: Any) -> ebm.LogZ:
    """The same run, taken up again."""
    return METHODS[name][0].resume(path, model, **{"base": base(), **options}).run(SIGMA, Y)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    if sys.argv[3] == "begin":
        # A state after every step, so that a kill may come while one is written.
        begun(sys.argv[2], store=folder, checkpoint_seconds=0.0)
    else:
        resumed(folder, sys.argv[2])
