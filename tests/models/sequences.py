"""Time series: an autoregression, a GARCH recursion, and a random walk seen with a gap."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

from .priors import flat


def ar_k(order, y):
    """y_t ~ N(alpha + sum_k beta_k y_{t-k}, sigma) for every t with a whole past."""
    past = y.unfold(0, order, 1)[:-1].flip(-1)
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    with pyro.plate("lag", order):
        beta = pyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("time", len(past)):
        pyro.sample("y", dist.Normal(alpha + past @ beta, sigma), obs=y[order:])


def garch11(sigma1, y):
    """sigma_t^2 = alpha0 + alpha1 (y_{t-1} - mu)^2 + beta1 sigma_{t-1}^2, with sigma_1 given.

    The support of beta1 depends on alpha1, and its density is flat there: `Uniform(0, 1 - alpha1)`
    would be another model.
    """
    mu = flat("mu", constraints.real)
    alpha0 = flat("alpha0", constraints.positive)
    alpha1 = flat("alpha1", constraints.unit_interval)
    beta1 = flat("beta1", constraints.interval(0.0, 1.0 - alpha1))
    variances = [sigma1**2]
    for previous in y[:-1]:
        variances.append(alpha0 + alpha1 * (previous - mu) ** 2 + beta1 * variances[-1])
    with pyro.plate("time", len(y)):
        pyro.sample("y", dist.Normal(mu, torch.stack(variances).sqrt()), obs=y)


def walk(innovation, observation, observed, y):
    """x_1 ~ N(0, innovation), x_t ~ N(x_{t-1}, innovation), seen through N(x_t, observation)."""
    position = 0.0
    path = []
    for step in pyro.markov(range(30)):
        position = pyro.sample(f"x_{step}", dist.Normal(position, innovation))
        path.append(position)
    loc = pyro.deterministic("loc", torch.stack(path))
    with pyro.plate("observation_time", len(observed)):
        return pyro.sample("y", dist.Normal(loc[observed], observation), obs=y)


def brownian_motion(innovation, observation, observed, y=None):
    return walk(innovation, observation, observed, y)


def brownian_motion_unknown_scales(observed, y=None):
    innovation = pyro.sample("innovation", dist.LogNormal(0.0, 2.0))
    observation = pyro.sample("observation", dist.LogNormal(0.0, 2.0))
    return walk(innovation, observation, observed, y)
