"""Flows as bases: their densities and gradients at many positions at once, and log Z from them."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import affine_autoregressive, spline
from torch.distributions import constraints

from pyro_ebm import AIS, EnergyDistribution, HMCMoves, Linear, Target
from pyro_ebm.annealing.given import given_base

CENTER, LOG_Z = 0.3, math.log(math.pi / 2)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def narrow(x):
    return (2.0 * (x - CENTER).square()).sum()


def zuko_flow(name, **options):
    flows = pytest.importorskip("zuko").flows
    return getattr(flows, name)(2, hidden_features=(8,), transforms=1, **options)


def transformed(transform):
    normal = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    return dist.TransformedDistribution(normal, [transform])


def nearly_even(transform):
    """Its random start would leave almost nothing of some bins."""
    for parameter in transform.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return transform


FLOWS = {
    "zuko NSF": lambda: zuko_flow("NSF"),
    "zuko MAF in single precision": lambda: zuko_flow("MAF").float(),
    "zuko distribution": lambda: zuko_flow("MAF")(),
    "pyro autoregressive": lambda: transformed(affine_autoregressive(2, hidden_dims=[8])),
    "pyro spline": lambda: transformed(nearly_even(spline(2))),
}


def density(flow):
    return flow if isinstance(flow, torch.distributions.Distribution) else flow()


@pytest.mark.parametrize("name", FLOWS)
def test_density_and_gradient_are_those_of_the_flow(name):
    flow = FLOWS[name]()
    target = Target.from_distribution(EnergyDistribution(narrow, (2,)))
    base = given_base(target, flow, (), {})
    positions = base.sample(50, torch.Generator().manual_seed(1))
    value, gradient = base.log_density_and_gradient(positions)
    single = "single" in name
    x = positions.T.to(torch.float32 if single else torch.float64).requires_grad_()
    expected = density(flow).log_prob(x)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(value, expected.double())
    torch.testing.assert_close(gradient, slope.T.double())
    assert float(gradient.abs().max()) > 0.1


def annealed_from(flow, *, num_particles, num_temperatures):
    run = AIS(
        EnergyDistribution(narrow, (2,)),
        base=flow,
        num_particles=num_particles,
        schedule=Linear(num_temperatures),
        moves=HMCMoves(num_steps=1),
        reverse=False,
    )
    return run.run()


@pytest.mark.parametrize("name", FLOWS)
def test_log_z_from_a_flow_is_within_its_error(name):
    flow = FLOWS[name]()
    found = annealed_from(flow, num_particles=256, num_temperatures=6)
    assert 0.0 < found.std_error < 0.15
    assert abs(found.log_z - LOG_Z) < 4 * found.std_error
    assert found.details["base"].startswith("the given")


def test_a_flow_that_is_trained_is_a_better_base():
    flow = zuko_flow("MAF")
    draws = CENTER + 0.5 * torch.randn(256, 2)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.05)
    errors = []
    for steps in (0, 40):
        for _ in range(steps):
            optimizer.zero_grad()
            (-flow().log_prob(draws).mean()).backward()
            optimizer.step()
        found = annealed_from(flow, num_particles=512, num_temperatures=3)
        assert abs(found.log_z - LOG_Z) < 4 * found.std_error
        errors.append(found.std_error)
    assert errors[1] < 0.5 * errors[0]


def test_a_flow_over_a_bounded_site_has_the_jacobian_of_its_support():
    """exp(-2 x) on the positive numbers, Z = 1/2, in each of two coordinates."""
    model = EnergyDistribution(lambda x: 2.0 * x.sum(), (2,), support=constraints.positive)
    flow = dist.TransformedDistribution(
        dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1),
        [nearly_even(affine_autoregressive(2, hidden_dims=[8])), dist.transforms.ExpTransform()],
    )
    moves = HMCMoves(num_steps=1)
    run = AIS(model, base=flow, num_particles=512, schedule=Linear(6), moves=moves, reverse=False)
    found = run.run()
    assert abs(found.log_z - 2 * math.log(0.5)) < 4 * found.std_error < 0.6
