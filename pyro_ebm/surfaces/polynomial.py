"""log Z over a box of parameters by thermodynamic integration, a polynomial with its checks.

The gradient of log Z is a mean, d log Z / d theta = <d log f / d theta>. Many Gibbs chains at
Chebyshev points of the box estimate it, and the polynomial is the one whose slopes fit these means
best, which is the integral of them. Its height at the middle, and checks at other points, come from
integrals along the temperature, log Z(theta) = log N + integral over s from 0 to 1 of <-E/T> at the
inverse temperature s, from the N equal configurations at s = 0, by independent chains.

Source: Gelman, Meng (1998), Simulating normalizing constants; Kirkwood (1935), Statistical
mechanics of fluid mixtures.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import torch
from torch import Tensor

from .box import Box, Check
from .chains import Chains, Scores
from .surface import LogNormalizerSurface, basis, slopes

_DEGREES = (14, 8, 5, 4)
# Points of the integral along the temperature, and of the box that are checked.
_TEMPERATURES, _CHECKS = 16, 6
_STANDARD_ERRORS = 4.0
# An error that changes a posterior, and one of a check that could not see it.
_TOO_MUCH, _TOO_COARSE = 0.3, 0.15
# How often all is well and chains are said to disagree all the same.
_FALSE_ALARMS = 1e-4


def polynomial_surface(
    chains: Chains,
    box: Box,
    *,
    degree: int | None,
    log_states: float,
    generator: torch.Generator,
) -> LogNormalizerSurface:
    """The surface of a degree, from chains at points of a box.

    :param log_states: the log of how many configurations there are.
    """
    dim, num_chains = len(box.low), chains.num_chains
    highest = _DEGREES[dim - 1] if degree is None else degree
    powers = _powers(highest, dim)
    nodes = _nodes(highest + 2, dim)
    half, middle = (box.high - box.low) / 2, box.middle
    scores = chains.scores(middle + half * nodes, torch.ones(len(nodes)), generator)
    points = torch.cat([torch.zeros(1, dim), _held_out(generator, dim)]).double()
    heights = _integrals(chains, middle + half * points, generator) + log_states
    slope = scores.means[:, :dim] * half[:, None]
    coefficients, covariance = _fit(nodes, powers, slope)
    lower = powers.sum(1) <= max(highest - 2, 0)
    last_terms = torch.cat([torch.zeros(1, dtype=torch.float64), coefficients])
    if int(lower.sum()) > 1:
        last_terms[lower] -= torch.cat(
            [torch.zeros(1, dtype=torch.float64), _fit(nodes, powers[lower], slope)[0]]
        )
    height = heights.mean(-1)
    error = heights.std(-1) / num_chains**0.5
    at_middle = basis(torch.zeros(1, dim, dtype=torch.float64), powers)[0, 1:]
    constant = height[0] - at_middle @ coefficients
    whole = torch.block_diag(error[:1].square()[:, None], covariance)
    whole[0, 0] = whole[0, 0] + at_middle @ covariance @ at_middle
    coefficients = torch.cat([constant[None], coefficients])
    surface = basis(points[1:], powers) @ coefficients
    check = Check(middle + half * points[1:], surface, height[1:], error[1:])
    found = LogNormalizerSurface(*box, powers, coefficients, whole, last_terms, check, True, "")
    problems = _problems(found, error[0], scores, middle + half * nodes)
    why = " ".join(problems) or (
        f"at {_CHECKS} other points it differs from independent estimates by "
        f"{float((check.surface - check.independent).abs().max()):.2g} at most, as their errors "
        "allow."
    )
    return found._replace(reliable=not problems, why=why)


def _integrals(chains: Chains, params: Tensor, generator: torch.Generator) -> Tensor:
    """log Z less log N at params [points, d], one estimate of every chain [points, chains]."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(_TEMPERATURES))
    betas = (0.5 * (nodes + 1)).repeat(len(params))
    scores = chains.scores(params.repeat_interleave(_TEMPERATURES, 0), betas, generator)
    slope = scores.means[:, -1].reshape(len(params), _TEMPERATURES, -1)
    return (0.5 * weights[:, None] * slope).sum(1)


def _fit(nodes: Tensor, powers: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of all but the constant whose slopes at the nodes [n, d, chains] fit best, and
    their covariance, from chain to chain."""
    design = slopes(nodes, powers)[..., 1:].reshape(-1, len(powers) - 1)
    data = slope.reshape(len(design), -1)
    by_chain = torch.linalg.lstsq(design, data).solution
    covariance = torch.atleast_2d(torch.cov(by_chain)) / data.shape[1]
    return by_chain.mean(1), covariance


def _powers(degree: int, dim: int) -> Tensor:
    """Degrees of the terms up to a total one, the constant first."""
    every = [p for p in product(range(degree + 1), repeat=dim) if sum(p) <= degree]
    return torch.tensor(sorted(every, key=lambda p: (sum(p), p)))


def _nodes(number: int, dim: int) -> Tensor:
    """Chebyshev points [number^d, d] within -1 and 1."""
    places = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    one = -(math.pi * places).cos()
    return torch.cartesian_prod(*[one] * dim).reshape(-1, dim)


def _held_out(generator: torch.Generator, dim: int) -> Tensor:
    """Points of the box, in units of half its sides: uniform, one within reach of each corner."""
    inside = 2 * torch.rand(_CHECKS - 2, dim, generator=generator, device=generator.device) - 1
    return torch.cat([inside, torch.full((1, dim), 0.97), torch.full((1, dim), -0.97)])


def _problems(
    found: LogNormalizerSurface, middle_error: Tensor, scores: Scores, nodes: Tensor
) -> list[str]:
    from scipy.stats import f, t

    check, problems = found.check, []
    number = scores.means.shape[-1]
    rare = _FALSE_ALARMS / scores.ratio.numel()
    limit = f.isf(rare, number - 1, number - 1)
    if bool((scores.ratio > limit).any()):
        worst = nodes[int(scores.ratio.argmax())]
        problems.append(
            f"Chains at {[round(float(p), 3) for p in worst]} have not met: raise num_sweeps, or "
            "take a smaller box."
        )
    elif bool((scores.drift > t.isf(rare / 2, number - 1)).any()):
        worst = nodes[int(scores.drift.argmax())]
        problems.append(
            f"Chains at {[round(float(p), 3) for p in worst]} are still on their way: raise "
            "num_sweeps."
        )
    if not found.max_error <= _TOO_MUCH:
        problems.append(
            f"Within the box log Z may be off by {found.max_error:.2g}, enough to change a "
            "posterior: raise degree or num_sweeps, or take a smaller box."
        )
    own = found.std_error(*check.params.unbind(-1))
    error = (own.square() + check.error.square() + middle_error.square()).sqrt()
    apart = (check.surface - check.independent).abs()
    wrong = ~(apart <= _STANDARD_ERRORS * error)
    if bool(wrong.any()):
        worst = int((apart / error).argmax())
        problems.append(
            f"At {[round(float(p), 3) for p in check.params[worst]]} it differs by "
            f"{float(apart[worst]):.2g} from an independent estimate with an error of "
            f"{float(error[worst]):.2g}: raise degree or num_sweeps, or take a smaller box."
        )
    elif float(error.max()) > _TOO_COARSE:
        worst = int(error.argmax())
        problems.append(
            f"The check at {[round(float(p), 3) for p in check.params[worst]]} has an error of "
            f"{float(error[worst]):.2g}, too coarse to see what changes a posterior: raise "
            "num_sweeps or num_chains."
        )
    return problems
