"""Mixtures of normals on 82 galaxy velocities, with components that may swap their labels.

Every labelling is in the support, so that the evidence counts all K! of them. The priors are
mean ~ N(20, 10), variance ~ InverseGamma(3, 20), weights ~ Dirichlet(1), velocities in 1000 km/s.

Source: Chib (1995), Marginal likelihood from the Gibbs output; Neal (1999), Erroneous results in
"Marginal likelihood from the Gibbs output".
"""

import pyro
import pyro.distributions as dist
import torch


def one_normal(velocities):
    mean = pyro.sample("mean", dist.Normal(20.0, 10.0))
    variance = pyro.sample("variance", dist.InverseGamma(3.0, 20.0))
    with pyro.plate("galaxy", len(velocities)):
        pyro.sample("velocity", dist.Normal(mean, variance.sqrt()), obs=velocities)


def equal_variances(num_components, velocities):
    variance = pyro.sample("variance", dist.InverseGamma(3.0, 20.0))
    with pyro.plate("component", num_components):
        mean = pyro.sample("mean", dist.Normal(20.0, 10.0))
    mixture(mean, variance.expand(mean.shape), velocities)


def unequal_variances(num_components, velocities):
    with pyro.plate("component", num_components):
        mean = pyro.sample("mean", dist.Normal(20.0, 10.0))
        variance = pyro.sample("variance", dist.InverseGamma(3.0, 20.0))
    mixture(mean, variance, velocities)


def mixture(mean, variance, velocities):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(mean.shape[-1])))
    component = dist.Normal(mean, variance.sqrt())
    with pyro.plate("galaxy", len(velocities)):
        pyro.sample(
            "velocity",
            dist.MixtureSameFamily(dist.Categorical(probs=weights), component),
            obs=velocities,
        )
