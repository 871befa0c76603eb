"""nutpie's NUTS on eight schools, the model written in PyMC and compiled by numba."""

from __future__ import annotations

import nutpie
import pymc

from benchmarks.targets import parameters, schools
from benchmarks.worker import Stopwatch, hand_over, options


def main() -> None:
    """Compile, then tune and sample."""
    watch = Stopwatch()
    given = options()
    y, sigma = schools()
    with pymc.Model() as model:
        mu = pymc.Normal("mu", 0.0, 5.0)
        tau = pymc.HalfCauchy("tau", 5.0)
        standard = pymc.Normal("theta_trans", 0.0, 1.0, shape=len(y))
        theta = pymc.Deterministic("theta", mu + tau * standard)
        pymc.Normal("y", theta, sigma, observed=y)
    compiled = nutpie.compile_pymc_model(model)
    watch.lap("set-up and warm-up")
    found = nutpie.sample(
        compiled,
        draws=given["num_draws"],
        tune=given["warmup"],
        chains=given["chains"],
        seed=given["seed"],
        progress_bar=False,
    )["posterior"]
    draws = parameters(*(found[site].values for site in ("mu", "tau", "theta")))
    watch.lap("sampling")
    hand_over(draws, watch)


if __name__ == "__main__":
    main()
