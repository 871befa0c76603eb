"""The suite in PyMC, for nutpie: the priors and data of tests/models, by target.

Each takes the data by name and makes a model. Constants are left out where that spares work:
responses under a log-normal law are given as logs, normal likelihoods of a whole column stand
without pi.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc
import pytensor
import pytensor.tensor as pt
from pymc.distributions.transforms import Ordered

from benchmarks.targets import EIGHT_SCHOOLS, ILL_CONDITIONED, data, precision_matrix

WALK = 30
# Where a start at zero, which nutpie jitters, lies outside the support.
STARTS = {"low_dim_gauss_mix": {"mu": np.array([-0.5, 0.5])}}


def ar_k(K: int, y: np.ndarray) -> None:
    """An autoregression of order K."""
    past = np.stack([y[K - lag - 1 : len(y) - lag - 1] for lag in range(K)], axis=1)
    alpha = pymc.Normal("alpha", 0.0, 10.0)
    beta = pymc.Normal("beta", 0.0, 10.0, shape=K)
    sigma = pymc.HalfCauchy("sigma", 2.5)
    pymc.Normal("y", alpha + past @ beta, sigma, observed=y[K:])


def blr(X: np.ndarray, y: np.ndarray) -> None:
    """A regression with weak priors."""
    beta = pymc.Normal("beta", 0.0, 10.0, shape=X.shape[1])
    sigma = pymc.HalfNormal("sigma", 10.0)
    pymc.Normal("y", X @ beta, sigma, observed=y)


def eight_schools(sigma: np.ndarray, y: np.ndarray) -> None:
    """Eight schools, non-centred."""
    mu = pymc.Normal("mu", 0.0, 5.0)
    tau = pymc.HalfCauchy("tau", 5.0)
    standard = pymc.Normal("theta_trans", 0.0, 1.0, shape=len(y))
    theta = pymc.Deterministic("theta", mu + tau * standard)
    pymc.Normal("y", theta, sigma, observed=y)


def garch11(sigma1: np.ndarray, y: np.ndarray) -> None:
    """GARCH(1, 1); beta1 is flat on an interval whose end is 1 - alpha1."""
    mu = pymc.Flat("mu")
    alpha0 = pymc.HalfFlat("alpha0")
    alpha1 = pymc.Uniform("alpha1", 0.0, 1.0)
    beta1 = pymc.Uniform("beta1", 0.0, 1.0 - alpha1)
    pymc.Potential("flat", pt.log1p(-alpha1))
    following, _ = pytensor.scan(
        lambda previous, variance, mu, alpha0, alpha1, beta1: (
            alpha0 + alpha1 * (previous - mu) ** 2 + beta1 * variance
        ),
        sequences=[pt.as_tensor(y[:-1])],
        outputs_info=[pt.as_tensor(sigma1**2)],
        non_sequences=[mu, alpha0, alpha1, beta1],
        strict=True,
    )
    scale = pt.sqrt(pt.concatenate([pt.atleast_1d(sigma1**2), following]))
    pymc.Normal("y", mu, scale, observed=y)


def gp_regr(x: np.ndarray, y: np.ndarray) -> None:
    """A Gaussian process with unknown hyperparameters."""
    rho = pymc.Gamma("rho", 25.0, 4.0)
    alpha = pymc.HalfNormal("alpha", 2.0)
    sigma = pymc.HalfNormal("sigma", 1.0)
    squared = (x[:, None] - x) ** 2
    covariance = alpha**2 * pt.exp(-squared / (2 * rho**2)) + sigma * np.eye(len(x))
    pymc.MvNormal("y", np.zeros(len(x)), covariance, observed=y)


def kidscore(*features: np.ndarray, kid_score: np.ndarray) -> None:
    """Scores regressed on features, with an intercept."""
    beta = pymc.Flat("beta", shape=1 + len(features))
    sigma = pymc.HalfCauchy("sigma", 2.5)
    columns = np.stack([np.ones_like(kid_score), *features], axis=1)
    pymc.Normal("kid_score", columns @ beta, sigma, observed=kid_score)


def kidscore_interaction(mom_hs: np.ndarray, mom_iq: np.ndarray, kid_score: np.ndarray) -> None:
    """Two features and their product."""
    kidscore(mom_hs, mom_iq, mom_hs * mom_iq, kid_score=kid_score)


def kidscore_momiq(mom_iq: np.ndarray, kid_score: np.ndarray) -> None:
    """One feature."""
    kidscore(mom_iq, kid_score=kid_score)


def flat_regression(features: np.ndarray, y: np.ndarray) -> None:
    """A regression with flat priors."""
    beta = pymc.Flat("beta", shape=features.shape[1])
    sigma = pymc.HalfFlat("sigma")
    pymc.Normal("y", features @ beta, sigma, observed=y)


def logearn_height_male(height: np.ndarray, male: np.ndarray, earn: np.ndarray) -> None:
    """Log earnings."""
    features = np.stack([np.ones_like(height), height, male], axis=1)
    flat_regression(features, np.log(earn))


def logmesquite(group: np.ndarray, weight: np.ndarray, **sizes: np.ndarray) -> None:
    """Log weights of bushes by the logs of their sizes."""
    order = ("diam1", "diam2", "canopy_height", "total_height", "density")
    logs = [np.log(sizes[name]) for name in order]
    flat_regression(np.stack([np.ones_like(group), *logs, group], axis=1), np.log(weight))


def nes(age_discrete: np.ndarray, partyid7: np.ndarray, **columns: np.ndarray) -> None:
    """Party identification."""
    ages = [(age_discrete == group).astype(float) for group in (2, 3, 4)]
    before = [columns[name] for name in ("real_ideo", "race_adj")]
    after = [columns[name] for name in ("educ1", "gender", "income")]
    ones = np.ones_like(partyid7)
    flat_regression(np.stack([ones, *before, *ages, *after], axis=1), partyid7)


def low_dim_gauss_mix(y: np.ndarray) -> None:
    """Two normal components in the order of their means."""
    order: Any = Ordered()
    mu = pymc.Flat("mu", shape=2, transform=order)
    pymc.Potential("mu_prior", pymc.logp(pymc.Normal.dist(0.0, 2.0), mu).sum())
    sigma = pymc.HalfNormal("sigma", 2.0, shape=2)
    theta = pymc.Beta("theta", 5.0, 5.0)
    pymc.NormalMixture("y", pt.stack([theta, 1 - theta]), mu, sigma, observed=y)


def german_credit(X: np.ndarray, prior_scale: np.ndarray, y: np.ndarray) -> None:
    """A logistic regression."""
    beta = pymc.Normal("beta", 0.0, float(prior_scale), shape=X.shape[1])
    pymc.Bernoulli("y", logit_p=X @ beta, observed=y)


def brownian_motion(observed: np.ndarray, y: np.ndarray) -> None:
    """A random walk of unknown scales, seen with a gap."""
    innovation = pymc.LogNormal("innovation", 0.0, 2.0)
    observation = pymc.LogNormal("observation", 0.0, 2.0)
    loc = pymc.Flat("loc", shape=WALK)
    steps = pt.concatenate([loc[:1], loc[1:] - loc[:-1]])
    pymc.Potential("walk", pymc.logp(pymc.Normal.dist(0.0, innovation), steps).sum())
    pymc.Normal("y", loc[observed], observation, observed=y)


def gaussian(precision: np.ndarray) -> None:
    """A centred Gaussian of that precision matrix."""
    x = pymc.Flat("x", shape=len(precision))
    pymc.Potential("gaussian", -0.5 * pt.dot(x, precision @ x))


MODELS: Mapping[str, Callable[..., None]] = {
    "arK": ar_k,
    "blr": blr,
    EIGHT_SCHOOLS: eight_schools,
    "garch11": garch11,
    "gp_regr": gp_regr,
    "kidscore_interaction": kidscore_interaction,
    "kidscore_momiq": kidscore_momiq,
    "logearn_height_male": logearn_height_male,
    "logmesquite": logmesquite,
    "low_dim_gauss_mix": low_dim_gauss_mix,
    "nes": nes,
    "german_credit": german_credit,
    "brownian_motion_unknown_scales": brownian_motion,
    ILL_CONDITIONED: gaussian,
}


def model(name: str) -> pymc.Model:
    """The model of that name with its data."""
    given = {"precision": precision_matrix()} if name == ILL_CONDITIONED else data(name)
    with pymc.Model() as made:
        MODELS[name](**given)
    return made
