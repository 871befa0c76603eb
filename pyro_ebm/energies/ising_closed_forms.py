"""Closed forms of Ising models: the ring in a field, and the torus without one (Kaufman).

The torus of m rows of n spins is a transfer matrix of dimension 2^n that Kaufman diagonalised. With
K along the rows' axis and K' within a row, K* the dual of K, tanh K* = exp(-2 K), and

    cosh g_l = cosh 2K* cosh 2K' - sinh 2K* sinh 2K' cos(pi l/n),  g_0 = 2 (K' - K*),

    Z = 1/2 (2 sinh 2K)^(mn/2) (prod_odd 2 cosh(m g_l/2) + prod_odd 2 sinh(m g_l/2)
                                + prod_even 2 cosh(m g_l/2) + prod_even 2 sinh(m g_l/2)),

with the products over the odd and the even l from 0 to 2n - 1. At the critical point g_0 changes
sign, and the last product with it.
Source: B. Kaufman (1949), Crystal statistics II: partition function evaluated by spinor analysis.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

# What stands for 0 where a logarithm is taken: log Z is even in K and flat there. The slope of a
# torus would be lost to rounding at smaller K.
_LEAST, _LEAST_OF_TORUS = 1e-30, 1e-8


def ring_log_z(
    coupling: Float[Tensor, "*batch"], field: Float[Tensor, "*batch"], length: int
) -> Float[Tensor, "*batch"]:
    """log(a^n + b^n), a and b the eigenvalues of the transfer matrix of K and h.

    Args:
        coupling: K = J/T.
        field: h/T.
        length: n, at least 3.
    """
    # a, b = e^K cosh h (1 +- t), with t = sqrt(tanh^2 h + exp(-4 K)/cosh^2 h) in logarithms.
    log_cosh = log_2cosh(field) - math.log(2)
    inside = torch.where(field == 0, 1.0, field.abs())  # the log of 0 has no gradient
    log_t = torch.where(
        field == 0,
        -2 * coupling - log_cosh,
        0.5 * torch.logaddexp(2 * log_tanh(inside), -4 * coupling - 2 * log_cosh),
    )
    top = coupling + log_cosh + torch.logaddexp(torch.zeros_like(log_t), log_t)
    # b/a = (1 - t)/(1 + t) = -tanh(log(t)/2), negative for K < 0.
    half = (0.5 * log_t.abs()).clamp(min=_LEAST)
    log_ratio = length * log_tanh(half)
    # 1 - |b/a|^n of an odd antiferromagnet, which vanishes like 2 n exp(-2 half).
    deficit = torch.where(
        half > 18,
        math.log(2 * length) - 2 * half,
        (-torch.expm1(torch.where(half > 18, -1.0, log_ratio))).log(),
    )
    second = log_ratio.exp().log1p()
    if length % 2 == 1:
        second = torch.where(log_t.detach() > 0, deficit, second)
    return length * top + second


def torus_log_z(
    coupling: Float[Tensor, "*batch"], within: Float[Tensor, "*batch"], shape: tuple[int, int]
) -> Float[Tensor, "*batch"]:
    """Kaufman's log Z of m x n spins, both lengths at least 3.

    Args:
        coupling: K along the first axis, not negative.
        within: K' along the second axis, not negative.
        shape: m and n.
    """
    rows, columns = shape
    coupling, within = (each.clamp(min=_LEAST_OF_TORUS) for each in (coupling, within))
    dual = -0.5 * log_tanh(coupling)
    number = torch.arange(1, 2 * columns, dtype=coupling.dtype, device=coupling.device)
    angle = 0.5 * math.pi * number / columns
    # sinh^2(g/2) = sinh^2(K' - K*) + sinh 2K* sinh 2K' sin^2(angle), with sinh 2K* = 1/sinh 2K.
    apart = (within - dual).unsqueeze(-1)
    bent = _log_sinh(2 * within) - _log_sinh(2 * coupling)
    bent = bent.unsqueeze(-1) + 2 * angle.sin().log()
    # In logarithms, but near the critical point, where sinh^2 is smooth and its logarithm is not.
    near = apart.abs() < 1
    here, there = torch.where(near, apart, 0.0), torch.where(near, 1.0, apart.abs())
    log_square = torch.where(
        near,
        (here.sinh().square() + torch.where(near, bent, 0.0).exp()).log(),
        torch.logaddexp(2 * _log_sinh(there), bent),
    )
    unit = torch.zeros_like(log_square)
    modes = rows * torch.logaddexp(0.5 * log_square, 0.5 * torch.logaddexp(log_square, unit))
    odd, even, first = modes[..., 0::2], modes[..., 1::2], rows * apart.squeeze(-1)
    rest = _log_2sinh(even).sum(-1)
    terms = torch.stack(
        [
            log_2cosh(odd).sum(-1),
            _log_2sinh(odd).sum(-1),
            log_2cosh(first) + log_2cosh(even).sum(-1),
            rest + first,
            rest - first,
        ],
        -1,
    )
    signs = terms.new_tensor([1.0, 1.0, 1.0, 1.0, -1.0])
    top = terms.detach().amax(-1, keepdim=True)
    total = (signs * (terms - top).exp()).sum(-1).log() + top.squeeze(-1)
    spins = rows * columns
    return 0.5 * spins * (math.log(2) + _log_sinh(2 * coupling)) - math.log(2) + total


def log_2cosh(value: Tensor) -> Tensor:
    """log(2 cosh x)."""
    return value.abs() + (-2 * value.abs()).exp().log1p()


def _log_2sinh(value: Tensor) -> Tensor:
    """log(2 sinh x) for x >= 0."""
    return value + (-torch.expm1(-2 * value)).log()


def _log_sinh(value: Tensor) -> Tensor:
    return _log_2sinh(value) - math.log(2)


def log_tanh(value: Tensor) -> Tensor:
    """log tanh x for x > 0, right to the last digits at both ends."""
    decay = (-2 * value).exp()
    small = (-torch.expm1(-2 * value)).log()
    return torch.where(value < 0.3, small, (-decay).log1p()) - decay.log1p()
