"""BlackJAX's adaptive tempered SMC with HMC moves, from the prior; compiled once for all seeds.

From temperature to temperature the metric follows the particles, and the step size the acceptance
rate. What is fixed was tuned by hand for each target.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from blackjax.smc import adaptive_tempered, extend_params, resampling
from blackjax.smc.tuning.from_particles import particles_covariance_matrix, particles_stds

from benchmarks.log_z.estimates import Estimate, estimate_all
from benchmarks.peers.jax_densities import (
    Tempered,
    funnel,
    logistic_regression,
    walk_of_unknown_scales,
)
from benchmarks.worker import Stopwatch, options
from tests.models.normalisers import Case, normaliser


class Moves(NamedTuple):
    """``num_moves`` trajectories of ``num_leapfrogs`` steps at every temperature.

    ``metric`` makes the inverse mass matrix of the particles [n, dim]; ``step_size`` is the first.
    """

    metric: Callable[[jax.Array], jax.Array]
    step_size: float
    num_leapfrogs: int
    num_moves: int
    acceptance_rate: float


def variances(particles: jax.Array) -> jax.Array:
    """The variance of every coordinate, [dim]."""
    return particles_stds(particles) ** 2


MOVES = {
    "german_credit": Moves(variances, 0.5, 4, 3, 0.8),
    "german_credit_wide": Moves(variances, 0.5, 4, 3, 0.8),
    "brownian_motion_unknown_scales": Moves(particles_covariance_matrix, 0.02, 20, 10, 0.8),
    "funnel_10d": Moves(variances, 0.1, 20, 20, 0.99),
}


def density_of(case: Case) -> Tempered:
    """The case's density in JAX, checked against the case's own.

    :raises ValueError: the two differ.
    """
    arrays = [jnp.asarray(np.asarray(argument)) for argument in case.args]
    if case.name.startswith("german_credit"):
        density = logistic_regression(*arrays)
    elif case.name.startswith("brownian_motion"):
        density = walk_of_unknown_scales(*arrays)
    else:
        density = funnel(case.target.dim)
    positions = torch.randn(5, case.target.dim)
    ours = case.target.evaluate(positions).log_density.numpy()
    theirs = [density.log_prior(z) + density.log_likelihood(z) for z in positions.numpy()]
    if not np.allclose(ours, theirs, rtol=0.0, atol=1e-6):
        raise ValueError(f"expected the log densities {ours} of {case.name}, got {theirs}.")
    return density


def estimator(
    density: Tempered, moves: Moves, *, num_particles: int, target_ess: float
) -> Callable[[jax.Array], jax.Array]:
    """The function of a key that runs SMC to its end and gives log Z."""
    kernel = partial(blackjax.hmc.build_kernel(), num_integration_steps=moves.num_leapfrogs)

    def temper(carry):
        key, state, step_size, log_z = carry
        key, now = jax.random.split(key)
        parameters: Any = {
            "step_size": step_size,
            "inverse_mass_matrix": moves.metric(state.particles),
        }
        smc: Any = blackjax.adaptive_tempered_smc(
            logprior_fn=density.log_prior,
            loglikelihood_fn=density.log_likelihood,
            mcmc_step_fn=kernel,
            mcmc_init_fn=blackjax.hmc.init,
            mcmc_parameters=extend_params(parameters),
            resampling_fn=resampling.systematic,
            target_ess=target_ess,
            num_mcmc_steps=moves.num_moves,
        )
        state, info = smc.step(now, state)
        excess = info.update_info.acceptance_rate.mean() - moves.acceptance_rate
        return key, state, step_size * jnp.exp(2.0 * excess), log_z + info.log_likelihood_increment

    def run(key: jax.Array) -> jax.Array:
        key, first = jax.random.split(key)
        particles: Any = adaptive_tempered.init(density.prior_draws(first, num_particles))
        start = (key, particles, jnp.asarray(moves.step_size), jnp.zeros(()))
        return jax.lax.while_loop(lambda carry: carry[1].tempering_param < 1.0, temper, start)[3]

    return run


def main() -> None:
    """Compile, then estimate for every seed."""
    watch = Stopwatch()
    given = options()
    torch.set_default_dtype(torch.float64)
    jax.config.update("jax_enable_x64", True)
    name = given["target"]
    run = estimator(
        density_of(normaliser(name)),
        MOVES[name],
        num_particles=given["num_particles"],
        target_ess=given["target_ess"],
    )
    watch.lap("set-up")
    compiled = jax.jit(run).lower(jax.random.PRNGKey(0)).compile()
    watch.lap("compilation")
    estimate_all(lambda seed: Estimate(float(compiled(jax.random.PRNGKey(seed)))), watch)


if __name__ == "__main__":
    main()
