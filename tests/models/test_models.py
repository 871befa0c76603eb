"""Each shared model is the joint density its reference belongs to, written a second time."""

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from scipy import stats
from scipy.special import log_expit
from torch.distributions import biject_to

from .catalogue import INFERENCE_GYM, POSTERIORDB, load


def half_normal(scale):
    return stats.halfnorm(scale=scale)


def eight_schools(v, sigma, y):
    theta = v["mu"] + v["tau"] * v["theta_trans"]
    return (
        stats.norm(0, 5).logpdf(v["mu"])
        + stats.halfcauchy(scale=5).logpdf(v["tau"])
        + stats.norm.logpdf(v["theta_trans"]).sum()
        + stats.norm(theta, sigma).logpdf(y).sum()
    )


def ar_k(v, order, y):
    total = stats.norm(0, 10).logpdf(v["alpha"]) + stats.norm(0, 10).logpdf(v["beta"]).sum()
    total += stats.halfcauchy(scale=2.5).logpdf(v["sigma"])
    for t in range(order, len(y)):
        mean = v["alpha"] + sum(v["beta"][k] * y[t - 1 - k] for k in range(order))
        total += stats.norm(mean, v["sigma"]).logpdf(y[t])
    return total


def garch11(v, sigma1, y):
    variance, total = float(sigma1) ** 2, 0.0
    for t in range(len(y)):
        if t > 0:
            variance = v["alpha0"] + v["alpha1"] * (y[t - 1] - v["mu"]) ** 2 + v["beta1"] * variance
        total += stats.norm(v["mu"], np.sqrt(variance)).logpdf(y[t])
    return total


def log_normal(v, mean, y):
    return stats.lognorm(s=v["sigma"], scale=np.exp(mean)).logpdf(y).sum()


def logearn_height_male(v, height, male, earn):
    b = v["beta"]
    return log_normal(v, b[0] + b[1] * height + b[2] * male, earn)


def kidscore_momiq(v, mom_iq, kid_score):
    mean = v["beta"][0] + v["beta"][1] * mom_iq
    return (
        stats.halfcauchy(scale=2.5).logpdf(v["sigma"])
        + stats.norm(mean, v["sigma"]).logpdf(kid_score).sum()
    )


def kidscore_interaction(v, mom_hs, mom_iq, kid_score):
    b = v["beta"]
    mean = b[0] + b[1] * mom_hs + b[2] * mom_iq + b[3] * mom_hs * mom_iq
    return (
        stats.halfcauchy(scale=2.5).logpdf(v["sigma"])
        + stats.norm(mean, v["sigma"]).logpdf(kid_score).sum()
    )


def logmesquite(v, *columns):
    diam1, diam2, canopy_height, total_height, density, group, weight = columns
    b = v["beta"]
    mean = b[0] + b[1] * np.log(diam1) + b[2] * np.log(diam2) + b[3] * np.log(canopy_height)
    mean = mean + b[4] * np.log(total_height) + b[5] * np.log(density) + b[6] * group
    return log_normal(v, mean, weight)


def low_dim_gauss_mix(v, y):
    first = np.log(v["theta"]) + stats.norm(v["mu"][0], v["sigma"][0]).logpdf(y)
    second = np.log1p(-v["theta"]) + stats.norm(v["mu"][1], v["sigma"][1]).logpdf(y)
    return (
        stats.norm(0, 2).logpdf(v["mu"]).sum()
        + half_normal(2).logpdf(v["sigma"]).sum()
        + stats.beta(5, 5).logpdf(v["theta"])
        + np.logaddexp(first, second).sum()
    )


def gp_regr(v, x, y):
    square = np.subtract.outer(x, x) ** 2
    covariance = v["alpha"] ** 2 * np.exp(-square / (2 * v["rho"] ** 2))
    covariance += v["sigma"] * np.eye(len(x))
    return (
        stats.gamma(25, scale=1 / 4).logpdf(v["rho"])
        + half_normal(2).logpdf(v["alpha"])
        + half_normal(1).logpdf(v["sigma"])
        + stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(y)
    )


def nes(v, *columns):
    real_ideo, race_adj, age, educ1, gender, income, partyid7 = columns
    b = v["beta"]
    by_age = np.array([0.0, 0.0, *b[3:6]])[age.astype(int)]
    mean = b[0] + b[1] * real_ideo + b[2] * race_adj + by_age
    mean = mean + b[6] * educ1 + b[7] * gender + b[8] * income
    return stats.norm(mean, v["sigma"]).logpdf(partyid7).sum()


def blr(v, X, y):
    return (
        stats.norm(0, 10).logpdf(v["beta"]).sum()
        + half_normal(10).logpdf(v["sigma"])
        + stats.norm(X @ v["beta"], v["sigma"]).logpdf(y).sum()
    )


