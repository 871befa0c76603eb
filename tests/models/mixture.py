"""Two overlapping normal components, told apart by the order of their means."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from .priors import flat


def low_dim_gauss_mix(y):
    mu = flat("mu", constraints.ordered_vector, (2,))
    pyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    with pyro.plate("component", 2):
        sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    weights = dist.Categorical(probs=torch.stack([theta, 1 - theta]))
    with pyro.plate("point", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)
