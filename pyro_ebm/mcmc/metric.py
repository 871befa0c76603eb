"""The metric: the linear map L that makes the target look like a standard normal to a kernel.

With inverse mass matrix M^-1 = L L^T, a whitened momentum p is standard normal, moves the position
by L p and is pushed by L^T grad log density. A metric may hold two versions, as a chain must not
change its metric inside a tree: then ``version`` [chains] says which one each chain is using.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class DiagonalMetric(NamedTuple):
    """L = diag(scale): ``scale`` is [versions, dim]."""

    scale: Tensor


class DenseMetric(NamedTuple):
    """L = ``factor``, lower triangular or any square root: [versions, dim, dim]."""

    factor: Tensor


class LowRankMetric(NamedTuple):
    """L = diag(scale) (I + U diag(stretch - 1) U^T) with orthonormal columns U.

    ``scale`` [versions, dim], ``directions`` [versions, dim, rank], ``stretch`` [versions, rank].
    """

    scale: Tensor
    directions: Tensor
    stretch: Tensor


Metric = DiagonalMetric | DenseMetric | LowRankMetric


def velocity(metric: Metric, version: Tensor, momentum: Tensor) -> Tensor:
    """L p for whitened momenta [dim, chains]: how fast the positions move."""
    if isinstance(metric, DiagonalMetric):
        return _select(metric.scale[:, :, None], version) * momentum
    if isinstance(metric, DenseMetric):
        return _select(metric.factor @ momentum, version)
    return _select(metric.scale[:, :, None] * _stretched(metric, momentum), version)


def force(metric: Metric, version: Tensor, gradient: Tensor) -> Tensor:
    """L^T g for gradients of the log density [dim, chains]: the push on whitened momenta."""
    if isinstance(metric, DiagonalMetric):
        return _select(metric.scale[:, :, None], version) * gradient
    if isinstance(metric, DenseMetric):
        return _select(metric.factor.mT @ gradient, version)
    return _select(_stretched(metric, metric.scale[:, :, None] * gradient), version)


def identity_metric(like: Metric) -> Metric:
    """The identity with the shape of another metric."""
    if isinstance(like, DiagonalMetric):
        return DiagonalMetric(torch.ones_like(like.scale))
    if isinstance(like, DenseMetric):
        eye = torch.eye(like.factor.shape[-1], dtype=like.factor.dtype, device=like.factor.device)
        return DenseMetric(eye.expand_as(like.factor).clone())
    return LowRankMetric(
        torch.ones_like(like.scale),
        torch.zeros_like(like.directions),
        torch.ones_like(like.stretch),
    )


def inverse_mass_matrix(metric: Metric, version: int = 0) -> Tensor:
    """M^-1 = L L^T of one version: its diagonal [dim] for a diagonal metric, else [dim, dim]."""
    if isinstance(metric, DiagonalMetric):
        return metric.scale[version].square()
    if isinstance(metric, DenseMetric):
        factor = metric.factor[version]
        return factor @ factor.mT
    scale, directions, stretch = (part[version] for part in metric)
    core = torch.eye(len(scale), dtype=scale.dtype, device=scale.device)
    core = core + directions * (stretch.square() - 1) @ directions.mT
    return scale[:, None] * core * scale


def mass_times(metric: Metric, version: int, x: Tensor) -> Tensor:
    """M x of one version, for columns x [dim, n]."""
    if isinstance(metric, DiagonalMetric):
        return x / metric.scale[version].square()[:, None]
    if isinstance(metric, DenseMetric):
        factor = metric.factor[version]
        return torch.linalg.solve(factor.mT, torch.linalg.solve(factor, x))
    scale, directions, stretch = (part[version] for part in metric)
    x = x / scale[:, None]
    x = x + directions @ ((stretch.pow(-2) - 1)[:, None] * (directions.mT @ x))
    return x / scale[:, None]


def _select(versions: Tensor, version: Tensor) -> Tensor:
    """Per chain (last axis) the version in use, of [versions, dim, chains or 1]."""
    if versions.shape[0] == 1:
        return versions[0]
    return torch.where(version == 0, versions[0], versions[1])


def _stretched(metric: LowRankMetric, x: Tensor) -> Tensor:
    along = metric.directions.mT @ x
    return x + metric.directions @ ((metric.stretch - 1)[:, :, None] * along)
