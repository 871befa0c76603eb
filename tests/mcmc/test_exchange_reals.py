"""The exchange algorithm with continuous data: its law against quadrature, and its chains' own."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from tests.mcmc.test_exchange import check, run

ROWS = torch.tensor([0.9, -0.3, 1.6, 0.02, -1.2, 0.7, -0.8, 1.1], dtype=torch.float64)
PAIRS = torch.tensor([[0.9, 0.6], [-0.4, -0.8], [0.5, -0.1]], dtype=torch.float64)
POSITIVE = ROWS.abs()


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def observe(energy, x, *params, **options):
    with pyro.plate("n", len(x)):
        found = ebm.EnergyDistribution(energy, params=params, **options)
        pyro.sample("x", found, obs=x)


def quartic(x):
    th = pyro.sample("th", dist.Gamma(3.0, 2.0))
    observe(lambda x, th: (x / th) ** 4, x, th)


def stretched(x):
    th = pyro.sample("th", dist.Gamma(3.0, 2.0))
    observe(lambda x, th: (x / th) ** 1.5, x, th, support=dist.constraints.positive)


def decaying(x):
    th = pyro.sample("th", dist.Normal(0.0, 3.0))
    observe(lambda x, th: th * x, x, th, support=dist.constraints.interval(0.0, 2.0))


def pair_energy(x, coupling, mass):
    quartic = (x**4).sum(-1) + mass * x.square().sum(-1)
    return quartic + coupling * (x[..., 0] - x[..., 1]).square()


def pairs(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    mass = pyro.sample("mass", dist.Normal(0.0, 1.0))
    observe(pair_energy, x, coupling, mass, event_shape=(2,))


def moments(values, log_p):
    weights = log_p.reshape(-1).softmax(0)
    mean = (weights * values.reshape(-1)).sum()
    return float(mean), float((weights * (values.reshape(-1) - mean).square()).sum().sqrt())


def scale_truth(x, power):
    """Z = constant * th."""
    th = torch.linspace(0.05, 12.0, 40001)
    powers = (x.abs() ** power).sum()
    return {"th": moments(th, (2.0 - len(x)) * th.log() - 2.0 * th - powers / th**power)}


def decaying_truth(x):
    th = torch.linspace(-15.0, 15.0, 40000)
    log_z = ((1 - (-2.0 * th).exp()) / th).log()
    return {"th": moments(th, -th * x.sum() - len(x) * log_z - th.square() / 18.0)}


def pairs_truth(x):
    coupling, mass = torch.meshgrid(*[torch.linspace(-5.0, 5.0, 81)] * 2, indexing="ij")
    grid = torch.linspace(-4.5, 4.5, 161)
    every = torch.cartesian_prod(grid, grid)
    at = coupling.reshape(-1, 1), mass.reshape(-1, 1)
    log_z = (-pair_energy(every, *at)).logsumexp(1).reshape(coupling.shape)
    log_p = -0.5 * (coupling.square() + mass.square()) - len(x) * log_z
    for row in x:
        log_p = log_p - pair_energy(row, coupling, mass)
    return {"coupling": moments(coupling, log_p), "mass": moments(mass, log_p)}


CASES = {
    "quartic": (quartic, ROWS, lambda x: scale_truth(x, 4.0)),
    "positive": (stretched, POSITIVE, lambda x: scale_truth(x, 1.5)),
    "interval": (decaying, POSITIVE, decaying_truth),
    "pairs": (pairs, PAIRS, pairs_truth),
}


@pytest.mark.parametrize("bridges", [0, 4])
@pytest.mark.parametrize("case", CASES)
def test_the_posterior_is_that_of_quadrature(case, bridges):
    model, x, truth = CASES[case]
    kernel = ebm.Exchange(model, sweeps=10, bridges=bridges)
    mcmc = run(kernel, x, num_samples=300, num_chains=16)
    check(mcmc.to_arviz(), truth(x))
    assert mcmc.record.attrs["auxiliary_exact"] is False
    assert abs(mcmc.record.attrs["auxiliary_shift"]) < 0.15
