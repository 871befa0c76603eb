"""The main job from end to end: eight schools in plain Pyro, an energy inside, many chains, ArviZ.

Eight schools coached their pupils for a test; each reports a gain in points with its standard
error (Rubin 1981). The model is run twice: as everybody knows it, where the posterior is known
exactly, and with an energy that says what no distribution of Pyro's says, that two schools seldom
differ by much more than five points.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.factor import energy_factor
from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.mcmc.api.kernels import NUTS
from pyro_ebm.plots import (
    plot_energy,
    plot_rank,
    plot_reference,
    reference_deviations,
    summary_table,
)

NUM_CHAINS, NUM_SAMPLES, WARMUP_STEPS = 64, 250, 200
SCHOOLS = tuple("ABCDEFGH")
# Points gained, and their standard errors: Rubin (1981), Estimation in parallel randomized
# experiments, table 1.
GAINS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
# The posterior without the energy, by quadrature over tau: given tau all else is Gaussian.
REFERENCE = {
    "mu": {"mean": 4.39682, "q05": -1.08314, "q95": 9.81725},
    "tau": {"mean": 3.59771, "q05": 0.24639, "q95": 9.84195},
    "theta": {
        "mean": (6.21188, 4.94018, 3.92700, 4.75710, 3.61548, 4.04261, 6.29672, 4.85425),
        "q05": (-1.53565, -2.42604, -4.83832, -2.83820, -4.38988, -4.01669, -0.99907, -3.29978),
        "q95": (16.11192, 12.63122, 11.78963, 12.50466, 10.69109, 11.48438, 15.39189, 13.32887),
    },
}


def eight_schools(standard_errors: Tensor, gains: Tensor | None = None) -> Tensor:
    """The hierarchical model, non-centred; gives the true effects of the schools [school]."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(standard_errors)):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * theta_trans, event_dim=0)
        pyro.sample("gain", dist.Normal(theta, standard_errors), obs=gains)
    return theta


def unlikeness(theta: Float[Tensor, " school"]) -> Float[Tensor, ""]:
    """sum over pairs of max(|theta_i - theta_j| - 5, 0)^2 / 2, in points squared."""
    first, second = torch.triu_indices(len(theta), len(theta), offset=1)
    beyond = (theta[first] - theta[second]).abs() - 5.0
    return 0.5 * beyond.clamp(min=0.0).square().sum()


def eight_schools_alike(standard_errors: Tensor, gains: Tensor | None = None) -> None:
    """Eight schools with the energy inside: T = 100 points^2: a pair 15 apart costs 1/2."""
    theta = eight_schools(standard_errors, gains)
    energy_factor("unlikeness", unlikeness, theta, temperature=100.0)


def run_demo(folder: Path) -> None:
    """Sample both models, print what came out, and write the draws and pictures into a folder.

    :param folder: where files go; made when missing, files of the same names are replaced.
    :raises ImportError: matplotlib or h5netcdf is missing.
    :raises OSError: the folder cannot be made or written to.
    """
    _require("matplotlib", extra="plot", purpose="the pictures")
    _require("h5netcdf", extra="netcdf", purpose="the file of draws")
    folder.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(0)

    print(
        "Eight schools with an energy: two schools seldom differ by much more than 5 points.\n"
        f"NUTS, {NUM_CHAINS} chains, {WARMUP_STEPS} transitions of warm-up and {NUM_SAMPLES} draws "
        "each ..."
    )
    began = time.perf_counter()
    alike, data = _sample(eight_schools_alike)
    seconds = time.perf_counter() - began
    divergences = int(np.asarray(data["sample_stats"]["diverging"]).sum())
    print(summary_table(data, ["mu", "tau", "theta"]))
    print(f"\nDivergences: {divergences} of {NUM_CHAINS * NUM_SAMPLES} transitions")
    print(f"\nVerdict (after {seconds:.1f} s): {alike.diagnose()}")

    _, known = _sample(eight_schools)
    deviations = reference_deviations(known, REFERENCE)
    largest = max(float(abs(values).max()) for values in deviations.values())
    print(
        "\nThe same without the energy, whose posterior is known exactly: the means of mu, tau and "
        f"the schools deviate by at most {largest:.1f} Monte Carlo standard errors."
    )
    print("\nWritten:")
    path = folder / "eight_schools.nc"
    data.to_netcdf(str(path), engine="h5netcdf")
    print(f"  {path}: every draw; az.from_netcdf reads it")
    pictures = {
        "rank.png": (plot_rank(data, ["mu", "tau"]), "do the chains agree?"),
        "energy.png": (plot_energy(data), "do they reach the tails?"),
        "reference.png": (
            plot_reference(
                known,
                REFERENCE,
                label="without energy",
                beside={"with energy": data},
                unit="points gained in the test",
            ),
            "is it right, and what does the energy do?",
        ),
    }
    for name, (figure, question) in pictures.items():
        figure.savefig(folder / name)
        print(f"  {folder / name}: {question}")


def _sample(model: Callable[..., Any]) -> tuple[MCMC, Any]:
    # The tails of tau are stiff: smaller steps than usual keep transitions from diverging.
    kernel = NUTS(model, target_accept_prob=0.9)
    mcmc = MCMC(kernel, num_samples=NUM_SAMPLES, warmup_steps=WARMUP_STEPS, num_chains=NUM_CHAINS)
    mcmc.run(torch.tensor(STANDARD_ERRORS), torch.tensor(GAINS))
    return mcmc, mcmc.to_arviz(coords={"school": SCHOOLS})


def _require(module: str, *, extra: str, purpose: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"The demo needs {module} for {purpose}, which is not installed. Install it with "
            f"pip install 'pyro_ebm[{extra}]'."
        )
