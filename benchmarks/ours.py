"""pyro_ebm without compilation: eight schools or a Gaussian, with any number of chains."""

from __future__ import annotations

import pyro
import torch

import pyro_ebm as ebm
from benchmarks.targets import EIGHT_SCHOOLS, GAUSSIANS, parameters
from benchmarks.worker import Stopwatch, hand_over, options


def main() -> None:
    """Sample the target that the options name."""
    watch = Stopwatch()
    given = options()
    pyro.set_rng_seed(given["seed"])

    def end_of_warmup(kernel, samples, stage, i) -> None:
        if stage == "warmup":
            watch.lap("set-up and warm-up")

    name = given["target"]
    if name == EIGHT_SCHOOLS:
        from tests.models import load

        posterior = load("eight_schools")
        kernel, args, kwargs = ebm.NUTS(posterior.model), posterior.args, posterior.kwargs
        start = None
    else:
        scale = torch.tensor(GAUSSIANS[name], dtype=torch.get_default_dtype())
        energy = ebm.DiagonalGaussian(torch.zeros_like(scale), scale)
        kernel, args, kwargs = ebm.NUTS(energy), (), {}
        # Exact draws, as the other library gets.
        start = {"x": scale * torch.randn(given["chains"], len(scale))}
    mcmc = ebm.MCMC(
        kernel,
        given["num_draws"],
        given["warmup"],
        start,
        given["chains"],
        hook_fn=end_of_warmup,
        disable_progbar=True,
    )
    mcmc.run(*args, **kwargs)
    found = mcmc.get_samples(group_by_chain=True)
    if name == EIGHT_SCHOOLS:
        mu, tau, standard = (found[site].numpy() for site in ("mu", "tau", "theta_trans"))
        draws = parameters(mu, tau, mu[..., None] + tau[..., None] * standard)
    else:
        draws = found["x"].numpy()
    watch.lap("sampling")
    hand_over(draws, watch)


if __name__ == "__main__":
    main()
