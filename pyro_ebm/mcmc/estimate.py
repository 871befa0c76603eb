"""The inverse mass from pooled draws and the gradients of the log density at them.

For a Gaussian of covariance S the gradients have covariance S^-1. So the spread of the draws and
that of the gradients estimate the same matrix from two sides, and their geometric mean is better
than either: per coordinate sqrt(var x / var grad), and for matrices the G with G C_grad G = C_x,
which for a Gaussian is S itself whatever the draws.

Source: Seyboldt, Carlson, Carpenter (2026), Preconditioning Hamiltonian Monte Carlo by minimizing
Fisher divergence; low rank in the subspace that draws and gradients span.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .metric import DenseMetric, DiagonalMetric, LowRankMetric

# The spread of starts that are uniform on (-2, 2).
_START_VARIANCE = 4.0 / 3.0
_SCALE_RANGE = (1e-10, 1e10)


def scale_from_start(gradient: Tensor) -> Tensor:
    """Scales [dim] from the gradients at the starts [dim, chains]: (var x / g^2)^(1/4)."""
    size = gradient.abs().double().median(dim=1).values
    return _sane((_START_VARIANCE / size.square()).pow(0.25), torch.ones_like(size))


def diagonal_scale(draws: Tensor, gradients: Tensor, previous: Tensor) -> Tensor:
    """Scales [dim], (var x / var grad)^(1/4), of draws and gradients [dim, n].

    A coordinate without spread or gradient keeps its previous scale.
    """
    ratio = draws.double().var(1) / gradients.double().var(1)
    return _sane(ratio.pow(0.25), previous.double())


def _sane(scale: Tensor, otherwise: Tensor) -> Tensor:
    usable = scale.isfinite() & (scale > 0)
    return torch.where(usable, scale, otherwise).clamp(*_SCALE_RANGE)


def geometric_mean(draw_covariance: Tensor, gradient_covariance: Tensor) -> Tensor:
    """The positive definite G with G gradient_covariance G = draw_covariance.

    G = B^-1/2 (B^1/2 A B^1/2)^1/2 B^-1/2, with A of the draws and B of the gradients.
    """
    root, inverse_root = _roots(gradient_covariance)
    middle, _ = _roots(root @ draw_covariance @ root)
    mean = inverse_root @ middle @ inverse_root
    return 0.5 * (mean + mean.mT)


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    floor = values.amax() * torch.finfo(values.dtype).eps * len(values)
    root = values.clamp(min=floor).sqrt()
    return vectors * root @ vectors.mT, vectors / root @ vectors.mT


def dense_factor(draws: Tensor, gradients: Tensor, scale: Tensor, blocks: Tensor) -> Tensor:
    """A Cholesky factor [dim, dim] of the pooled inverse mass of draws and gradients [dim, n].

    In coordinates of unit scale the covariances are pulled towards the identity with the weight of
    a few draws, which for few draws in many dimensions keeps them invertible.

    :param blocks: [dim, dim] booleans, which pairs of coordinates may be correlated.
    """
    dim, count = draws.shape
    x, g = _standardise(draws, gradients, scale)
    eye = torch.eye(dim, dtype=x.dtype, device=x.device)
    weight = min(1.0, 1e-3 * dim / count) if count > 2 * dim else dim / (dim + count)
    covariance = [(1 - weight) * (c @ c.mT) / count * blocks + weight * eye for c in (x, g)]
    inner = geometric_mean(*covariance)
    full = scale[:, None] * inner * scale * blocks
    return torch.linalg.cholesky(full)


def low_rank(
    draws: Tensor, gradients: Tensor, scale: Tensor, *, rank: int, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Directions [dim, rank] and stretches [rank] in coordinates of unit scale.

    The geometric mean is taken in the subspace spanned by draws and gradients; directions whose
    variance differs from one by less than the factor ``cutoff`` are left alone (stretch one).
    """
    x, g = _standardise(draws, gradients, scale)
    count = x.shape[1]
    spanning = [torch.linalg.svd(m, full_matrices=False) for m in (x, g)]
    leading = torch.cat([u[:, : 2 * rank] for u, _, _ in spanning], dim=1)
    basis, _ = torch.linalg.qr(leading)
    inner_x, inner_g = basis.mT @ x, basis.mT @ g
    eye = torch.eye(basis.shape[1], dtype=x.dtype, device=x.device)
    weight = len(eye) / (len(eye) + count) * 1e-2
    covariance = [(1 - weight) * (c @ c.mT) / count + weight * eye for c in (inner_x, inner_g)]
    values, vectors = torch.linalg.eigh(geometric_mean(*covariance))
    order = values.log().abs().argsort(descending=True)[:rank]
    values, vectors = values[order], vectors[:, order]
    stretch = torch.where(values.log().abs() > torch.tensor(cutoff).log(), values.sqrt(), 1.0)
    directions = basis @ vectors
    missing = rank - directions.shape[1]
    if missing > 0:
        directions = torch.nn.functional.pad(directions, (0, missing))
        stretch = torch.nn.functional.pad(stretch, (0, missing), value=1.0)
    return directions, stretch


def _standardise(draws: Tensor, gradients: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    x = (draws.double() - draws.double().mean(1, keepdim=True)) / scale[:, None]
    g = (gradients.double() - gradients.double().mean(1, keepdim=True)) * scale[:, None]
    return x, g


def with_new_version(metric: object, index: int, parts: tuple[Tensor, ...]) -> object:
    """A metric of two versions with one of them replaced."""
    assert isinstance(metric, DiagonalMetric | DenseMetric | LowRankMetric)
    replaced = []
    for versions, part in zip(metric, parts, strict=True):
        updated = versions.clone()
        updated[index] = part.to(versions)
        replaced.append(updated)
    return type(metric)(*replaced)
