"""Kernel Stein discrepancy: how far samples are from a density whose normaliser nobody knows.

With the score s(x) = -grad E(x)/T, functions f that vanish far out have E[s.f + div f] = 0 under
the density. The discrepancy is the largest such mean over the unit ball of a kernel's functions,
and its square is the mean over pairs of

    u(x, y) = s(x).s(y) k + s(x).grad_y k + s(y).grad_x k + tr grad_x grad_y k,

with the inverse multiquadric k = (c^2 + |x - y|^2)^(-1/2), whose tails are heavy enough to see mass
that runs away. Discrete energies have differences in the place of gradients: see
:mod:`.discrete_stein`.

The score is blind to the shares of far modes: a sample of one of them looks well. It takes a log
likelihood or :func:`.mode_coverage` to see that.

Source: Liu, Lee, Jordan (2016), A kernelized Stein discrepancy for goodness-of-fit tests;
Chwialkowski, Strathmann, Gretton (2016), A kernel test of goodness of fit; Gorham, Mackey (2017),
Measuring sample quality with kernels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.energies import Energy, as_temperature, evaluate_rows, no_gradient_path
from pyro_ebm.energies.supports import elementwise

from .discrete_stein import DifferenceStein
from .pairs import BLOCK, p_value, pair_sums, squared_distances
from .rows import Rows, check_count, check_scores, configurations, flat, median_distance


class SteinDiscrepancy(NamedTuple):
    """The squared kernel Stein discrepancy of n samples.

    ``u_statistic`` is the mean over pairs of different samples: of exact draws its mean is zero,
    and it may be negative. ``v_statistic`` is the mean over all pairs, the square of the
    discrepancy of these samples, and never negative. ``p_value`` is the share of ``bootstrapped``
    values of the latter [bootstraps] that are at least as large, itself counted; ``scale`` is that
    of the kernel.
    """

    u_statistic: float
    v_statistic: float
    p_value: float
    scale: float
    bootstrapped: Float[Tensor, " bootstraps"]

    def __repr__(self) -> str:
        return (
            f"KSD^2 = {self.u_statistic:.3g} (U), {self.v_statistic:.3g} (V), "
            f"p = {self.p_value:.3g}"
        )


def kernel_stein_discrepancy(
    energy: object,
    samples: Rows,
    *,
    temperature: float | Tensor = 1.0,
    scale: float | None = None,
    num_bootstraps: int = 500,
    change_probability: float = 0.5,
    generator: torch.Generator | None = None,
    block_size: int = BLOCK,
) -> SteinDiscrepancy:
    """The discrepancy of samples from exp(-E/T), and a wild bootstrap test of zero.

    The bootstrap is right for many samples: of a cold discrete energy there must be many rare
    states among them, or exact draws are refused too often. Work grows with the square of the
    number of samples, memory does not: see ``block_size``.

    :param energy: an Energy on all real numbers, or a discrete one; or a net or a function of the
        event that a row is.
    :param samples: rows [n, *event], two at least; of a chain in its order.
    :param temperature: T, one number.
    :param scale: c of the kernel, the median distance of two samples unless given; of a discrete
        energy that of exp(-(number of sites that differ) / scale), the number of sites unless
        given.
    :param num_bootstraps: of the test; no p-value is smaller than 1 / (1 + num_bootstraps).
    :param change_probability: with which the sign of the bootstrap changes from a sample to the
        next: one half for independent samples; for a chain about a tenth of one over its
        autocorrelation time, so that signs stay for several of these. Of the chain there must be
        many such stretches: thin it where it is slow.
    :param generator: the random stream of the signs; torch's global one by default.
    :param block_size: how many samples are compared at once with as many others.
    :raises TypeError: no rows of real numbers.
    :raises ValueError: a support that is neither real nor discrete; an energy without a gradient,
        or samples at which its score is not finite; a scale that is not positive.
    """
    check_count("num_bootstraps", num_bootstraps, least=1)
    check_count("block_size", block_size, least=1)
    if not 0.0 < change_probability <= 0.5:
        raise ValueError(f"expected change_probability in (0, 0.5], got {change_probability}.")
    if scale is not None and not 0.0 < scale < math.inf:
        raise ValueError(f"expected a positive, finite scale, got {scale}.")
    known, x = configurations("samples", energy, samples)
    n = len(x)
    if n < 2:
        raise ValueError(f"expected at least 2 samples, got {n}.")
    level = as_temperature(temperature)
    if level.dim():
        raise ValueError(f"expected one temperature, got shape {tuple(level.shape)}.")
    if known.support.is_discrete:
        kernel = DifferenceStein(known, x, float(level), scale, block_size)
    else:
        kernel = _GradientStein(known, x, float(level), scale, block_size, generator)
    signs = _signs(n, num_bootstraps, change_probability, generator).to(x.device)
    vectors = torch.cat([torch.ones_like(signs[:, :1]), 2 * signs.char() - 1], 1)
    sums = pair_sums(kernel.block, vectors, block_size=block_size)
    means = sums.forms / n**2
    return SteinDiscrepancy(
        float(sums.forms[0] - sums.diagonal) / (n * (n - 1)),
        float(means[0]),
        p_value(float(means[0]), means[1:]),
        kernel.scale,
        means[1:].cpu(),
    )


class _GradientStein:
    """u(x, y) of samples by their scores, both centred and flat in float64."""

    def __init__(
        self,
        energy: Energy,
        x: Tensor,
        temperature: float,
        scale: float | None,
        chunk_size: int,
        generator: torch.Generator | None,
    ) -> None:
        if not isinstance(elementwise(energy.support), type(constraints.real)):
            raise ValueError(
                f"expected an energy on all real numbers or a discrete one, got "
                f"{type(energy).__name__} on {energy.support}: at a border Stein's identity has "
                "further terms. Compare with draws, by maximum_mean_discrepancy, instead."
            )
        rows = flat(x)
        self.rows = rows - rows.mean(0)
        parts = [scores(energy, part, temperature) for part in x.split(chunk_size)]
        self.scores = flat(torch.cat(parts))
        self.scale = median_distance(rows, generator) if scale is None else scale
        self.along = (self.rows * self.scores).sum(1)

    def block(self, left: slice, right: slice) -> Tensor:
        x, y, sx, sy = self.rows[left], self.rows[right], self.scores[left], self.scores[right]
        squares = squared_distances(x, y)
        q = self.scale**2 + squares
        k = q.rsqrt()
        # grad_x k = -k^3 (x - y), and (s(y) - s(x)).(x - y) in products of matrices:
        across = x @ sy.mT + sx @ y.mT - self.along[left, None] - self.along[right]
        trace = x.shape[1] - 3 * squares / q
        return k * (sx @ sy.mT) + k.pow(3) * (trace - across)


def scores(energy: Energy, x: Float[Tensor, "n ..."], temperature: float) -> Tensor:
    """-grad E(x)/T.

    :raises ValueError: an energy without a gradient, or rows at which it is not finite.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = evaluate_rows(energy, x).sum()
        gradient = None
        if total.requires_grad:
            (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
    if gradient is None:
        raise ValueError(no_gradient_path("x"))
    check_scores("samples", -gradient)
    return -gradient / temperature


def _signs(
    n: int, number: int, change: float, generator: torch.Generator | None
) -> Bool[Tensor, "n number"]:
    """Signs that change from a row to the next with a probability, a column for each bootstrap."""
    device = None if generator is None else generator.device
    turned = [
        torch.rand(n, generator=generator, device=device).lt(change).cumsum(0) % 2 == 1
        for _ in range(number)
    ]
    first = torch.rand(number, generator=generator, device=device) < 0.5
    return torch.stack(turned, 1) ^ first
