"""How much a mode weighs, by the curvature there: Laplace's approximation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.target import Target

# The least curvature, over the greatest, of a mode that is one.
_SOUND = 1e-8


def laplace(target: Target, mode: Tensor) -> tuple[float, Tensor | None]:
    """log mass around a mode [dim] and a root of its covariance [dim, dim].

    The mass is -inf and the root None where the curvature is not that of a maximum.
    """
    dim = target.dim
    # Central differences of gradients are second derivatives of any model at all.
    step = torch.finfo(target.dtype).eps ** (1 / 3) * (1.0 + mode.abs())
    shifts = step.diag()
    _, up = target.log_density_and_gradient(mode[:, None] + shifts)
    _, down = target.log_density_and_gradient(mode[:, None] - shifts)
    precision = ((down - up) / (2 * step)).double()
    precision = 0.5 * (precision + precision.T)
    if not bool(precision.isfinite().all()):
        return -math.inf, None
    # Coordinates on scales of their own would drown one another.
    scale = precision.diagonal()
    if bool((scale <= 0).any()):
        return -math.inf, None
    scale = scale.rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * precision * scale)
    if float(values.min()) <= _SOUND * float(values.max()):
        return -math.inf, None
    root = torch.linalg.cholesky((vectors / values) @ vectors.T)
    factor = scale[:, None] * root
    height, _ = target.log_density_and_gradient(mode[:, None])
    log_mass = float(height[0]) + float(factor.diagonal().log().sum())
    return log_mass + 0.5 * dim * math.log(2 * math.pi), factor.to(target.dtype)
