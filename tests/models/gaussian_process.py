"""A Gaussian process regression with its hyperparameters unknown."""

import pyro
import pyro.distributions as dist
import torch


def gp_regr(x, y=None):
    """y ~ N(0, alpha^2 exp(-(x - x')^2 / (2 rho^2)) + sigma I): sigma is a variance."""
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    distance = (x[:, None] - x) / rho
    covariance = alpha**2 * torch.exp(-(distance**2) / 2) + sigma * torch.eye(len(x))
    return pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)
