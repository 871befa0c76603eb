"""Draws of a whole ladder of densities, read as draws of their mixture.

Rung k of a ladder has the density q(x) exp(beta_k U(x)) / Z_k, with Z = 1 at beta = 0. All N draws
of all rungs together, N_k of rung k, are draws of the mixture

    m(x) = q(x) sum_k N_k/N exp(beta_k U(x)) / Z_k,

whichever rung each of them came from, so that any other density can be reweighted from all of them
at once. The Z_k themselves solve Z_k = mean of q exp(beta_k U) / m over all draws: of all estimates
that the draws allow, this has the smallest asymptotic variance.

Source: Shirts, Chodera (2008), Statistically optimal analysis of samples from multiple equilibrium
states; Kong, McCullagh, Meng, Nicolae, Tan (2003), A theory of statistical models for Monte Carlo
integration.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_SELF_CONSISTENT, _NEWTON, _HALVINGS = 4, 50, 20
_TOLERANCE = 1e-9


def log_normalizers(
    slope: Float[Tensor, " draws"],
    betas: Float[Tensor, " rungs"],
    shares: Float[Tensor, " rungs"],
    first: Float[Tensor, " rungs"],
) -> Float[Tensor, " rungs"]:
    """log Z of every rung, zero at the lowest.

    :param slope: U of the draws of all rungs together, minus infinity outside of the support.
    :param betas: inverse temperatures, ascending from 0.
    :param shares: which part of the draws each rung has made; they sum to 1.
    :param first: where the search begins.
    :returns: NaN where no solution is found.
    """
    log_z = first.double().clone()
    for _ in range(_SELF_CONSISTENT):
        log_z = _anchored(log_z + _excess(slope, betas, shares, log_z)[0])
    excess, weights = _excess(slope, betas, shares, log_z)
    for _ in range(_NEWTON):
        if _size(excess) < _TOLERANCE:
            return log_z
        step = _newton(excess, weights, shares)
        log_z, (excess, weights) = _better(
            lambda tried: _excess(slope, betas, shares, tried), log_z, step, _size(excess)
        )
    return torch.full_like(log_z, math.nan)


def log_mixture(
    slope: Float[Tensor, " draws"],
    betas: Float[Tensor, " rungs"],
    shares: Float[Tensor, " rungs"],
    log_z: Float[Tensor, " rungs"],
) -> Float[Tensor, " draws"]:
    """log m(x) / q(x) of draws."""
    # One rung at a time: the whole table of draws by rungs need not stand in memory.
    total = torch.full_like(slope, -torch.inf, dtype=torch.float64)
    for beta, share, log_z_k in zip(betas, shares, log_z, strict=True):
        total = torch.logaddexp(total, share.log() - log_z_k + _times(beta, slope))
    return total


def _excess(slope: Tensor, betas: Tensor, shares: Tensor, log_z: Tensor) -> tuple[Tensor, Tensor]:
    """By rung the log of what Z_k should be over what it is, and weights of draws [rungs, draws],
    p_k / (N m), whose sum says the same."""
    mixture = log_mixture(slope, betas, shares, log_z)
    log_weights = torch.stack(
        [
            _times(beta, slope) - log_z_k - mixture
            for beta, log_z_k in zip(betas, log_z, strict=True)
        ]
    ) - math.log(len(slope))
    return log_weights.logsumexp(1), log_weights.exp()


def _newton(excess: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """The step of Newton's method for log Z, zero at the lowest rung.

    The likelihood's gradient in log Z_k is N_k (sum of weights - 1), and its curvature follows from
    the products of weights.
    """
    number = weights.shape[1]
    gradient = shares * (excess.exp() - 1.0)
    products = number * (shares[:, None] * weights) @ (shares[:, None] * weights).T
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
    # Of the lowest rung nothing is free, and what it lacks the others have too much.
    return float((excess[1:].exp() - 1.0).abs().max())


def _times(beta: Tensor, slope: Tensor) -> Tensor:
    """beta U, zero at beta = 0 also where U is infinite."""
    return beta * slope if float(beta) != 0.0 else torch.zeros_like(slope)
