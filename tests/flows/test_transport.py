"""Targets seen through flows: the same density, the same draws, and the sites of the model."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import affine_coupling

import pyro_ebm as ebm
from pyro_ebm.annealing.draws_of_target import positions_of
from pyro_ebm.annealing.given import given_base
from pyro_ebm.diagnostics import ess_bulk, mcse_mean
from pyro_ebm.mcmc.api.figures import coordinates
from pyro_ebm.target import Target

zuko = pytest.importorskip("zuko")
SIZE = {"hidden_features": (8,), "transforms": 2}
FLOWS = {
    "NICE": lambda dim: zuko.flows.NICE(dim, **SIZE),
    "RealNVP": lambda dim: zuko.flows.RealNVP(dim, **SIZE),
    "MAF": lambda dim: zuko.flows.MAF(dim, **SIZE),
    "NSF": lambda dim: zuko.flows.NSF(dim, bins=4, **SIZE),
    "NCSF": lambda dim: zuko.flows.NCSF(dim, bins=4, **SIZE),
    "NSF in two passes": lambda dim: zuko.flows.NSF(dim, passes=2, bins=3, **SIZE),
}
SLOW = ("MAF", "NSF", "NCSF", "NSF in two passes")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FLOWS]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def model(y):
    rate = pyro.sample("rate", dist.Gamma(4.0, 4.0))
    with pyro.plate("group", 2):
        level = pyro.sample("level", dist.Normal(0.0, rate))
    pyro.deterministic("ratio", level / rate)
    pyro.sample("y", dist.Normal(level.sum(), 1.0), obs=y)


@pytest.mark.parametrize("name", NAMES)
def test_the_density_is_that_of_the_model_times_the_jacobian(name):
    plain = Target.from_model(model, torch.tensor(1.0))
    flow = FLOWS[name](3)
    seen = ebm.transported(model, flow, torch.tensor(1.0))
    z = torch.randn(3, 5)
    value, gradient = seen.log_density_and_gradient(z)
    x = seen.to_unconstrained(z.T)
    torch.testing.assert_close(flow().transform(x), z.T)
    torch.testing.assert_close(seen.from_unconstrained(x), z.T)
    inverse = flow().transform.inv
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(inverse, z[:, i])
        expected = plain.log_density(x[i]) + torch.linalg.slogdet(jacobian).logabsdet
        assert float(value[i]) == pytest.approx(float(expected), rel=1e-8)
    step = 1e-6
    for j in range(3):
        moved = step * torch.eye(3)[j][:, None]
        up, down = (seen.log_density_and_gradient(z + s * moved)[0] for s in (1, -1))
        slope = (up - down) / (2 * step)
        torch.testing.assert_close(gradient[j], slope, rtol=1e-4, atol=1e-4)
    recorded = seen.recorded.at(z)(z)
    torch.testing.assert_close(recorded, (value, gradient))
    for site, values in seen.constrain(z.T).items():
        torch.testing.assert_close(values, plain.constrain(x)[site])


def bending(curvature):
    """z -> (z_1, z_2 + c z_1^2), whose determinant is one."""

    class Bend(torch.distributions.Transform):
        domain = codomain = torch.distributions.constraints.real_vector
        bijective = True

        def _call(self, x):
            return torch.stack([x[..., 0], x[..., 1] + curvature * x[..., 0].square()], -1)

        def _inverse(self, y):
            return torch.stack([y[..., 0], y[..., 1] - curvature * y[..., 0].square()], -1)

        def log_abs_det_jacobian(self, x, y):
            return torch.zeros(x.shape[:-1])

    return Bend()


def test_the_transform_that_made_a_banana_makes_it_a_gaussian():
    banana = ebm.Banana(scale=1.0, curvature=2.0, width=1.0)
    seen = Target.from_energy(banana).transported(bending(2.0))
    z = torch.randn(2, 6)
    value, gradient = seen.log_density_and_gradient(z)
    torch.testing.assert_close(value, -0.5 * z.square().sum(0))
    torch.testing.assert_close(gradient, -z)


def agrees(draws, mean, variance):
    """Draws [chain, draw, coordinate] with the moments, by their own errors."""
    for values, truth in ((draws, mean), ((draws - mean).square(), variance)):
        assert float(ess_bulk(values.numpy()).min()) > 200
        error = torch.as_tensor(mcse_mean(values.numpy()))
        assert bool(((values.mean((0, 1)) - truth).abs() < 4 * error).all())


@pytest.mark.parametrize("name", ["NICE", pytest.param("MAF", marks=pytest.mark.slow)])
def test_nuts_through_any_flow_draws_from_the_energy(name):
    """A flow that was never trained: it does not help, and does no harm."""
    banana = ebm.Banana(scale=1.0, curvature=0.5, width=1.0)
    run = ebm.MCMC(
        ebm.NUTS(ebm.transported(banana, FLOWS[name](2))),
        500,
        150,
        num_chains=8,
        disable_progbar=True,
    )
    run.run()
    draws = run.get_samples(group_by_chain=True)["x"]
    agrees(draws, banana.mean(), banana.variance())


@pytest.mark.slow
def test_nuts_through_a_fitted_flow_goes_down_the_neck_of_a_funnel():
    """Where NUTS as it stands stays out: a mean of v above zero, a variance far below nine."""
    funnel = ebm.Funnel(5).double()
    torch.manual_seed(4)
    flow = zuko.flows.RealNVP(5, transforms=4, hidden_features=(32, 32))
    fitted = ebm.fit_flow_to_target(
        funnel,
        flow=flow,
        epochs=25,
        optimizer=partial(torch.optim.Adam, lr=3e-3),
        disable_progbar=True,
    )
    seen = ebm.transported(funnel, fitted)
    run = ebm.MCMC(ebm.NUTS(seen), 500, 300, num_chains=16, disable_progbar=True)
    run.run()
    v = run.get_samples(group_by_chain=True)["x"][..., :1]
    agrees(v, torch.zeros(1), torch.full((1,), 9.0))


def test_a_run_through_a_flow_is_a_base_for_the_energy_as_it_stands():
    banana = ebm.Banana(scale=1.0, curvature=0.5, width=1.0)
    shift = torch.distributions.AffineTransform(
        torch.tensor([5.0, -3.0]), torch.tensor([2.0, 0.5]), event_dim=1
    )
    run = ebm.MCMC(
        ebm.NUTS(Target.from_energy(banana).transported(shift)),
        150,
        100,
        num_chains=8,
        disable_progbar=True,
    )
    run.run()
    plain = Target.from_energy(banana)
    x, z = run.get_samples()["x"], run.record.positions.reshape(-1, 2)
    nearest = torch.cdist(positions_of(plain, run).T, x).amin(1)
    assert float(nearest.max()) < 1e-6
    base = given_base(plain, run, (), {})
    inside, outside = (base.log_density_and_gradient(rows.T)[0].mean() for rows in (x, z))
    assert float(inside) > float(outside)


def test_a_broken_log_determinant_is_caught_before_the_run():
    class Broken(torch.distributions.AffineTransform):
        def log_abs_det_jacobian(self, x, y):
            return 0.5 * super().log_abs_det_jacobian(x, y)

    target = Target.from_energy(ebm.Banana())
    with pytest.raises(ValueError, match=r"log \|det"):
        target.transported(Broken(0.0, 2.0, event_dim=1))


def test_results_are_those_of_the_models_sites():
    y = torch.tensor(1.0)
    run = ebm.MCMC(
        ebm.NUTS(ebm.transported(model, FLOWS["NICE"](3), y)),
        40,
        60,
        num_chains=4,
        disable_progbar=True,
    )
    run.run()
    samples = run.get_samples()
    assert coordinates(run.record).names == ("z[0]", "z[1]", "z[2]")
    assert {name: tuple(v.shape[1:]) for name, v in samples.items()} == {"rate": (), "level": (2,)}
    assert bool((samples["rate"] > 0).all())
    data = run.to_arviz()
    assert data.posterior["level"].dims == ("chain", "draw", "group")
    rate, free = data.posterior["rate"].values, data.unconstrained_posterior["rate"].values
    assert abs(free - torch.as_tensor(rate).log().numpy()).max() < 1e-8
    ratio = data.posterior["level"].values / rate[..., None]
    assert abs(ratio - data.posterior["ratio"].values).max() < 1e-8
    total = torch.as_tensor(data.posterior["level"].values).sum(-1)
    expected = dist.Normal(total, 1.0).log_prob(y)
    assert abs(data.log_likelihood["y"].values - expected.numpy()).max() < 1e-8


def test_starts_given_in_the_models_coordinates_arrive_there():
    seen = ebm.transported(ebm.Banana(), FLOWS["RealNVP"](2))
    x = torch.randn(4, 2)
    z = seen.unconstrain({"x": x})
    torch.testing.assert_close(seen.constrain(z)["x"], x)


def test_sums_over_discrete_sites_go_through_a_transport():
    def mixture():
        with pyro.plate("data", 4):
            state = pyro.sample("state", dist.Categorical(torch.tensor([0.3, 0.7])))
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mean + 3.0 * state, 0.5), obs=torch.zeros(4))

    seen = Target.from_model(mixture).transported(
        torch.distributions.AffineTransform(torch.ones(4), 2.0 * torch.ones(4), event_dim=1)
    )
    plain = Target.from_model(mixture)
    z = torch.randn(4)
    expected = plain.log_density(1 + 2 * z) + 4 * math.log(2)
    torch.testing.assert_close(seen.log_density(z), expected)
    assert seen.marginalised == ("state",)
    run = ebm.MCMC(ebm.NUTS(seen), 20, 20, num_chains=2, disable_progbar=True)
    run.run()
    assert run.to_arviz().posterior["state"].shape == (2, 20, 4)


def test_annealing_a_transported_target_gives_the_models_log_z():
    banana = ebm.Banana(scale=1.0, curvature=0.5, width=1.0)
    seen = ebm.transported(banana, FLOWS["NICE"](2))
    wide = dist.Normal(torch.tensor([0.0, 0.5]), torch.tensor([2.0, 3.0])).to_event(1)
    found = ebm.AIS(
        seen,
        base=wide,
        num_particles=512,
        schedule=ebm.Linear(6),
        moves=ebm.HMCMoves(num_steps=1),
        reverse=False,
        disable_progbar=True,
    ).run()
    assert abs(found.log_z - float(banana.log_normalizer())) < 4 * found.std_error < 0.6


def test_pyros_own_flows_and_single_precision_ones_transport_too():
    torch.manual_seed(2)
    made = affine_coupling(2, hidden_dims=[8])
    normal = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    energy = ebm.Banana().double()
    seen = ebm.transported(energy, dist.TransformedDistribution(normal, [made]))
    z = torch.randn(2, 3)
    x = made(z.T)
    expected = -energy(x) + made.log_abs_det_jacobian(z.T, x)
    torch.testing.assert_close(seen.log_density_and_gradient(z)[0], expected.detach())
    single = FLOWS["RealNVP"](2).float()
    assert ebm.transported(energy, single).dtype == torch.float64
    assert next(single.parameters()).dtype == torch.float32


def unmappable():
    return zuko.flows.SOSPF(2, transforms=1, hidden_features=(8,))


@pytest.mark.parametrize(
    ("flow", "error", "said"),
    [
        (lambda: zuko.flows.RealNVP(3, **SIZE), ValueError, "vectors of 2 numbers"),
        (lambda: zuko.flows.GMM(2, components=2), ValueError, "has none"),
        (unmappable, ValueError, "NICE, RealNVP, MAF, NSF and NCSF"),
        (lambda: "NSF", TypeError, "zuko flow"),
    ],
)
def test_what_cannot_transport_is_refused(flow, error, said):
    with pytest.raises(error, match=said):
        ebm.transported(ebm.Banana(), flow())


def test_states_cannot_be_transported():
    with pytest.raises(TypeError, match="continuous"):
        ebm.transported(ebm.Ising.lattice((2, 2)), zuko.flows.NICE(4))
    with pytest.raises(TypeError, match=r"transported\(model, flow\)"):
        Target.from_energy(ebm.Banana()).transported(zuko.flows.NICE(2))
