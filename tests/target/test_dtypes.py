"""Every site has the dtype of its distribution, whatever torch's default and the other sites."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide.initialization import init_to_median, init_to_sample, init_to_value
from torch import nn

import pyro_ebm as ebm
from pyro_ebm.normalizers import like_of
from pyro_ebm.target import Target

SINGLE, DOUBLE = torch.float32, torch.float64


def regression(dtype: torch.dtype) -> Callable:
    x = torch.randn(6, 3, dtype=dtype)

    def model() -> None:
        b = pyro.sample("b", dist.Normal(torch.zeros(3, dtype=dtype), 1.0).to_event(1))
        with pyro.plate("data", 6):
            pyro.sample("y", dist.Normal(x @ b, 1.0), obs=x.sum(1))

    return model


def net(dtype: torch.dtype) -> Callable:
    linear = nn.Linear(3, 1).to(dtype)

    def model() -> None:
        b = pyro.sample("b", dist.Gamma(torch.ones(3, dtype=dtype), 1.0).to_event(1))
        pyro.factor("net", -linear(b).square().sum())

    return model


def energy(dtype: torch.dtype) -> Callable:
    linear = nn.Linear(3, 1).to(dtype)
    distribution = ebm.EnergyDistribution(linear, (3,))
    return lambda: pyro.sample("b", distribution)


@pytest.mark.parametrize("default", [SINGLE, DOUBLE])
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("make", [regression, net, energy])
def test_a_model_runs_in_its_own_dtype(make: Callable, dtype: torch.dtype, default: torch.dtype):
    torch.set_default_dtype(default)
    target = Target.from_model(make(dtype))
    assert target.vectorized
    z = target.initial_positions(4)
    value, gradient = target.log_density_and_gradient(z)
    assert {z.dtype, gradient.dtype, target.constrain(z.T)["b"].dtype} == {dtype}
    assert value.dtype == target.dtype == dtype


def test_data_in_double_precision_under_priors_in_single_are_vectorised():
    """Eight schools whose sum of float32 priors runs in another order under vmap."""
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]).double()
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]).double()

    def schools() -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("school", 8):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    target = Target.from_model(schools)
    assert target.dtype == DOUBLE
    assert target.vectorized, target.why_not_vectorized


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_a_bare_energy_runs_in_its_own_dtype(dtype: torch.dtype):
    target = Target.from_energy(nn.Linear(3, 1).to(dtype), event_shape=(3,))
    assert target.dtype == target.initial_positions(2).dtype == dtype
    potential = Target.from_potential(
        lambda z: z["a"].square().sum(), {"a": torch.zeros(2, dtype=dtype)}
    )
    assert potential.dtype == dtype


def mixed() -> None:
    a = pyro.sample("a", dist.Gamma(2.0, 1.0))
    b = pyro.sample("b", dist.Normal(torch.zeros(3, dtype=DOUBLE), a).to_event(1))
    pyro.sample("y", dist.Normal(torch.eye(3, dtype=DOUBLE) @ b, 1.0).to_event(1), obs=b.detach())


def test_each_site_of_a_mixed_model_has_its_own_dtype():
    target = Target.from_model(mixed)
    assert [site.dtype for site in target.sites] == [SINGLE, DOUBLE]
    values = target.constrain(target.initial_positions(2).T)
    assert (values["a"].dtype, values["b"].dtype) == (SINGLE, DOUBLE)
    assert target.dtype == DOUBLE
    starts = {"a": torch.tensor(2.0), "b": torch.ones(3)}
    for strategy in (init_to_value(values=starts), init_to_sample, init_to_median):
        assert target.initial_positions(2, strategy=strategy).dtype == DOUBLE


DOUBLES = {
    "mask-and-event": lambda x: dist.Normal(x, 1.0).mask(x > 0).to_event(1),
    "transformed": lambda x: dist.TransformedDistribution(
        dist.Normal(0.0, 1.0).expand([2]), [dist.transforms.AffineTransform(x, 1.0)]
    ),
    "support": lambda x: dist.ImproperUniform(dist.constraints.greater_than(x), (), ()),
    "mixture": lambda x: dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(x, 1)),
    "energy": lambda x: ebm.EnergyDistribution(lambda v, x: (v - x).square(), params=(x,)),
}


@pytest.mark.parametrize("make", DOUBLES.values(), ids=DOUBLES)
def test_dtype_and_device_come_from_the_parts_of_a_distribution(make: Callable):
    assert like_of(make(torch.zeros(2, dtype=DOUBLE))).dtype == DOUBLE
    elsewhere = dist.Normal(torch.zeros(2, device="meta"), 1.0, validate_args=False)
    assert like_of(elsewhere.to_event(1)).device.type == "meta"
    assert like_of(dist.Bernoulli(torch.tensor(0.5))).dtype == SINGLE
