"""Bases with several modes: Student-t components, and the mixture of two bases."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .families import Draws, Grouping
from .noise import generous
from .path import Base
from .random import standard_gamma

# A fit takes what it starts from for so many draws of each component.
_SHAPE_DRAWS, _WEIGHT_DRAWS = 5.0, 2.0
_EM_STEPS = 20


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

    return Base(log_density_and_gradient, sample, description, plain=True)


def defended(base: Base, wide: Base, *, share: float = 0.3) -> Base:
    """A mixture of a base with a wide one, which covers what the first may have missed."""
    logs = math.log(1.0 - share), math.log(share)

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        own, own_gradient = base.log_density_and_gradient(positions)
        other, other_gradient = wide.log_density_and_gradient(positions)
        own, other = own + logs[0], other + logs[1]
        value = torch.logaddexp(own, other)
        return value, (own - value).exp() * own_gradient + (other - value).exp() * other_gradient

    def sample(n: int, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(n, generator=generator, device=generator.device) < share
        return torch.where(drawn, wide.sample(n, generator), base.sample(n, generator))

    return Base(log_density_and_gradient, sample, base.description, plain=base.plain and wide.plain)


def refined(components: Components, draws: Draws, *, dof: float) -> Components:
    """Components fitted to draws by expectation maximisation, from those given.

    What is given counts as some draws of every component, so that one without draws stays as it is,
    and draws count as far as their families are independent.

    Source: Peel and McLachlan (2000), Robust mixture modelling using the t distribution.
    """
    draws = draws.finite
    x, grouping = draws.positions.T, Grouping(draws.families)
    worth = grouping.number / len(x)
    prior = components.log_weights.exp()
    k, dim = components.locs.shape
    given = components.factors @ components.factors.mT
    shape_draws = _SHAPE_DRAWS + dim
    fit = components
    for _ in range(_EM_STEPS):
        offset = x - fit.locs[:, None]
        white = torch.linalg.solve_triangular(fit.factors, offset.mT, upper=False)
        distance = white.square().sum(1)
        log_parts = (fit.log_weights - fit.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1))[
            :, None
        ] - 0.5 * (dof + dim) * torch.log1p(distance / dof)
        share = worth * log_parts.softmax(0)
        pull = share * (dof + dim) / (dof + distance)
        locs = (components.locs + pull @ x) / (1.0 + pull.sum(1, keepdim=True))
        offset = x - locs[:, None]
        scatter = (pull[..., None] * offset).mT @ offset
        count = share.sum(1)
        covariance = (shape_draws * given + scatter) / (shape_draws + count)[:, None, None]
        weights = count + _WEIGHT_DRAWS * k * prior
        weights = weights / weights.sum()
        fit = Components(weights.log(), locs, torch.linalg.cholesky(covariance))
    return fit._replace(log_weights=generous(fit.log_weights.exp(), grouping.number).log())
