"""Oracles: integrals by quadrature, closed forms, and the band within which a figure agrees.

A quadrature is done twice, with n and 2 n points a dimension. The rules converge exponentially, so
the difference bounds the error of the finer one: nobody chooses a tolerance.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

DOUBLE = torch.float64


class Rule(NamedTuple):
    """A one-dimensional rule: nodes and the logarithms of their weights, [n] each."""

    nodes: Tensor
    log_weights: Tensor


class Moments(NamedTuple):
    """log Z, means and variances of a density, each with the error of its quadrature."""

    log_z: Tensor
    mean: Tensor
    variance: Tensor
    log_z_error: Tensor
    mean_error: Tensor
    variance_error: Tensor


def whole_line(n: int) -> Rule:
    """The double exponential rule: x = sinh(pi/2 sinh t), an even number of nodes, none at 0.

    Source: Takahasi and Mori (1974), Double exponential formulas for numerical integration.
    """
    reach = 3.6
    step = 2 * reach / n
    t = (torch.arange(n, dtype=DOUBLE) + 0.5) * step - reach
    inner = 0.5 * math.pi * t.sinh()
    weights = step * 0.5 * math.pi * t.cosh() * inner.cosh()
    return Rule(inner.sinh(), weights.log())


def interval(low: float, high: float) -> Callable[[int], Rule]:
    """The Gauss-Legendre rule on an interval, by its number of nodes."""

    def rule(n: int) -> Rule:
        nodes, weights = np.polynomial.legendre.leggauss(n)
        half = 0.5 * (high - low)
        return Rule(
            torch.as_tensor(low + half * (1 + nodes)), torch.as_tensor(half * weights).log()
        )

    return rule


def _once(
    log_density: Callable[[Tensor], Tensor], rules: Sequence[Rule]
) -> tuple[Tensor, Tensor, Tensor]:
    grid = torch.stack(torch.meshgrid(*(rule.nodes for rule in rules), indexing="ij"), -1).reshape(
        -1, len(rules)
    )
    log_weights = torch.stack(
        torch.meshgrid(*(rule.log_weights for rule in rules), indexing="ij")
    ).sum(0)
    terms = log_density(grid) + log_weights.reshape(-1)
    log_z = terms.logsumexp(0)
    shares = (terms - log_z).exp()
    # Nodes reach 1e12: a share of exactly 0 there must not meet an overflow.
    kept = shares > 0
    shares, grid = shares[kept], grid[kept]
    mean = shares @ grid
    return log_z, mean, shares @ (grid - mean).square()


def moments(
    log_density: Callable[[Tensor], Tensor], rules: Sequence[Callable[[int], Rule]], *, n: int
) -> Moments:
    """log Z, means and variances of exp(log_density) with errors.

    Args:
        log_density: [N, d] to [N].
        rules: one for each of the d dimensions.
        n: nodes a dimension of the coarser of two quadratures.
    """
    coarse = _once(log_density, [rule(n) for rule in rules])
    fine = _once(log_density, [rule(2 * n) for rule in rules])
    errors = [(a - b).abs() for a, b in zip(coarse, fine, strict=True)]
    return Moments(*fine, *errors)


def agrees(value: Tensor, truth: Tensor, error: Tensor) -> bool:
    """Whether two float64 figures agree within a quadrature's error and rounding."""
    rounding = 1e3 * torch.finfo(DOUBLE).eps * (1 + truth.abs())
    return bool(((value - truth).abs() <= error + rounding).all())


def log_bessel_quartic(r: float, u: float) -> float:
    """log of the integral of exp(-(r x^2/2 + u x^4/4)), r not 0, u > 0, by Bessel functions.

    With b = r^2/(8 u): sqrt(r/(2 u)) e^b K_1/4(b) for r > 0, and
    pi/2 sqrt(|r|/u) e^b (I_1/4(b) + I_-1/4(b)) for r < 0 (Gradshteyn and Ryzhik, 3.323.3).
    """
    from scipy import special

    b = r * r / (8 * u)
    if r > 0:
        return 0.5 * math.log(r / (2 * u)) + math.log(special.kve(0.25, b))
    bessel = special.ive(0.25, b) + special.ive(-0.25, b)
    return math.log(math.pi / 2 * math.sqrt(-r / u)) + math.log(bessel) + 2 * b


def standard_errors(draws: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means and variances of independent draws [N, *event], each with its standard error."""
    n = len(draws)
    mean = draws.mean(0)
    square = (draws - mean).square()
    return mean, draws.std(0) / n**0.5, square.mean(0), square.std(0) / n**0.5
