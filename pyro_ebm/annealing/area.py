"""log Z as an area: the integral of the mean slope E_beta U over beta from 0 to 1.

As the slope of the mean, Var_beta U, is never negative, the mean only rises, and the left and the
right Riemann sum over any inverse temperatures bracket the integral. The trapezoid lies between
them; with the variances at both ends of a step d its second-order correction

    (d/2) (E U + E' U) - (d^2/12) (Var' U - Var U)

leaves an error of the fourth order in d. Where the base has heavier tails than the target, or is a
vague prior, E_0 U need not exist: so the first step is log E_0 exp(beta_1 U), which is exact.

Source: Friel, Hurn, Wyse (2014), Improving power posterior estimation of statistical evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Area(NamedTuple):
    """log Z by the corrected trapezoid, with what is known of its error.

    ``error`` is the Monte Carlo error; ``lower`` and ``upper`` are the Riemann sums, each known to
    ``sums_error``; ``discretisation`` is how far the plain trapezoid, or the area over every other
    step, is away. ``mean``, ``mean_error`` and ``variance`` [t] are those of the slope.
    """

    log_z: float
    error: float
    trapezoid: float
    lower: float
    upper: float
    sums_error: float
    discretisation: float
    mean: Tensor
    mean_error: Tensor
    variance: Tensor


def integrate(
    betas: Sequence[float],
    slopes: Float[Tensor, "t particles"],
    log_weights: Float[Tensor, "t particles"],
) -> Area:
    """The area under weighted mean slopes of independent particles.

    :param betas: t inverse temperatures from 0 to 1, ascending.
    :param slopes: U of every particle there; ``log_weights`` what it weighs there.
    """
    n = slopes.shape[1]
    root = math.sqrt(n)
    shares = n * log_weights.softmax(1)
    finite = slopes.nan_to_num(0.0, 0.0, 0.0)
    mean = (shares * finite).mean(1)
    off = finite - mean[:, None]
    variance = (shares * off.square()).mean(1)
    # What each particle adds to the error of a mean, of a variance, and of the first step.
    of_mean, of_variance = shares * off, shares * (off.square() - variance[:, None])
    first = betas[1] * slopes[0]
    head = float(first.logsumexp(0)) - math.log(n)
    of_head = (first - head).exp() - 1.0
    grid = torch.as_tensor(betas, dtype=torch.float64, device=slopes.device)[1:]
    left, right, correction = _coefficients(grid)
    m, v = mean[1:], variance[1:]
    lower, upper = head + float(left @ m), head + float(right @ m)
    log_z = head + _corrected(grid, m, v)
    every_other = torch.arange(len(grid), device=grid.device) % 2 == 0
    every_other[-1] = True
    middle = 0.5 * (left + right)
    trapezoid = head + float(middle @ m)
    coarser = head + _corrected(grid[every_other], m[every_other], v[every_other])
    own = of_head + middle @ of_mean[1:] + correction @ of_variance[1:]
    of_sums = of_head + torch.stack([left, right]) @ of_mean[1:]
    return Area(
        log_z,
        float(own.std()) / root,
        trapezoid,
        lower,
        upper,
        float(of_sums.std(1).max()) / root,
        max(abs(log_z - trapezoid), abs(log_z - coarser)),
        mean,
        of_mean.std(1) / root,
        variance,
    )


def _coefficients(grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What every mean counts in the left and in the right sum, and every variance beside."""
    step = grid.diff()
    nothing = step.new_zeros(1)
    left, right = torch.cat([step, nothing]), torch.cat([nothing, step])
    return left, right, (left.square() - right.square()) / 12.0


def _corrected(grid: Tensor, mean: Tensor, variance: Tensor) -> float:
    left, right, correction = _coefficients(grid)
    return float(0.5 * (left + right) @ mean + correction @ variance)
