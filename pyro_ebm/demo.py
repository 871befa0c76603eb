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

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.factor import energy_factor
from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.mcmc.kernels import NUTS
from pyro_ebm.plots import plot_energy, plot_rank, plot_reference, reference_deviations

NUM_CHAINS, NUM_SAMPLES, WARMUP_STEPS = 64, 250, 200
SCHOOLS = tuple("ABCDEFGH")
# Points gained, and their standard errors: Rubin (1981), Estimation in parallel randomized
# experiments, table 1.
GAINS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
# The posterior without the energy. Means: quadrature over (mu, tau), exact in these digits.
# Quantiles: 10,000 reference draws of posteriordb, eight_schools-eight_schools_noncentered.
REFERENCE = {
    "mu": {"mean": 4.39682, "q05": -0.93618, "q95": 9.83207},
    "tau": {"mean": 3.59771, "q05": 0.25666, "q95": 9.73221},
    "theta": {
        "mean": (6.21188, 4.94018, 3.92700, 4.75710, 3.61548, 4.04261, 6.29672, 4.85425),
        "q05": (-1.68069, -2.21804, -4.91432, -2.67028, -4.26465, -3.86522, -0.85467, -3.31723),
        "q95": (16.32936, 12.81678, 11.84448, 12.63905, 10.60268, 11.51608, 15.30536, 13.54959),
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
    """Eight schools with the energy inside: at T = 25 points^2 a pair 10 points apart costs 1/2."""
    theta = eight_schools(standard_errors, gains)
    energy_factor("unlikeness", unlikeness, theta, temperature=25.0)


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
    alike.summary()
    print(f"\nVerdict ({seconds:.1f} s with the set-up): {alike.diagnose()}")

    _, known = _sample(eight_schools)
    deviations = reference_deviations(known, REFERENCE)
    largest = max(float(abs(values).max()) for values in deviations.values())
    print(
        "\nThe same without the energy, against the known posterior: the posterior means of mu, "
        f"tau and the schools deviate by at most {largest:.1f} standard errors."
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
    mcmc = MCMC(
        NUTS(model), num_samples=NUM_SAMPLES, warmup_steps=WARMUP_STEPS, num_chains=NUM_CHAINS
    )
    mcmc.run(torch.tensor(STANDARD_ERRORS), torch.tensor(GAINS))
    return mcmc, mcmc.to_arviz(coords={"school": SCHOOLS})


def _require(module: str, *, extra: str, purpose: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"The demo needs {module} for {purpose}, which is not installed. Install it with "
            f"pip install 'pyro_ebm[{extra}]'."
        )
