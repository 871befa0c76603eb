"""Calibration: right samplers pass, planted errors are caught, and some models are refused."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from torch import Tensor
from torch.distributions import ExpTransform

import pyro_ebm as ebm
from pyro_ebm.calibration import calibrate
from pyro_ebm.calibration.uniformity import band, counts_below, uniformity
from pyro_ebm.calibration_plot import plot_calibration

QUICK = {"num_simulations": 100, "num_draws": 39, "warmup_steps": 80, "thinning": 2}
SHORT = {"num_simulations": 20, "num_draws": 9, "warmup_steps": 50, "thinning": 1}


def normal(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    with pyro.plate("n", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.5), obs=y)


def hierarchical(y):
    tau = pyro.sample("tau", dist.Gamma(3.0, 2.0))
    with pyro.plate("group", len(y)):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        effect = pyro.deterministic("effect", tau * theta)
        pyro.sample("y", dist.Normal(effect, 1.0), obs=y)


class WithoutJacobian(ExpTransform):
    """exp, with a log determinant that was forgotten."""

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_the_conjugate_normal_is_calibrated():
    found = calibrate(normal, torch.zeros(6), **QUICK)
    assert found.passed, found.why()
    assert found.why().startswith("Calibrated, as far as so many simulations can tell")
    assert set(found.ranks) == {"mu", "log_density"}
    assert found.ranks["mu"].shape == (100,)
    assert 0 <= int(found.ranks["mu"].min()) <= int(found.ranks["mu"].max()) <= 39


def test_a_hierarchical_model_is_calibrated_and_drawn():
    found = calibrate(hierarchical, torch.zeros(3), **QUICK)
    assert found.passed, found.why()
    assert found.ranks["effect"].shape == (100, 3)
    figure = plot_calibration(found)
    assert sum(panel.get_visible() for panel in figure.axes) == 4
    with pytest.raises(ValueError, match="expected names among"):
        plot_calibration(found, names=["unheard of"])
    data = found.to_arviz()
    assert data["prior_sbc"]["effect"].shape == (1, 100, 3)
    assert data["prior_predictive"]["y"].shape == (1, 100, 3)


def test_a_reparametrised_site_is_a_parameter_and_no_data():
    def line(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
        pyro.sample("y", dist.Normal(mu, 1.5), obs=y)

    model = poutine.reparam(line, {"mu": LocScaleReparam(0.0)})
    found = calibrate(model, torch.zeros(()), **SHORT)
    assert set(found.ranks) == {"mu_decentered", "mu", "log_density"}
    assert set(found.data) == {"y"}


def test_a_planted_missing_jacobian_is_caught():
    def broken(model):
        return ebm.NUTS(model, transforms={"tau": WithoutJacobian().inv})

    found = calibrate(hierarchical, torch.zeros(3), kernel=broken, **QUICK)
    assert not found.passed
    assert "'tau': its draws lie too low" in found.why()


def test_a_planted_wrong_likelihood_scale_is_caught():
    def broken(model):
        return ebm.NUTS(poutine.scale(model, 4.0))

    found = calibrate(normal, torch.zeros(6), kernel=broken, **QUICK)
    assert not found.passed
    assert "too narrow" in found.why()


@pytest.mark.slow
def test_posteriors_of_very_different_widths_are_sampled():
    def scales(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("n", len(y)):
            pyro.sample("y", dist.Normal(mu, scale), obs=y)

    found = calibrate(scales, torch.zeros(10), **{**QUICK, "num_draws": 19, "thinning": 1})
    assert found.passed, found.why()


def test_a_seed_repeats_a_calibration():
    runs = []
    for _ in range(2):
        pyro.set_rng_seed(5)
        runs.append(calibrate(normal, torch.zeros(2), **SHORT))
    assert all(torch.equal(runs[0].ranks[n], runs[1].ranks[n]) for n in runs[0].ranks)


def test_data_can_be_named_instead_of_given():
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu, 1.0))

    found = calibrate(model, observed=["y"], **SHORT)
    assert set(found.data) == {"y"}
    assert set(found.prior) == {"mu"}


def mu_and(statement):
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        statement(mu)
        pyro.sample("y", dist.Normal(mu, 1.0), obs=torch.zeros(()))

    return model


def random_shape():
    n = int(pyro.sample("n", dist.Poisson(50.0)))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(n + 1), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(mu[0], 1.0), obs=torch.zeros(()))


REFUSED = {
    "no data": (lambda: pyro.sample("mu", dist.Normal(0.0, 1.0)), "observes none"),
    "factor": (mu_and(lambda mu: pyro.factor("f", -mu)), "factor 'f'"),
    "improper": (
        mu_and(lambda mu: pyro.sample("u", dist.ImproperUniform(dist.constraints.real, (), ()))),
        "'u' has an improper prior",
    ),
    "energy": (
        mu_and(lambda mu: pyro.sample("e", ebm.EnergyDistribution(lambda x: x**4 + x**2))),
        "energy without an exact sampler",
    ),
    "masked": (
        mu_and(lambda mu: pyro.sample("m", dist.Normal(0.0, 1.0).mask(False))),
        "'m' is masked",
    ),
    "scaled": (poutine.scale(mu_and(lambda mu: None), 2.0), "weighted by poutine.scale"),
    "shapes": (random_shape, "differ in the sites"),
    "infinite": (
        mu_and(lambda mu: pyro.sample("big", dist.LogNormal(0.0, 1e3))),
        "'big' that are not finite",
    ),
}


@pytest.mark.parametrize(("model", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_simulated_is_refused(model, said):
    with pytest.raises(ValueError, match=said):
        calibrate(model, **SHORT)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="Expected a Pyro model"):
        calibrate(ebm.DoubleWell(2))
    with pytest.raises(ValueError, match="num_simulations must be"):
        calibrate(normal, torch.zeros(2), num_simulations=3)
    with pytest.raises(ValueError, match="observed= names"):
        calibrate(normal, torch.zeros(2), observed=["z"])
    with pytest.raises(TypeError, match=r"must make a pyro_ebm\.NUTS"):
        calibrate(normal, torch.zeros(2), kernel=lambda model: model, **SHORT)


def test_p_values_of_uniform_ranks_are_exact():
    ranks = np.random.default_rng(0).integers(0, 20, (50, 4000))
    tests = uniformity(torch.as_tensor(ranks), 19)
    for level in (0.01, 0.05, 0.2, 0.5):
        # The statistic is discrete: at most the level, and little less.
        error = math.sqrt(level * (1 - level) / 4000)
        assert float((tests.p_value <= level).mean()) < level + 4 * error
    inside = band(50, 19, probability=0.9)
    share = np.stack([counts_below(column, 19) / 50 for column in ranks.T])
    stays = ((share >= inside.lower) & (share <= inside.upper)).all(1)
    assert np.array_equal(stays, tests.p_value > 1 - 0.9)
    assert abs(stays.mean() - 0.9) < 4 * math.sqrt(0.09 / 4000) + 0.01


def test_ranks_at_the_ends_are_too_narrow_posteriors():
    tests = uniformity(torch.tensor([0, 19]).repeat(50), 19)
    assert tests.p_value < 1e-6
    assert tests.spread_z > 4
    assert abs(tests.mean_z) < 1
