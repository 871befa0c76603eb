"""Draws of many densities, read as draws of their mixture.

State k has the density q(x) f_k(x) / Z_k, and Z = 1 at the first. All N draws of all states
together, N_k of state k, are draws of the mixture

    m(x) = q(x) sum_k N_k/N f_k(x) / Z_k,

whichever state each of them came from, so that any other density can be reweighted from all of them
at once. The Z_k themselves solve Z_k = mean of q f_k / m over all draws: of all estimates that the
draws allow, this has the smallest asymptotic variance.

Source: Shirts, Chodera (2008), Statistically optimal analysis of samples from multiple equilibrium
states; Kong, McCullagh, Meng, Nicolae, Tan (2003), A theory of statistical models for Monte Carlo
integration; where equal draws are counted, Ferrenberg, Swendsen (1989), Optimized Monte Carlo data
analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_SELF_CONSISTENT, _NEWTON, _HALVINGS = 4, 50, 20
_TOLERANCE = 1e-9
# What is counted nowhere has no weight either.
_TINY = 1e-300


def log_normalizers(
    log_f: Float[Tensor, "states draws"],
    shares: Float[Tensor, " states"],
    first: Float[Tensor, " states"],
    counts: Float[Tensor, " draws"] | None = None,
) -> Float[Tensor, " states"]:
    """log Z of every state, zero at the first.

    :param log_f: of the draws of all states together, minus infinity outside of a support.
    :param shares: which part of the draws each state has made; they sum to 1.
    :param first: where the search begins.
    :param counts: how many draws each column stands for, not always a whole number; one unless
        given.
    :returns: NaN where no solution is found.
    """
    counts = log_f.new_ones(log_f.shape[1]) if counts is None else counts
    log_z = first.double().clone()
    for _ in range(_SELF_CONSISTENT):
        log_z = _anchored(log_z + _excess(log_f, shares, log_z, counts)[0])
    excess, weights = _excess(log_f, shares, log_z, counts)
    for _ in range(_NEWTON):
        if _size(excess) < _TOLERANCE:
            return log_z
        step = _newton(excess, weights, shares, counts)
        log_z, (excess, weights) = _better(
            lambda tried: _excess(log_f, shares, tried, counts), log_z, step, _size(excess)
        )
    return torch.full_like(log_z, math.nan)


def log_mixture(
    log_f: Float[Tensor, "states draws"],
    shares: Float[Tensor, " states"],
    log_z: Float[Tensor, " states"],
) -> Float[Tensor, " draws"]:
    """log m(x) / q(x) of draws."""
    return (log_f + (shares.log() - log_z)[:, None]).logsumexp(0)


def ladder(
    slope: Float[Tensor, " draws"], betas: Float[Tensor, " states"]
) -> Float[Tensor, "states draws"]:
    """beta_k U, which is zero at beta = 0 also where U is infinite."""
    return torch.stack(
        [beta * slope if float(beta) != 0.0 else torch.zeros_like(slope) for beta in betas]
    )


def _excess(log_f: Tensor, shares: Tensor, log_z: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """By state the log of what Z_k should be over what it is, and weights of draws [states, draws],
    p_k / (N m) for each of the draws that a column stands for, whose sum says the same."""
    mixture = log_mixture(log_f, shares, log_z) - (counts / counts.sum()).log()
    log_weights = log_f - log_z[:, None] - mixture
    return log_weights.logsumexp(1), log_weights.exp()


def _newton(excess: Tensor, weights: Tensor, shares: Tensor, counts: Tensor) -> Tensor:
    """The step of Newton's method for log Z, zero at the first state.

    The likelihood's gradient in log Z_k is N_k (sum of weights - 1), and its curvature follows from
    the products of weights.
    """
    gradient = shares * (excess.exp() - 1.0)
    of_states = shares[:, None] * weights
    products = counts.sum() * (of_states / counts.clamp(min=_TINY)) @ of_states.T
    curvature = torch.diag(shares * excess.exp()) - products
    inner = curvature[1:, 1:]
    step = torch.linalg.lstsq(inner, gradient[1:, None]).solution[:, 0]
    return torch.cat([step.new_zeros(1), step])


def _better(
    excess_at: Callable[[Tensor], tuple[Tensor, Tensor]], log_z: Tensor, step: Tensor, before: float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Where a step leads, halved until it brings the excess down, and the excess there."""
    found = excess_at(log_z + step)
    for _ in range(_HALVINGS):
        if _size(found[0]) < max(before, _TOLERANCE):
            break
        step = 0.5 * step
        found = excess_at(log_z + step)
    return log_z + step, found


def _anchored(log_z: Tensor) -> Tensor:
    return log_z - log_z[0]


def _size(excess: Tensor) -> float:
    # Of the first state nothing is free, and what it lacks the others have too much.
    return float((excess[1:].exp() - 1.0).abs().max())
