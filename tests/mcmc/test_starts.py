"""Starts of many chains: brought near what is sampled, dispersed still, and never into a spike."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide.initialization import init_to_median, init_to_uniform, init_to_value

from pyro_ebm.energies import DoubleWell, Energy, Gaussian
from pyro_ebm.mcmc.api.starts import brought_near, initial_starts
from pyro_ebm.target import Target

from ..models import load

UNIFORM = partial(init_to_uniform, radius=2.0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def uniform(target: Target, number: int) -> torch.Tensor:
    return target.initial_positions(number, strategy=UNIFORM, generator=generator())


@pytest.fixture
def narrow() -> Target:
    """A Gaussian far from the origin, of sds from 0.001 to 0.1: starts lie thousands out."""
    scale = torch.logspace(-3, -1, 8)
    return Target.from_energy(
        Gaussian(torch.full((8,), 5.0), covariance_matrix=scale.square().diag())
    )


def squared_distance(target: Target, points: torch.Tensor) -> torch.Tensor:
    """In sds, summed over coordinates: twice what the log density lies below its maximum."""
    greatest = target.log_density_and_gradient(torch.full((8, 1), 5.0))[0]
    return 2 * (greatest - target.log_density_and_gradient(points)[0])


def test_far_starts_are_brought_near_and_stay_dispersed(narrow: Target):
    points = uniform(narrow, 64)
    before = squared_distance(narrow, points)
    after = squared_distance(narrow, brought_near(narrow, points))
    assert (after < 0.01 * before).all()
    # A draw has about 8.
    assert float(after.median()) > 8.0


@pytest.mark.parametrize("name", ["blr", "kidscore_momiq"])
def test_starts_of_a_regression_lose_nearly_all_of_their_distance(name: str):
    posterior = load(name)
    target = Target.from_model(posterior.model, *posterior.args, **posterior.kwargs)
    points = uniform(target, 8)
    before = target.log_density_and_gradient(points)[0]
    after = target.log_density_and_gradient(brought_near(target, points))[0]
    assert float(before.median()) < -1e5
    assert float(after.max() - after.min()) < 1e-2 * float(after.max() - before.median())


def test_a_spike_without_bottom_is_not_fallen_into():
    def funnel():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 3.0))
        with pyro.plate("all", 10):
            pyro.sample("x", dist.Normal(0.0, scale))

    target = Target.from_model(funnel)
    found = brought_near(target, uniform(target, 32))
    assert found.isfinite().all()
    # At the spike the scale, the first coordinate, would be nothing.
    assert float(found[0].min()) > -10.0


def test_where_the_density_rises_without_end_a_start_stays():
    slope = Energy.from_function(lambda x: -x.sum(), event_shape=(2,))
    target = Target.from_energy(slope)
    points = uniform(target, 4)
    assert brought_near(target, points).equal(points)


def test_both_wells_keep_their_starts():
    target = Target.from_energy(DoubleWell(1))
    points = uniform(target, 64)
    found = brought_near(target, points)
    assert bool((found > 0.3).any())
    assert bool((found < -0.3).any())


@pytest.mark.parametrize(
    ("number", "strategy", "moved"),
    [
        (15, UNIFORM, False),
        (16, UNIFORM, True),
        (16, init_to_uniform, True),
        (16, init_to_median, False),
        (16, init_to_value(values={"x": torch.ones(8)}), False),
    ],
)
def test_only_random_starts_of_many_chains_are_moved(narrow: Target, number, strategy, moved):
    plain = narrow.initial_positions(number, strategy=strategy, generator=generator())
    starts = initial_starts(narrow, number, strategy=strategy, generator=generator())
    assert starts.positions.equal(plain) != moved
    assert starts.superchains is None


def test_superchains_share_eight_distinct_starts(narrow: Target):
    starts = initial_starts(narrow, 128, strategy=UNIFORM, generator=generator())
    assert starts.superchains is not None
    assert starts.positions.unique(dim=1).shape[1] == 8
    for group in range(8):
        own = starts.positions[:, starts.superchains == group]
        assert own.shape[1] == 16
        assert own.equal(own[:, :1].expand_as(own))
