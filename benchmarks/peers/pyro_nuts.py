"""Stock Pyro's NUTS on eight schools: one chain, with or without its jit."""

from __future__ import annotations

import pyro
from pyro.infer import MCMC, NUTS

from benchmarks.targets import parameters
from benchmarks.worker import Stopwatch, hand_over, options
from tests.models import load


def main() -> None:
    """Sample; the time of warm-up and that of the draws are told apart."""
    watch = Stopwatch()
    given = options()
    pyro.set_rng_seed(given["seed"])
    posterior = load("eight_schools")

    def end_of_warmup(kernel, samples, stage, i) -> None:
        if stage.lower().startswith("warmup"):
            watch.lap("set-up and warm-up")

    kernel = NUTS(posterior.model, jit_compile=given["jit"], ignore_jit_warnings=True)
    mcmc = MCMC(
        kernel,
        given["num_draws"],
        given["warmup"],
        hook_fn=end_of_warmup,
        disable_progbar=True,
    )
    mcmc.run(*posterior.args, **posterior.kwargs)
    found = mcmc.get_samples(group_by_chain=True)
    mu, tau, standard = (found[site].numpy() for site in ("mu", "tau", "theta_trans"))
    watch.lap("sampling")
    hand_over(parameters(mu, tau, mu[..., None] + tau[..., None] * standard), watch)


if __name__ == "__main__":
    main()
