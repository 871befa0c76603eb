"""What can be normalised passes, what grows along rays is told."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm
from pyro_ebm.annealing.rays import grows_along_rays
from tests.models.normalisers import NORMALISERS, normaliser


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def verdict(target):
    return grows_along_rays(target, torch.Generator().manual_seed(1))


def energy(function, shape=(2,), support=constraints.real):
    return ebm.Target.from_energy(ebm.as_energy(function, event_shape=shape, support=support))


IMPROPER = {
    "flat": lambda x: 0.0 * x.sum(),
    "falling": lambda x: -x.sum(),
    "minus square": lambda x: -x.square().sum(),
    "confined in one coordinate alone": lambda x: x[0].square() + 0.0 * x[1],
    "logarithm too slow": lambda x: 1.5 * (1 + x.square().sum()).log() * 0.5,
}


@pytest.mark.parametrize("name", IMPROPER)
def test_what_cannot_be_normalised_is_told(name):
    assert "cannot be normalised" in verdict(energy(IMPROPER[name]))


def test_one_over_x_is_told():
    assert "cannot be normalised" in verdict(energy(lambda x: (1e-3 + x.abs()).log(), shape=()))


def test_flat_on_a_half_line_is_told():
    assert verdict(energy(lambda x: 0.0 * x, shape=(), support=constraints.positive)) is not None


def test_flat_on_an_interval_passes():
    assert verdict(energy(lambda x: 0.0 * x, shape=(), support=constraints.unit_interval)) is None


def test_an_improper_prior_with_enough_data_passes():
    def model(y):
        mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        pyro.sample("y", dist.Normal(mu, 1.0).expand([3]).to_event(1), obs=y)

    assert verdict(ebm.Target.from_model(model, torch.zeros(3))) is None


LARGE = ("german_credit", "brownian", "galaxy_k2", "galaxy_k3", "galaxy_k4", "many_well")
KNOWN = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith(LARGE) else name
    for name in NORMALISERS
]


@pytest.mark.parametrize("name", KNOWN)
def test_what_has_a_known_normaliser_passes(name):
    assert verdict(normaliser(name).target) is None


def test_the_estimate_says_so_and_gives_no_number():
    estimate = ebm.AIS(ebm.as_energy(IMPROPER["flat"], event_shape=(2,))).run()
    assert not estimate.reliable
    assert math.isnan(estimate.log_z)
    assert "cannot be normalised" in estimate.why
    assert "cannot be normalised" in repr(estimate)
