"""A model runs where its tensors are: the same answers on a GPU, where there is one."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LOG_EVIDENCE = -31.3113473523
MEAN_MU, MEAN_TAU = 4.41, 3.60


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def schools():
    y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
    sigma = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
    return torch.tensor(sigma, device="cuda"), torch.tensor(y, device="cuda")


def eight_schools(sigma, y):
    """Numbers for the priors, tensors on the GPU for the data."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        unit = pyro.sample("unit", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * unit, sigma), obs=y)


def check_schools(mcmc):
    data = mcmc.to_arviz()
    found = az.summary(data, var_names=["mu", "tau"])
    for name, truth in (("mu", MEAN_MU), ("tau", MEAN_TAU)):
        error = np.hypot(found.loc[name, "mcse_mean"], 0.01)
        assert abs(found.loc[name, "mean"] - truth) < 4 * error
    return data


def test_nuts_samples_where_the_data_are(schools):
    mcmc = ebm.MCMC(ebm.NUTS(eight_schools), 200, 200, num_chains=64, disable_progbar=True)
    mcmc.run(*schools)
    assert mcmc.get_samples()["mu"].device.type == "cuda"
    data = check_schools(mcmc)
    assert data.posterior.attrs["device"].startswith("cuda")
    assert "log_likelihood" in data.groups()
    assert isinstance(mcmc.diagnose(), str)


def test_hmc_and_a_dense_metric(schools):
    kernel = ebm.HMC(eight_schools, full_mass=True)
    mcmc = ebm.MCMC(kernel, 300, 200, num_chains=64, disable_progbar=True)
    mcmc.run(*schools)
    check_schools(mcmc)


def test_a_default_device(schools):
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("school", 8):
            unit = pyro.sample("unit", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau * unit, schools[0]), obs=schools[1])

    torch.set_default_device("cuda")
    try:
        mcmc = ebm.MCMC(ebm.NUTS(model), 200, 200, num_chains=32, disable_progbar=True)
        mcmc.run()
        check_schools(mcmc)
        found = ebm.AIS(model, disable_progbar=True).run()
        assert abs(found.log_z - LOG_EVIDENCE) < 4 * found.std_error
    finally:
        torch.set_default_device(None)


METHODS = [ebm.AIS, ebm.SMC, ebm.ParallelTempering, ebm.ThermodynamicIntegration]


@pytest.mark.parametrize("method", METHODS)
def test_evidence(schools, method):
    found = method(eight_schools, disable_progbar=True).run(*schools)
    assert found.positions.device.type == "cuda"
    assert abs(found.log_z - LOG_EVIDENCE) < 4 * found.std_error
    assert found.std_error < 0.1
    assert found.reliable, found.why


def test_bridge_sampling(schools):
    mcmc = ebm.MCMC(ebm.NUTS(eight_schools), 200, 200, num_chains=32, disable_progbar=True)
    mcmc.run(*schools)
    found = ebm.bridge_sampling(mcmc)
    assert abs(found.log_z - LOG_EVIDENCE) < 4 * found.std_error


def test_minima_of_an_energy():
    loc = torch.tensor([-2.0, 1.0], device="cuda")
    energy = ebm.Gaussian(loc, covariance_matrix=torch.eye(2, device="cuda"))
    found = ebm.minimize(energy)
    position = found.positions["x"] if isinstance(found.positions, dict) else found.positions
    torch.testing.assert_close(position[0], loc, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::pyro_ebm.draws.ApproximateSampleWarning")
def test_a_net_is_sampled_where_its_weights_are():
    net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1))
    net.cuda()
    base = dist.Normal(torch.zeros(2, device="cuda"), 2.0).to_event(1)
    energy = ebm.EnergyDistribution(ebm.Tilted(net, base))
    mcmc = ebm.MCMC(ebm.NUTS(energy), 50, 50, num_chains=512, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["x"]
    assert draws.shape == (50 * 512, 2)
    assert draws.device.type == "cuda"
    assert bool(draws.isfinite().all())
    assert energy.sample((7,)).device.type == "cuda"


def test_a_run_repeats_with_its_seed(schools):
    def run():
        pyro.set_rng_seed(3)
        mcmc = ebm.MCMC(ebm.NUTS(eight_schools), 20, 20, num_chains=8, disable_progbar=True)
        mcmc.run(*schools)
        return mcmc.get_samples()["mu"]

    assert torch.equal(run(), run())


def test_a_run_on_disk_goes_on(schools, tmp_path):
    def begun(path, num_samples):
        pyro.set_rng_seed(4)
        kernel = ebm.NUTS(eight_schools)
        mcmc = ebm.MCMC(kernel, num_samples, 20, num_chains=8, disable_progbar=True, store=path)
        mcmc.run(*schools)
        return mcmc

    whole = begun(tmp_path / "whole.zarr", 30).get_samples()["mu"]
    begun(tmp_path / "part.zarr", 12)
    resumed = ebm.MCMC.resume(tmp_path / "part.zarr", ebm.NUTS(eight_schools), num_samples=30)
    resumed.run(*schools)
    assert torch.equal(resumed.get_samples()["mu"].cpu(), whole.cpu())
