"""Eleven posteriors of posteriordb, held against their 10,000 reference draws (tests/data).

Each of mean, standard deviation and three quantiles must lie within four of its own standard
errors, the run's and the reference's together; the effective sample sizes are gates.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from pyro.infer.autoguide.initialization import init_to_uniform

import pyro_ebm as ebm
from pyro_ebm import diagnostics
from tests.models import POSTERIORDB, load

QUANTILES = {"q05": 0.05, "q50": 0.50, "q95": 0.95}
# Regressions on raw predictors have posteriors so narrow and slanted that a dense metric is due.
DENSE = {
    "arK",
    "blr",
    "logearn_height_male",
    "kidscore_interaction",
    "kidscore_momiq",
    "logmesquite",
    "nes",
}

# From starts within 2 of the origin about one chain in 150 ends in a mode 450 nats below the
# others, where one component takes all the points: `diagnose` tells it, and it has no weight.
NEAR = {"low_dim_gauss_mix"}


def run(name, num_chains, num_samples, sampler=ebm.NUTS):
    torch.set_default_dtype(torch.float64)
    posterior = load(name)
    starts = partial(init_to_uniform, radius=0.5 if name in NEAR else 2.0)
    kernel = sampler(posterior.model, full_mass=name in DENSE, init_strategy=starts)
    mcmc = ebm.MCMC(kernel, num_samples, warmup_steps=100, num_chains=num_chains)
    mcmc.run(*posterior.args, **posterior.kwargs)
    record = mcmc.record
    sites = record.target.constrain(record.positions)
    return posterior, mcmc, posterior.marginals({k: v.numpy() for k, v in sites.items()})


def density_at(draws, probability, width=0.02):
    low, high = np.quantile(draws, [probability - width, probability + width])
    return 2 * width / (high - low)


def distances(draws, reference):
    """Per figure how many standard errors lie between the run and the reference."""
    flat, ess = draws.reshape(-1), reference["ess"]
    standardised = (flat - flat.mean()) / flat.std()
    kurtosis = (standardised**4).mean()
    found = {
        "mean": (flat.mean() - reference["mean"])
        / math.hypot(float(diagnostics.mcse_mean(draws)), reference["mcse_mean"]),
        "sd": (flat.std() - reference["sd"])
        / math.hypot(
            float(diagnostics.mcse_sd(draws)),
            reference["sd"] * math.sqrt((kurtosis - 1) / (4 * ess)),
        ),
    }
    for key, probability in QUANTILES.items():
        spread = math.sqrt(probability * (1 - probability) / ess)
        error = math.hypot(
            float(diagnostics.mcse_quantile(draws, probability)),
            spread / density_at(flat, probability),
        )
        found[key] = (np.quantile(flat, probability) - reference[key]) / error
    return found


def check(name, num_chains, num_samples, least_ess, sampler=ebm.NUTS):
    posterior, mcmc, marginals = run(name, num_chains, num_samples, sampler)
    ids = mcmc.record.superchain_ids
    assert ids is not None
    limit = diagnostics.rhat_threshold(num_chains=num_chains, chains_per_superchain=num_chains // 8)
    for parameter, reference in posterior.reference.items():
        draws = marginals[parameter]
        assert diagnostics.ess_bulk(draws) >= least_ess, parameter
        assert diagnostics.ess_tail(draws) >= least_ess, parameter
        assert diagnostics.nested_rhat(draws, ids) < limit, parameter
        for figure, distance in distances(draws, reference).items():
            assert abs(distance) < 4, f"{figure} of {parameter} is {distance:.1f} errors off"
    return posterior, marginals


def check_exact(posterior, marginals):
    for parameter, truth in posterior.exact.items():
        draws = marginals[parameter]
        mean, sd = draws.mean(), draws.std()
        assert abs(mean - truth["mean"]) < 4 * diagnostics.mcse_mean(draws), parameter
        assert abs(sd - truth["sd"]) < 4 * diagnostics.mcse_sd(draws), parameter


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in NEAR else []) for name in POSTERIORDB],
)
def test_posterior_agrees_with_its_reference(name):
    check_exact(*check(name, num_chains=128, num_samples=60, least_ess=2000))


@pytest.mark.parametrize("name", ["eight_schools", "kidscore_momiq", "arK"])
def test_a_shared_trajectory_length_agrees_with_the_reference_too(name):
    check_exact(*check(name, 128, 60, 2000, sampler=ebm.ChEESHMC))


@pytest.mark.slow
@pytest.mark.parametrize("name", POSTERIORDB)
def test_posterior_agrees_with_its_reference_at_ten_thousand_draws(name):
    check_exact(*check(name, num_chains=256, num_samples=200, least_ess=10_000))
