"""An estimate as ArviZ data: every number with a name, and netCDF gives it back."""

import json

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_ebm.annealing.export import by_temperature, to_arviz
from pyro_ebm.inference_data import to_inference_data
from pyro_ebm.target import Target

from .estimates import annealed, plain


def schools(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, 1.0))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


@pytest.fixture
def estimate():
    return annealed(Target.from_model(schools, torch.randn(3)))


def test_the_group_has_named_axes_and_all_numbers(estimate):
    group = to_arviz(estimate)["annealing"]
    assert group["log_weight"].dims == ("particle",)
    assert group["beta"].dims == group["barrier"].dims == ("temperature",)
    assert group["work_backward"].dims == ("backward_draw",)
    np.testing.assert_array_equal(group["beta"], estimate.path["beta"])
    np.testing.assert_array_equal(group["log_weight"], estimate.log_weights)
    np.testing.assert_array_equal(group["work_backward"], estimate.backward.works)


def test_what_belongs_to_a_step_stands_where_it_ends():
    found = by_temperature(annealed().path)
    np.testing.assert_array_equal(found["barrier"], [np.nan, 0.2, 0.25, 0.3])
    np.testing.assert_array_equal(found["acceptance"], [np.nan, 0.8, 0.7, np.nan])
    np.testing.assert_array_equal(found["mean_slope"], [-9.0, -5.0, -2.0, np.nan])
    np.testing.assert_array_equal(found["ess"], [np.nan, 390.0, 350.0, 300.0])


def test_the_posterior_is_one_chain_drawn_by_weight(estimate):
    log_weights = torch.full((400,), -torch.inf, dtype=torch.float64)
    log_weights[[3, 5]] = torch.tensor([0.0, 3.0], dtype=torch.float64).log1p()
    weighted = annealed(estimate.target, log_weights=log_weights, ess=100.0)
    posterior = to_arviz(weighted)["posterior"]
    assert posterior["theta"].dims == ("chain", "draw", "school")
    assert posterior["mu"].shape == (1, 100)
    values, counts = np.unique(posterior["mu"].values, return_counts=True)
    expected = weighted.positions[0, [3, 5]].numpy()
    np.testing.assert_allclose(np.sort(expected), values)
    assert sorted(counts.tolist()) == [20, 80]


def test_data_and_pointwise_likelihood_come_with_it(estimate):
    data = to_arviz(estimate)
    assert data["observed_data"]["y"].dims == ("school",)
    assert data["log_likelihood"]["y"].shape[2:] == (3,)
    assert "mu" in az.summary(data).index


def test_the_estimate_is_in_the_attributes(estimate):
    attrs = to_arviz(estimate)["annealing"].attrs
    for name in ("log_z", "std_error", "khat", "ess", "num_particles", "why", "method"):
        assert attrs[name] == getattr(estimate, name)
    assert attrs["reliable"] == 1
    assert attrs["seed"] == 7
    assert attrs["base"] == "a normal distribution"
    assert json.loads(attrs["halves"]) == [[1.0, 2.0]]
    assert attrs["bennett"] == estimate.backward.bennett


def test_netcdf_gives_everything_back(estimate, tmp_path):
    data = estimate.to_arviz()
    data.to_netcdf(str(tmp_path / "estimate.nc"))
    back = az.from_netcdf(str(tmp_path / "estimate.nc"))
    for group in ("annealing", "posterior", "log_likelihood", "observed_data"):
        assert back[group].identical(data[group])


def test_exports_are_the_same_and_leave_the_random_stream_alone(estimate):
    torch.manual_seed(3)
    first = to_arviz(estimate)
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.rand(()) == drawn
    assert to_arviz(estimate)["posterior"].equals(first["posterior"])


def test_a_bare_estimate_is_its_attributes_and_works():
    bare = annealed(details={"forward_works": torch.zeros(5, dtype=torch.float64)}, path={})
    data = to_arviz(bare)
    assert data["annealing"]["work_forward"].dims == ("proposal",)
    assert "forward_works" not in data["annealing"].attrs
    assert "posterior" not in (data.groups() if callable(data.groups) else data.groups)
    assert to_arviz(plain(float("nan"))).attrs["method"] == "AIS"


def test_a_site_called_as_an_axis_keeps_its_name():
    def model():
        pyro.sample("particle", dist.Normal(0.0, 1.0))
        pyro.sample("beta", dist.Normal(0.0, 1.0))

    data = to_arviz(annealed(Target.from_model(model)))
    assert data["posterior"]["particle"].dims == ("chain", "draw")
    assert data["annealing"]["log_weight"].dims == ("particle_dim",)
    assert data["annealing"]["beta"].shape == (4,)


def test_only_groups_that_are_called_plain_lack_chain_and_draw():
    groups = {"annealing": {"beta": np.arange(3.0)}}
    data = to_inference_data(groups, dims={"beta": ("step",)}, plain_groups=("annealing",))
    assert data["annealing"]["beta"].dims == ("step",)
    with pytest.raises(ValueError, match="expected annealing/beta to be"):
        to_inference_data(groups)
