"""One-dimensional densities fitted to many coordinates at once: mixtures of a few Student-t."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_DOFS = (1.0, 2.0, 3.0, 5.0, 10.0)
_PARTS = (2, 4)
_EM_STEPS = 60
_SCALE_STEPS = 30
# A part is no narrower than this share of the whole, and no rarer than this.
_NARROWEST, _RAREST = 0.02, 1e-3
# Another part has to raise the mean log likelihood by so much.
_WORTHWHILE = 0.02


def fit_noise(u: Tensor, *, one_part: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The likeliest mixture for each row of u [dim, n], by what more parts bring over one.

    One part has the degrees of freedom that suit it; several have ten.

    :returns: log weights, centers and widths [dim, parts], and degrees of freedom [dim]; parts that
        a row does not need have no weight.
    """
    dim, n = u.shape
    most = max(_PARTS)
    score, width, dof = _one_part(u)
    log_weights = u.new_full((dim, most), -torch.inf)
    log_weights[:, 0] = 0.0
    centers, widths = u.new_zeros(dim, most), width[:, None].repeat(1, most)
    for parts in () if one_part else _PARTS:
        found, weights, locs, scales = _several_parts(u, parts)
        better = found > score + _WORTHWHILE * (parts - 1) + 3.0 * (parts - 1) * math.log(n) / n
        score = torch.where(better, found, score)
        padding = (0, most - parts)
        pad = torch.nn.functional.pad
        log_weights = torch.where(
            better[:, None], pad(weights.log(), padding, value=-torch.inf), log_weights
        )
        centers = torch.where(better[:, None], pad(locs, padding), centers)
        widths = torch.where(better[:, None], pad(scales, padding, value=1.0), widths)
        dof = torch.where(better, _DOFS[-1], dof)
    used = int((log_weights > -torch.inf).any(0).nonzero().max()) + 1
    return log_weights[:, :used], centers[:, :used], widths[:, :used], dof


def _one_part(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean log likelihood, width and degrees of freedom [dim] of the likeliest Student-t at 0."""
    best = u.new_full(u.shape[:1], -torch.inf)
    width, chosen = torch.ones_like(best), torch.full_like(best, _DOFS[-1])
    for dof in _DOFS:
        square = u.square().median(1).values.clamp(min=1e-300)
        for _ in range(_SCALE_STEPS):
            weight = (dof + 1) / (dof + u.square() / square[:, None])
            square = (weight * u.square()).mean(1).clamp(min=1e-300)
        constant = math.lgamma(0.5 * (dof + 1)) - math.lgamma(0.5 * dof)
        constant -= 0.5 * math.log(dof * math.pi)
        tail = torch.log1p(u.square() / (dof * square[:, None])).mean(1)
        score = constant - 0.5 * (dof + 1) * tail - 0.5 * square.log()
        better = score > best
        best = torch.where(better, score, best)
        width = torch.where(better, square.sqrt(), width)
        chosen = torch.where(better, dof, chosen)
    return best, width, chosen


def _several_parts(u: Tensor, parts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean log likelihood [dim], weights, centers and widths [dim, parts] of Gaussian parts."""
    levels = (torch.arange(parts, dtype=u.dtype, device=u.device) + 0.5) / parts
    centers = torch.quantile(u, levels, dim=1).T
    spread = (torch.quantile(u, 0.84, dim=1) - torch.quantile(u, 0.16, dim=1)).clamp(min=1e-300)
    widths = (spread / (2 * parts))[:, None].repeat(1, parts)
    weights = torch.full_like(centers, 1.0 / parts)
    score = spread
    for _ in range(_EM_STEPS):
        standard = (u[:, None] - centers[:, :, None]) / widths[:, :, None]
        log_parts = (
            (weights / widths).log()[:, :, None]
            - 0.5 * standard.square()
            - 0.5 * math.log(2 * math.pi)
        )
        total = log_parts.logsumexp(1)
        score = total.mean(1)
        share = (log_parts - total[:, None]).exp()
        count = share.sum(2).clamp(min=1e-12)
        weights = (count / u.shape[1]).clamp(min=_RAREST)
        weights = weights / weights.sum(1, keepdim=True)
        centers = (share * u[:, None]).sum(2) / count
        square = (share * (u[:, None] - centers[:, :, None]).square()).sum(2) / count
        widths = square.sqrt().clamp(min=1e-300)
        widths = torch.maximum(widths, _NARROWEST * spread[:, None])
    return score, weights, centers, widths
