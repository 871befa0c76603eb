"""The suite in NumPyro: the priors and data of tests/models, by target.

Each takes the data by name. Constants are left out where that spares work: responses under a
log-normal law are given as logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from benchmarks.targets import EIGHT_SCHOOLS, ILL_CONDITIONED, data, precision_matrix


def flat(name: str, support: Any, event_shape: tuple[int, ...] = ()) -> jax.Array:
    """A site that is uniform over its support."""
    return numpyro.sample(name, dist.ImproperUniform(support, (), event_shape))


def ar_k(K: int, y: jax.Array) -> None:
    """An autoregression of order K."""
    past = jnp.stack([y[K - lag - 1 : len(y) - lag - 1] for lag in range(K)], axis=1)
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([K]))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + past @ beta, sigma), obs=y[K:])


def blr(X: jax.Array, y: jax.Array) -> None:
    """A regression with weak priors."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([X.shape[1]]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def eight_schools(sigma: jax.Array, y: jax.Array) -> None:
    """Eight schools, non-centred."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    standard = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0).expand([len(y)]))
    theta = numpyro.deterministic("theta", mu + tau * standard)
    numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def garch11(sigma1: jax.Array, y: jax.Array) -> None:
    """GARCH(1, 1); beta1 is flat on an interval whose end is 1 - alpha1."""
    mu = flat("mu", constraints.real)
    alpha0 = flat("alpha0", constraints.positive)
    alpha1 = numpyro.sample("alpha1", dist.Uniform(0.0, 1.0))
    beta1 = numpyro.sample("beta1", dist.Uniform(0.0, 1.0 - alpha1))
    numpyro.factor("flat", jnp.log1p(-alpha1))

    def following(variance: jax.Array, previous: jax.Array) -> tuple[jax.Array, jax.Array]:
        return alpha0 + alpha1 * (previous - mu) ** 2 + beta1 * variance, variance

    last, variances = jax.lax.scan(following, sigma1**2, y[:-1])
    scale = jnp.sqrt(jnp.append(variances, last))
    numpyro.sample("y", dist.Normal(mu, scale), obs=y)


def gp_regr(x: jax.Array, y: jax.Array) -> None:
    """A Gaussian process with unknown hyperparameters."""
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    distance = (x[:, None] - x) / rho
    covariance = alpha**2 * jnp.exp(-(distance**2) / 2) + sigma * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=y)


def kidscore(*features: jax.Array, kid_score: jax.Array) -> None:
    """Scores regressed on features, with an intercept."""
    beta = flat("beta", constraints.real_vector, (1 + len(features),))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    mean = beta[0] + sum(b * feature for b, feature in zip(beta[1:], features, strict=True))
    numpyro.sample("kid_score", dist.Normal(mean, sigma), obs=kid_score)


def kidscore_interaction(mom_hs: jax.Array, mom_iq: jax.Array, kid_score: jax.Array) -> None:
    """Two features and their product."""
    kidscore(mom_hs, mom_iq, mom_hs * mom_iq, kid_score=kid_score)


def kidscore_momiq(mom_iq: jax.Array, kid_score: jax.Array) -> None:
    """One feature."""
    kidscore(mom_iq, kid_score=kid_score)


def flat_regression(features: jax.Array, y: jax.Array) -> None:
    """A regression with flat priors."""
    beta = flat("beta", constraints.real_vector, (features.shape[1],))
    sigma = flat("sigma", constraints.positive)
    numpyro.sample("y", dist.Normal(features @ beta, sigma), obs=y)


def logearn_height_male(height: jax.Array, male: jax.Array, earn: jax.Array) -> None:
    """Log earnings."""
    features = jnp.stack([jnp.ones_like(height), height, male], axis=1)
    flat_regression(features, jnp.log(earn))


def logmesquite(group: jax.Array, weight: jax.Array, **sizes: jax.Array) -> None:
    """Log weights of bushes by the logs of their sizes."""
    order = ("diam1", "diam2", "canopy_height", "total_height", "density")
    logs = [jnp.log(sizes[name]) for name in order]
    flat_regression(jnp.stack([jnp.ones_like(group), *logs, group], axis=1), jnp.log(weight))


def nes(age_discrete: jax.Array, partyid7: jax.Array, **columns: jax.Array) -> None:
    """Party identification."""
    ages = [(age_discrete == group).astype(partyid7.dtype) for group in (2, 3, 4)]
    before = [columns[name] for name in ("real_ideo", "race_adj")]
    after = [columns[name] for name in ("educ1", "gender", "income")]
    ones = jnp.ones_like(partyid7)
    flat_regression(jnp.stack([ones, *before, *ages, *after], axis=1), partyid7)


def low_dim_gauss_mix(y: jax.Array) -> None:
    """Two normal components in the order of their means."""
    mu = flat("mu", constraints.ordered_vector, (2,))
    numpyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0).expand([2]))
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    weights = dist.Categorical(probs=jnp.stack([theta, 1 - theta]))
    numpyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)


def german_credit(X: jax.Array, prior_scale: jax.Array, y: jax.Array) -> None:
    """A logistic regression."""
    beta = numpyro.sample("beta", dist.Normal(0.0, prior_scale).expand([X.shape[1]]))
    numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def brownian_motion(observed: jax.Array, y: jax.Array) -> None:
    """A random walk of unknown scales, seen with a gap."""
    innovation = numpyro.sample("innovation", dist.LogNormal(0.0, 2.0))
    observation = numpyro.sample("observation", dist.LogNormal(0.0, 2.0))
    loc = numpyro.sample("loc", dist.GaussianRandomWalk(innovation, num_steps=30))
    numpyro.sample("y", dist.Normal(loc[observed], observation), obs=y)


def gaussian(precision: jax.Array) -> None:
    """A centred Gaussian of that precision matrix."""
    x = flat("x", constraints.real_vector, (len(precision),))
    numpyro.factor("gaussian", -0.5 * x @ precision @ x)


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


def arguments(name: str) -> dict[str, Any]:
    """What the model of that name is called with, as arrays of JAX's default type."""
    if name == ILL_CONDITIONED:
        return {"precision": jnp.asarray(precision_matrix())}
    return {
        key: value if isinstance(value, int) else jnp.asarray(value)
        for key, value in data(name).items()
    }
