"""Linear regressions whose priors are conjugate, so that their evidence has a closed form."""

import pyro
import pyro.distributions as dist
import torch


def radiata_pine(density, strength=None):
    """Strength of a specimen on its density: y ~ N(a + b (x - mean x), tau^(-1/2)).

    Two densities, plain and adjusted for resin, make the two models that are compared.

    Source: Carlin and Chib (1995), Bayesian model choice via Markov chain Monte Carlo methods.
    """
    precision = pyro.sample("precision", dist.Gamma(3.0, 2 * 300.0**2))
    scales = (precision * torch.tensor([0.06, 6.0])).rsqrt()
    beta = pyro.sample("beta", dist.Normal(torch.tensor([3000.0, 185.0]), scales).to_event(1))
    with pyro.plate("specimen", len(density)):
        mean = beta[0] + beta[1] * (density - density.mean())
        return pyro.sample("strength", dist.Normal(mean, precision.rsqrt()), obs=strength)


def diabetes(features, progression=None):
    """y ~ N(w_0 + X w, sqrt(1/2)), w ~ N(0, 1), on standardised columns."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([1 + features.shape[1]]).to_event(1))
    with pyro.plate("patient", len(features)):
        mean = w[0] + features @ w[1:]
        return pyro.sample("progression", dist.Normal(mean, 0.5**0.5), obs=progression)
