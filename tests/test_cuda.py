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


@pytest.fixture
def by_default():
    """Tensors are made on the GPU where nothing else is said."""
    torch.set_default_device("cuda")
    pyro.set_rng_seed(5)
    yield
    torch.set_default_device(None)


def test_a_default_device(schools, by_default):
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("school", 8):
            unit = pyro.sample("unit", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau * unit, schools[0]), obs=schools[1])

    mcmc = ebm.MCMC(ebm.NUTS(model), 200, 200, num_chains=32, disable_progbar=True)
    mcmc.run()
    check_schools(mcmc)
    found = ebm.AIS(model, disable_progbar=True).run()
    assert abs(found.log_z - LOG_EVIDENCE) < 4 * found.std_error


def test_many_chains_in_single_precision(schools):
    # So many chains come in blocks of few steps, and trees deeper than a block are kept in more
    # rows than those at first.
    single = [tensor.float() for tensor in schools]
    torch.set_default_dtype(torch.float32)
    mcmc = ebm.MCMC(ebm.NUTS(eight_schools), 50, 100, num_chains=4096, disable_progbar=True)
    mcmc.run(*single)
    draws = mcmc.get_samples()
    assert draws["mu"].dtype == torch.float32
    assert abs(float(draws["mu"].mean()) - MEAN_MU) < 0.1
    assert abs(float(draws["tau"].mean()) - MEAN_TAU) < 0.1


def test_chains_in_batches_and_until_they_are_enough(schools):
    mcmc = ebm.MCMC(
        ebm.NUTS(eight_schools), 200, 200, num_chains=64, chain_batch_size=32, disable_progbar=True
    )
    mcmc.run(*schools)
    check_schools(mcmc)
    data = ebm.sample(eight_schools, *schools, stop=ebm.UntilESS(400), disable_progbar=True)
    assert float(az.ess(data, var_names=["mu"])["mu"]) > 300


def test_states_and_their_thermodynamics(by_default):
    ising = ebm.Ising.lattice((4, 4))
    exact = float(ising.log_normalizer(2.5))
    kernel = ebm.auto_kernel(ebm.EnergyDistribution(ising, temperature=2.5))
    mcmc = ebm.MCMC(kernel, num_samples=100, num_chains=64, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["x"].device.type == "cuda"
    energy = ebm.EnergyDistribution(ising, temperature=2.5)
    found = ebm.AIS(energy, disable_progbar=True).run()
    assert abs(found.log_z - exact) < 4 * found.std_error
    assert float(ebm.minimize(ising).energies[0]) == -32.0
    phases = ebm.thermodynamics(ising, torch.linspace(1.5, 3.5, 5), disable_progbar=True)
    error = phases.log_z_error.values[2] + 1e-6
    assert abs(phases.log_z.values[2] - exact) < 4 * error


def test_learning(by_default):
    points = torch.randn(1000, 2) * torch.tensor([1.0, 0.3])
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))
    wide = dist.Normal(0.0, 1.5).expand([2]).to_event(1)
    bowl = ebm.Tilted(net, wide)
    learn = {"num_steps": 100, "disable_progbar": True}
    assert np.isfinite(ebm.fit(bowl, points, ebm.NoiseContrastive(noise=wide), **learn).log_z)
    shapes = ((16, 4), (16,), (4,))
    machine = ebm.RBM(*(torch.nn.Parameter(0.1 * torch.randn(n)) for n in shapes))
    binary = (torch.rand(500, 16) < 0.3).double()
    lasting = ebm.PersistentContrastiveDivergence(num_chains=50)
    learned = ebm.fit(machine.marginal(), binary, lasting, **learn)
    assert np.isfinite(learned.history["log_likelihood"][-1])


def test_an_energy_model_of_a_table(by_default):
    rows = np.random.default_rng(0).normal(size=(200, 2))
    model = ebm.EnergyModel(components=1, hidden=(16,), num_steps=50, random_state=0).fit(rows)
    assert np.isfinite(model.score_samples(rows[:5])).all()
    assert model.sample(20).shape == (20, 2)


def test_a_flow(by_default):
    rows = torch.randn(400, 2) * torch.tensor([1.0, 0.3])
    fitted = ebm.fit_flow(rows, epochs=3, disable_progbar=True)
    assert fitted.distribution.sample((5,)).device.type == "cuda"
    assert bool(fitted.distribution.log_prob(rows[:5]).isfinite().all())


def test_components_of_a_mixture(by_default):
    heaps = torch.cat([torch.randn(30) - 4.0, torch.randn(30) + 4.0])
    found = ebm.GaussianMixture.select(heaps, components=[1, 2])
    assert found.most_probable == 2


def test_unknown_parameters_of_an_energy(by_default):
    def ring(x, coupling):
        return -coupling * (x * x.roll(1, -1)).sum()

    kind = {"event_shape": (6,), "support": ebm.spin}
    listed = ebm.listed_log_normalizer(ring, 1, **kind)
    surface = ebm.log_normalizer_surface(ring, [0.0], [0.5], num_chains=4, num_sweeps=60, **kind)
    at = torch.tensor(0.3)
    assert abs(float(surface(at, 1.0) - listed(at, 1.0))) < 0.1
    data = torch.tensor([1.0, 1, -1, 1, 1, 1])

    def model(log_normalizer=None):
        coupling = pyro.sample("coupling", dist.Uniform(0.0, 0.5))
        options = {"params": (coupling,), "log_normalizer": log_normalizer, **kind}
        pyro.sample("x", ebm.EnergyDistribution(ring, **options), obs=data)

    means = []
    for kernel, more in ((ebm.NUTS(model), [listed]), (ebm.Exchange(model), [])):
        mcmc = ebm.MCMC(kernel, 200, 200, num_chains=32, disable_progbar=True)
        mcmc.run(*more)
        means.append(float(mcmc.get_samples()["coupling"].mean()))
    assert abs(means[0] - means[1]) < 0.03


def test_a_rule_is_learned(by_default):
    rule = ebm.BinaryTeacher(ebm.Perceptron(10))
    curve = ebm.learning_curve(
        rule,
        ebm.Perceptron(10),
        ebm.ZeroOne(),
        alphas=[1.0, 2.0],
        temperatures=[0.0],
        num_data_sets=8,
    )
    error = curve.generalisation_error.values.reshape(-1)
    assert error[0] > error[1] > 0.0


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