def german_credit(v, X, prior_scale, y):
    logits = X @ v["beta"]
    prior = stats.norm(0, prior_scale).logpdf(v["beta"]).sum()
    return prior + np.where(y == 1, log_expit(logits), log_expit(-logits)).sum()


def brownian_motion(v, innovation, observation, observed, y):
    path = np.array([v[f"x_{step}"] for step in range(30)])
    return (
        stats.norm(0, innovation).logpdf(np.diff(path, prepend=0.0)).sum()
        + stats.norm(path[observed], observation).logpdf(y).sum()
    )


def brownian_motion_unknown_scales(v, observed, y):
    prior = stats.lognorm(s=2)
    return (
        prior.logpdf(v["innovation"])
        + prior.logpdf(v["observation"])
        + brownian_motion(v, v["innovation"], v["observation"], observed, y)
    )


ORACLES = {
    "eight_schools": eight_schools,
    "arK": ar_k,
    "garch11": garch11,
    "logearn_height_male": logearn_height_male,
    "kidscore_momiq": kidscore_momiq,
    "kidscore_interaction": kidscore_interaction,
    "logmesquite": logmesquite,
    "low_dim_gauss_mix": low_dim_gauss_mix,
    "gp_regr": gp_regr,
    "nes": nes,
    "blr": blr,
    "german_credit": german_credit,
    "german_credit_wide": german_credit,
    "brownian_motion": brownian_motion,
    "brownian_motion_unknown_scales": brownian_motion_unknown_scales,
}


class Somewhere(poutine.messenger.Messenger):
    """Gives every latent site a point of its support, from standard normal coordinates."""

    def _pyro_sample(self, msg):
        if not (msg["is_observed"] or site_is_subsample(msg)):
            to_support = biject_to(msg["fn"].support)
            shape = to_support.inverse_shape(msg["fn"].shape())
            msg["value"] = to_support(torch.randn(shape))


def trace_of(posterior, handler):
    return poutine.trace(handler(posterior.model)).get_trace(*posterior.args, **posterior.kwargs)


def somewhere(posterior):
    """The values of the latent sites, and the trace that gave them."""
    trace = trace_of(posterior, Somewhere())
    return {name: trace.nodes[name]["value"] for name in trace.stochastic_nodes}, trace


def log_joint(posterior, values):
    return trace_of(posterior, lambda model: poutine.condition(model, values)).log_prob_sum()


def in_float64(tensor):
    return tensor.numpy().astype(float) if tensor.is_floating_point() else tensor.numpy()


def arguments(posterior):
    every = (*posterior.args, *posterior.kwargs.values())
    return [in_float64(value) if isinstance(value, torch.Tensor) else value for value in every]


def test_every_posterior_has_an_oracle():
    assert set(ORACLES) == {*POSTERIORDB, *INFERENCE_GYM}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ORACLES)
def test_the_log_joint_is_the_oracles(name, dtype):
    torch.set_default_dtype(dtype)
    posterior = load(name)
    for _ in range(5):
        values, _ = somewhere(posterior)
        found = log_joint(posterior, values)
        expected = ORACLES[name](
            {site: in_float64(value) for site, value in values.items()}, *arguments(posterior)
        )
        assert found.dtype == dtype
        assert float(found) == pytest.approx(expected, rel=torch.finfo(dtype).eps ** 0.5)


@pytest.mark.parametrize("name", ORACLES)
def test_many_chains_at_once_have_each_ones_log_joint(name):
    torch.set_default_dtype(torch.float64)
    posterior = load(name)
    chains = [somewhere(posterior)[0] for _ in range(3)]
    stacked = {site: torch.stack([chain[site] for chain in chains]) for site in chains[0]}
    with pyro.validation_enabled(False):
        batched = torch.func.vmap(lambda values: log_joint(posterior, values))(stacked)
    one_by_one = torch.stack([log_joint(posterior, values) for values in chains])
    torch.testing.assert_close(batched, one_by_one)


@pytest.mark.parametrize("name", ORACLES)
def test_every_parameter_of_the_reference_is_read_from_the_model(name):
    posterior = load(name)
    _, trace = somewhere(posterior)
    draws = {site: trace.nodes[site]["value"][None] for site in posterior.extract}
    marginals = posterior.marginals(draws)
    assert list(marginals) == list(posterior.reference)
    assert all(values.shape == (1,) for values in marginals.values())
    sizes = {site: draws[site].numel() for site in draws}
    assert sizes == {site: len(names) for site, names in posterior.extract.items()}


def test_an_unknown_posterior_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Expected one of .*'eight_schools'.* got 'nine_schools'"):
        load("nine_schools")
