"""The couplings of a Boltzmann machine of twelve spins, given 2,000 of its configurations.

log Z of the energy built from latent sites is the sum over its 4,096 configurations. The data come
from J_ij = 0.2 sin(1 + ij + 0.3 i + 0.3 j), h_i = 0.3 cos(1.5 i); their maximum likelihood and its
standard errors are those of an exact gradient ascent.
"""

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm

SPINS = 12
FILE = np.load(Path(__file__).parent.parent / "data" / "boltzmann_12.npz")
ROWS, COLUMNS = torch.triu_indices(SPINS, SPINS, 1)


def machine(data):
    h = pyro.sample("h", dist.Normal(0.0, 10.0).expand([SPINS]).to_event(1))
    j = pyro.sample("j", dist.Normal(0.0, 10.0).expand([len(ROWS)]).to_event(1))
    upper = torch.zeros(SPINS, SPINS).index_put((ROWS, COLUMNS), j)
    with pyro.plate("rows", len(data)):
        pyro.sample("s", ebm.EnergyDistribution(ebm.Ising(upper + upper.T, h)), obs=data)


@pytest.fixture
def data():
    torch.set_default_dtype(torch.float64)
    return torch.as_tensor(FILE["data"]).double()


def scores(h, j):
    """Off the maximum of the likelihood, in its standard errors."""
    found = torch.cat([h, j])
    return (found - torch.as_tensor(FILE["theta_mle"])) / torch.as_tensor(FILE["theta_mle_se"])


def test_under_a_wide_prior_the_mode_is_the_maximum_of_the_likelihood(data):
    found = ebm.minimize(machine, data, starts=2)
    assert bool(found.converged.all())
    assert scores(found.positions["h"][0], found.positions["j"][0]).abs().max() < 0.01


@pytest.mark.slow
def test_the_posterior_is_as_wide_as_the_standard_errors(data):
    run = ebm.MCMC(ebm.NUTS(machine), num_samples=100, warmup_steps=100, num_chains=8)
    run.run(data)
    draws = run.get_samples()
    # With 2,000 rows the posterior is normal but for terms of some percent.
    means = scores(draws["h"].mean(0), draws["j"].mean(0))
    sds = torch.cat([draws["h"].std(0), draws["j"].std(0)])
    assert means.abs().max() < 0.25
    ratio = sds / torch.as_tensor(FILE["theta_mle_se"])
    assert (ratio - 1.0).abs().max() < 0.2
