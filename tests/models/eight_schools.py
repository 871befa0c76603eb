"""Coaching effects in eight schools, non-centred (Rubin 1981)."""

import pyro
import pyro.distributions as dist


def eight_schools(sigma, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * theta_trans, event_dim=0)
        return pyro.sample("y", dist.Normal(theta, sigma), obs=y)
