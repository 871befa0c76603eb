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
# How many standard errors a count is raised by.
_ERRORS = 2.0
# The weight of a wide part beside several, all rows together and at most in one.
_BACKGROUND, _MOST_BACKGROUND = 0.3, 0.1


def fit_noise(
    u: Tensor, *, num_independent: float, one_part: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The likeliest mixture for each row of u [dim, n], by what more parts bring over one.

    The n values of a row are worth ``num_independent`` ones. One part has the degrees of freedom
    that suit it; several have ten.

    Several parts get one more, rare and wide, for what lies between and beyond them.

    :returns: log weights, centers and widths [dim, parts], and degrees of freedom [dim]; parts that
        a row does not need have no weight.
    """
    dim = len(u)
    penalty = 3.0 * math.log(max(num_independent, math.e)) / num_independent
    most = max(_PARTS)
    score, width, dof = _one_part(u)
    log_weights = u.new_full((dim, most), -torch.inf)
    log_weights[:, 0] = 0.0
    centers, widths = u.new_zeros(dim, most), width[:, None].repeat(1, most)
    for parts in () if one_part else _PARTS:
        found, weights, locs, scales = _several_parts(u, parts)
        better = found > score + _WORTHWHILE * (parts - 1) + (parts - 1) * penalty
        score = torch.where(better, found, score)
        padding = (0, most - parts)
        pad = torch.nn.functional.pad
        log_weights = torch.where(
            better[:, None], pad(weights.log(), padding, value=-torch.inf), log_weights
        )
        centers = torch.where(better[:, None], pad(locs, padding), centers)
        widths = torch.where(better[:, None], pad(scales, padding, value=1.0), widths)
        dof = torch.where(better, _DOFS[-1], dof)
    log_weights = generous(log_weights.exp(), num_independent).log()
    log_weights, centers, widths = _with_background(u, log_weights, centers, widths)
    used = int((log_weights > -torch.inf).any(0).nonzero().max()) + 1
    return log_weights[:, :used], centers[:, :used], widths[:, :used], dof


def generous(weights: Tensor, num_independent: float) -> Tensor:
    """Weights [..., parts] of a mixture from so many draws, each as large as it may well be.

    Too much of a part costs a little; too little of one makes rare and heavy particles.
    """
    count = num_independent * weights
    upper = torch.where(count > 0, count + _ERRORS * count.sqrt() + 1.0, 0.0)
    return upper / upper.sum(-1, keepdim=True)


def _with_background(
    u: Tensor, log_weights: Tensor, centers: Tensor, widths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The mixtures with one more part, as wide as the whole, in rows of several."""
    several = (log_weights > -torch.inf).sum(1) > 1
    share = min(_MOST_BACKGROUND, _BACKGROUND / max(1, int(several.sum())))
    part = torch.where(several, math.log(share), -torch.inf)
    log_weights = torch.where(several[:, None], log_weights + math.log1p(-share), log_weights)
    return (
        torch.cat([log_weights, part[:, None]], dim=1),
        torch.cat([centers, u.mean(1, keepdim=True)], dim=1),
        torch.cat([widths, u.std(1, keepdim=True)], dim=1),
    )


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
