"""Targets in JAX, split as tempering wants them: a prior that is drawn from, and the rest.

Positions are the catalogue's unconstrained coordinates, Jacobians included. The funnel has no
prior: a normal of sd 3 in every direction stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

Density = Callable[[jax.Array], jax.Array]
PRIOR_SD_OF_FUNNEL = 3.0
WALK = 30


class Tempered(NamedTuple):
    """``prior_draws(key, n)`` gives [n, dim]; the log densities take a position [dim].

    ``log_prior`` is normalised, and the target is exp(log_prior + log_likelihood).
    """

    prior_draws: Callable[[jax.Array, int], jax.Array]
    log_prior: Density
    log_likelihood: Density


def logistic_regression(features: jax.Array, prior_scale: jax.Array, y: jax.Array) -> Tempered:
    """Coefficients under a centred normal prior, responses y of 0 and 1."""
    signs = 2.0 * y - 1.0

    def log_likelihood(beta: jax.Array) -> jax.Array:
        return -jnp.logaddexp(0.0, -signs * (features @ beta)).sum()

    return Tempered(*_normal(features.shape[1], prior_scale), log_likelihood)


def walk_of_unknown_scales(observed: jax.Array, y: jax.Array) -> Tempered:
    """A random walk seen at some of its steps; the logs of the scales have sd 2 and come first."""

    def prior_draws(key: jax.Array, n: int) -> jax.Array:
        noise = jax.random.normal(key, (n, 2 + WALK))
        log_scales = 2.0 * noise[:, :2]
        path = (jnp.exp(log_scales[:, :1]) * noise[:, 2:]).cumsum(1)
        return jnp.concatenate([log_scales, path], axis=1)

    def log_prior(position: jax.Array) -> jax.Array:
        log_scales, path = position[:2], position[2:]
        steps = jnp.diff(path, prepend=0.0)
        walk = norm.logpdf(steps, 0.0, jnp.exp(log_scales[0])).sum()
        return norm.logpdf(log_scales, 0.0, 2.0).sum() + walk

    def log_likelihood(position: jax.Array) -> jax.Array:
        return norm.logpdf(y, position[2:][observed], jnp.exp(position[1])).sum()

    return Tempered(prior_draws, log_prior, log_likelihood)


def funnel(dim: int) -> Tempered:
    """v ~ N(0, 3^2) and x_i | v ~ N(0, e^v), without their constants."""
    prior_draws, log_prior = _normal(dim, PRIOR_SD_OF_FUNNEL)

    def log_likelihood(position: jax.Array) -> jax.Array:
        v, rest = position[0], position[1:]
        energy = v**2 / 18 + 0.5 * jnp.exp(-v) * (rest**2).sum() + 0.5 * (dim - 1) * v
        return -energy - log_prior(position)

    return Tempered(prior_draws, log_prior, log_likelihood)


def _normal(
    dim: int, sd: jax.Array | float
) -> tuple[Callable[[jax.Array, int], jax.Array], Density]:
    """Draws and log density of independent centred normals."""

    def draws(key: jax.Array, n: int) -> jax.Array:
        return sd * jax.random.normal(key, (n, dim))

    def log_density(position: jax.Array) -> jax.Array:
        constant = dim * jnp.log(sd * math.sqrt(2 * math.pi))
        return -0.5 * ((position / sd) ** 2).sum() - constant

    return draws, log_density
