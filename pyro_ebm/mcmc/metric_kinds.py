"""The kinds of metric a user may ask for: how each begins, is learned, and is made of another."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .estimate import (
    dense_factor,
    diagonal_scale,
    low_rank,
    scale_from_start,
    with_new_version,
)
from .kernel import Settings
from .metric import DenseMetric, DiagonalMetric, LowRankMetric, Metric, inverse_mass_matrix

# Pooled draws per dimension that a dense metric needs, and the dimensions up to which its products
# cost a step little beside the gradient.
_AMPLE, _LARGEST_DIM = 5, 128


class Diagonal(NamedTuple):
    """A diagonal inverse mass matrix."""


class Dense(NamedTuple):
    """A dense inverse mass matrix; ``blocks`` [dim, dim] says which coordinates may correlate."""

    blocks: Tensor | None = None


class LowRank(NamedTuple):
    """A diagonal and a few directions: dense enough for hundreds of dimensions, and cheap.

    ``rank`` directions at most, those whose variance differs from the diagonal's by ``cutoff``.
    """

    rank: int = 10
    cutoff: float = 2.0


class Auto(NamedTuple):
    """Dense where the dimensions are few and warm-up draws ample for them, else diagonal.

    With four chains, after warm-up, a diagonal and a dense metric took 48 and 6 gradients per
    effective draw on an autoregression, 399 and 5 on a regression with an interaction, and 15 and
    16 on eight schools, whose effects hardly correlate.
    """


Chosen = Diagonal | Dense | LowRank
MetricKind = Chosen | Auto


def chosen(kind: MetricKind, *, dim: int, num_draws: int) -> Chosen:
    """The kind to learn, where it is left open.

    :param num_draws: pooled draws of the longest window of warm-up.
    """
    if not isinstance(kind, Auto):
        return kind
    ample = num_draws >= _AMPLE * dim
    return Dense() if ample and dim <= _LARGEST_DIM else Diagonal()


def initial_metric(kind: Chosen, gradient: Tensor, *, adapt: bool) -> Metric:
    """The first metric: from the gradients at the starts when it adapts, else the identity."""
    scale = scale_from_start(gradient) if adapt else torch.ones_like(gradient[:, 0])
    return _of_scale(kind, scale.to(gradient))


def _of_scale(kind: Chosen, scale: Tensor) -> Metric:
    """Two versions of a metric without correlations."""
    if isinstance(kind, Diagonal):
        return DiagonalMetric(scale.repeat(2, 1))
    if isinstance(kind, Dense):
        return DenseMetric(scale.diag().repeat(2, 1, 1))
    dim = len(scale)
    rank = min(kind.rank, dim)
    return LowRankMetric(scale.repeat(2, 1), scale.new_zeros(2, dim, rank), scale.new_ones(2, rank))


def converted(metric: Metric, kind: MetricKind, version: int, *, like: Tensor) -> Metric:
    """Two versions of a kind of metric from one version of any, in the dtype of ``like``.

    Where the new kind holds less, correlations are left out; one left open stays what it was.
    """
    if isinstance(kind, Auto):
        kind = _kind_of(metric)
    rank = min(kind.rank, len(like)) if isinstance(kind, LowRank) else None
    if isinstance(metric, LowRankMetric) and metric.stretch.shape[1] == rank:
        return LowRankMetric(*(_twice(part[version], like) for part in metric))
    inverse_mass = inverse_mass_matrix(metric, version)
    dense = inverse_mass if inverse_mass.dim() == 2 else inverse_mass.diag()
    if isinstance(kind, Dense):
        inside = dense if kind.blocks is None else dense * kind.blocks
        return DenseMetric(_twice(torch.linalg.cholesky(inside), like))
    return _of_scale(kind, dense.diagonal().sqrt().to(like))


def _kind_of(metric: Metric) -> Chosen:
    if isinstance(metric, DiagonalMetric):
        return Diagonal()
    return Dense() if isinstance(metric, DenseMetric) else LowRank(metric.stretch.shape[1])


def _twice(part: Tensor, like: Tensor) -> Tensor:
    return part.to(like).repeat(2, *[1] * part.dim())


def publish(kind: MetricKind, settings: Settings, draws: Tensor, gradients: Tensor) -> Settings:
    """Settings with a new metric from draws and gradients [dim, n], in the version not in use."""
    used = int(settings.version)
    free = 1 - used
    metric = settings.metric
    usable = draws.isfinite().all(0) & gradients.isfinite().all(0)
    draws, gradients = draws[:, usable], gradients[:, usable]
    if draws.shape[1] < 2:
        return settings
    if isinstance(metric, DiagonalMetric):
        parts = (diagonal_scale(draws, gradients, metric.scale[used]),)
    elif isinstance(metric, DenseMetric):
        before = metric.factor[used].square().sum(1).sqrt()
        scale = diagonal_scale(draws, gradients, before)
        dim = len(scale)
        blocks = kind.blocks if isinstance(kind, Dense) else None
        if blocks is None:
            blocks = torch.ones(dim, dim, dtype=torch.bool, device=draws.device)
        parts = (dense_factor(draws, gradients, scale, blocks),)
    else:
        cutoff = kind.cutoff if isinstance(kind, LowRank) else LowRank().cutoff
        scale = diagonal_scale(draws, gradients, metric.scale[used])
        rank = metric.stretch.shape[1]
        parts = (scale, *low_rank(draws, gradients, scale, rank=rank, cutoff=cutoff))
    new = with_new_version(metric, free, parts)
    return settings._replace(metric=new, version=torch.full_like(settings.version, free))
