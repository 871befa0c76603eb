"""A base fitted to draws: a mixture of multivariate Student-t distributions, wider than the draws.

One component is the usual choice; more where the draws lie in several modes, or where their spread
differs from place to place as in a funnel. Components are found by expectation-maximisation for
Gaussians, their number by the log likelihood of draws that were held out; then they are widened, as
too wide a base costs a little and too narrow a one is wrong without a sign.

Source: Dempster, Laird, Rubin (1977); Peel, McLachlan (2000), Robust mixture modelling using the t
distribution.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .path import Base
from .random import standard_gamma

_EM_STEPS = 60
_NUMBERS_OF_COMPONENTS = (1, 2, 4, 8, 16, 32)
# Each component's covariance is mixed with that of all draws as if this many draws a dimension did.
_PRIOR_DRAWS = 0.5
WIDEN, DOF = 1.2, 10.0


class Components(NamedTuple):
    """``log_weights`` [k], ``locs`` [k, dim], lower triangular ``factors`` [k, dim, dim]."""

    log_weights: Tensor
    locs: Tensor
    factors: Tensor


def mixture_base(components: Components, *, dof: float, description: str) -> Base:
    """The mixture of Student-t components as a base."""
    weights, locs, factors = components
    k, dim = locs.shape
    eye = torch.eye(dim, dtype=locs.dtype, device=locs.device)
    inverses = torch.linalg.solve_triangular(factors, eye.expand(k, dim, dim), upper=False)
    half = 0.5 * (dof + dim)
    constants = (
        weights
        + math.lgamma(half)
        - math.lgamma(0.5 * dof)
        - 0.5 * dim * math.log(dof * math.pi)
        - factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    )

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        white = inverses @ (positions - locs[:, :, None])
        distance = white.square().sum(1)
        parts = constants[:, None] - half * torch.log1p(distance / dof)
        value = parts.logsumexp(0)
        pull = (parts - value).exp() * (dof + dim) / (dof + distance)
        return value, -(inverses.mT @ (pull[:, None, :] * white)).sum(0)

    def sample(n: int, generator: torch.Generator) -> Tensor:
        kind = {"dtype": locs.dtype, "device": locs.device}
        which = torch.multinomial(weights.exp(), n, replacement=True, generator=generator)
        normal = torch.randn(n, dim, 1, generator=generator, **kind)
        shape = torch.full((n,), 0.5 * dof, **kind)
        chi2 = 2.0 * standard_gamma(shape, generator)
        stretched = (factors[which] @ normal)[..., 0] * (dof / chi2).sqrt()[:, None]
        return (locs[which] + stretched).T.contiguous()

    return Base(log_density_and_gradient, sample, description)


def fit_components(draws: Tensor, generator: torch.Generator, *, most: int = 32) -> Components:
    """Components for draws [dim, n] (in random order), as many as held-out draws call for."""
    x = draws.double().T
    center, scale = x.mean(0), x.std(0).clamp(min=1e-300)
    x = (x - center) / scale
    held = len(x) // 3
    fitted, kept = x[held:], x[:held]
    best, best_score = None, -math.inf
    for k in _NUMBERS_OF_COMPONENTS:
        if k > most or len(fitted) < 10 * k:
            break
        components = _expectation_maximisation(fitted, k, generator)
        score = float(_log_densities(components, kept).logsumexp(0).mean())
        if best is not None and score < best_score + 0.01:
            break
        best, best_score = components, score
    assert best is not None
    final = _expectation_maximisation(x, len(best.locs), generator, start=best)
    return Components(
        final.log_weights.to(draws),
        (final.locs * scale + center).to(draws),
        (scale[:, None] * final.factors).to(draws),
    )


def widened(components: Components, by: float) -> Components:
    """The same components, each ``by`` times as wide."""
    return components._replace(factors=by * components.factors)


def _log_densities(components: Components, x: Tensor) -> Tensor:
    """Weighted log densities [k, n] of Gaussian components at points [n, dim]."""
    weights, locs, factors = components
    dim = x.shape[1]
    white = torch.linalg.solve_triangular(factors, (x - locs[:, None]).mT, upper=False)
    log_det = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constants = weights - 0.5 * dim * math.log(2 * math.pi) - log_det
    return constants[:, None] - 0.5 * white.square().sum(1)


def _expectation_maximisation(
    x: Tensor, k: int, generator: torch.Generator, start: Components | None = None
) -> Components:
    n, dim = x.shape
    overall = torch.cov(x.T).reshape(dim, dim) + 1e-9 * torch.eye(dim, dtype=x.dtype)
    if start is None:
        chosen = _spread_out(x, k, generator)
        nearest = torch.cdist(x, x[chosen]).argmin(1)
        responsibility = torch.nn.functional.one_hot(nearest, k).to(x).T
    else:
        responsibility = _log_densities(start, x).softmax(0)
    components, before = start, -math.inf
    for _ in range(_EM_STEPS):
        counts = responsibility.sum(1).clamp(min=1e-8)
        locs = responsibility @ x / counts[:, None]
        centred = x - locs[:, None]
        scatter = (centred * responsibility[:, :, None]).mT @ centred
        # The prior of a component is the shape of the whole, shrunk to the component's own size.
        size = scatter.diagonal(dim1=-2, dim2=-1).div(overall.diagonal()).mean(-1) / counts
        pseudo = _PRIOR_DRAWS * dim
        prior = size[:, None, None].clamp(min=1e-12) * overall
        covariance = (scatter + pseudo * prior) / (counts + pseudo)[:, None, None]
        factors = torch.linalg.cholesky(covariance)
        components = Components((counts / n).log(), locs, factors)
        densities = _log_densities(components, x)
        total = densities.logsumexp(0)
        responsibility = (densities - total).exp()
        score = float(total.mean())
        if score < before + 1e-4:
            break
        before = score
    assert components is not None
    return components


def _spread_out(x: Tensor, k: int, generator: torch.Generator) -> list[int]:
    """k points far from one another: each drawn in proportion to its squared distance."""
    chosen = [int(torch.randint(len(x), (), generator=generator))]
    distance = (x - x[chosen[0]]).square().sum(1)
    for _ in range(k - 1):
        weights = distance if bool((distance > 0).any()) else torch.ones_like(distance)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
    return chosen
