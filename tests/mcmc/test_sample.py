"""Those who give only a model get draws that are worth what was asked for, or are told."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.energies import DoubleWell
from pyro_ebm.mcmc.api.stopping import check_stop
from tests.models import load


def normal(scale, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("n", 4):
        pyro.sample("y", dist.Normal(mu, scale), obs=y)


def test_a_model_alone_gives_draws_worth_a_thousand():
    posterior = load("eight_schools")
    data = ebm.sample(posterior.model, *posterior.args, **posterior.kwargs, disable_progbar=True)
    assert data.posterior.attrs["stopped"]
    assert data.posterior.sizes["chain"] == 64
    assert data.posterior.attrs["num_samples"] == data.posterior.sizes["draw"] >= 50
    assert data.posterior.attrs["diagnosis"].startswith("All is well")
    table = az.summary(data, var_names=["mu", "tau"])
    assert float(table[["ess_bulk", "ess_tail"]].min().min()) >= 1000
    for name in ("mu", "tau"):
        reference = posterior.reference[name]
        error = np.hypot(table.loc[name, "mcse_mean"], reference["mcse_mean"]) + 5e-3
        assert abs(table.loc[name, "mean"] - reference["mean"]) < 4 * error


def test_more_draws_are_taken_where_more_are_asked_for():
    y = torch.tensor([1.0, 2.0, 0.5, 1.5])
    options = {"num_chains": 8, "disable_progbar": True}
    few = ebm.sample(normal, 1.0, y=y, stop=ebm.UntilESS(100), **options)
    many = ebm.sample(normal, 1.0, y=y, stop=ebm.UntilESS(1500), **options)
    assert few.posterior.sizes["draw"] < many.posterior.sizes["draw"]
    assert many.posterior.sizes["draw"] in (400, 800, 1600)


def test_an_end_before_it_is_enough_is_told():
    y = torch.tensor([1.0, 2.0, 0.5, 1.5])
    with pytest.warns(UserWarning, match="120 draws of 4 chains are not worth 1e\\+06"):
        data = ebm.sample(
            *(normal, 1.0),
            y=y,
            stop=ebm.UntilESS(1e6),
            num_chains=4,
            max_samples=120,
            disable_progbar=True,
        )
    assert data.posterior.sizes["draw"] == 120
    assert not data.posterior.attrs["stopped"]


def test_chains_in_separate_wells_are_never_enough():
    wells = ebm.EnergyDistribution(DoubleWell(1), temperature=0.05)
    with pytest.warns(UserWarning, match="separate groups"):
        ebm.sample(wells, num_chains=16, max_samples=110, disable_progbar=True)


def test_the_draws_are_those_of_a_run_of_that_length():
    """Stopping takes nothing but the end away."""
    y = torch.tensor([1.0, 2.0, 0.5, 1.5])

    def run(num_samples, **options):
        pyro.set_rng_seed(8)
        kernel = ebm.NUTS(normal)
        mcmc = ebm.MCMC(kernel, num_samples, 60, num_chains=16, disable_progbar=True, **options)
        mcmc.run(1.0, y=y)
        return mcmc

    stopped = run(1000, stop=ebm.UntilESS(300))
    number = stopped.record.num_draws
    assert number in (50, 100, 200, 400)
    whole = run(number)
    assert torch.equal(stopped.get_samples()["mu"], whole.get_samples()["mu"])


@pytest.mark.parametrize("ess", [0.0, -1.0, float("inf"), float("nan")])
def test_a_number_of_draws_that_is_none_is_refused(ess):
    with pytest.raises(ValueError, match="ess to be a positive number"):
        ebm.UntilESS(ess)


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leave out store= and sites="):
        ebm.MCMC(ebm.NUTS(normal), 10, stop=ebm.UntilESS(), store=tmp_path / "run")
    for stop in (1000, ebm.UntilESS):
        with pytest.raises(TypeError, match=r"stop to be UntilESS"):
            check_stop(stop)
    with pytest.raises(TypeError, match=r"stop to be UntilESS"):
        ebm.sample(normal, 1.0, stop=1000)


@pytest.mark.parametrize("ess", [True, "a", None])
def test_what_is_no_number_is_no_ess(ess):
    with pytest.raises(TypeError):
        ebm.UntilESS(ess)
