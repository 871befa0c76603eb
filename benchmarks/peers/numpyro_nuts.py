"""NumPyro's NUTS on eight schools: chains vectorised in one process."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

from benchmarks.targets import parameters, schools
from benchmarks.worker import Stopwatch, hand_over, options


def eight_schools(sigma, y):
    """The model of tests/models."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        standard = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * standard)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def main() -> None:
    """Sample; compilation falls into both stages."""
    watch = Stopwatch()
    given = options()
    y, sigma = schools()
    mcmc = MCMC(
        NUTS(eight_schools),
        num_warmup=given["warmup"],
        num_samples=given["num_draws"],
        num_chains=given["chains"],
        chain_method="vectorized",
        progress_bar=False,
    )
    key = jax.random.PRNGKey(given["seed"])
    mcmc.warmup(key, sigma, y)
    watch.lap("set-up and warm-up")
    mcmc.run(key, sigma, y)
    found = mcmc.get_samples(group_by_chain=True)
    draws = parameters(*(np.asarray(found[site]) for site in ("mu", "tau", "theta")))
    watch.lap("sampling")
    hand_over(draws, watch)


if __name__ == "__main__":
    main()
