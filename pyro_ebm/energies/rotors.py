"""log Z of rings and chains of rotors, at any temperature and of either sign.

The transfer operator exp(K cos(s - t)) is diagonal in Fourier space, with the modified Bessel
functions I_k(K) as its eigenvalues: a chain of n has log Z = n log 2 pi + (n - 1) log I_0, a ring
n log 2 pi + log S with S = sum over k of I_k(K)^n. Three facts make this short and smooth in K:

- I_k(K) exp(-K) is an integral over |t| up to about 14/sqrt(K), by Gauss and Legendre.
- S is 2 pi times the density of a sum of n angles between neighbours at 0. Poisson's formula turns
  a sum over every h-th k, times h, into the same density plus that at multiples of 2 pi/h: while
  these are negligible, k may go in steps that grow like sqrt(K/n), and 32 of them are enough.
- An odd ring with J < 0 is frustrated: the angles, each less pi, add up to pi. At low temperature
  the alternating sum is a small rest of large terms; there the density at pi is computed around the
  angles pi/n that have it, with a factor exp(K sin(pi/n) (t - pi/n)) which cancels. Of three rotors
  that leaves two wells, and an integral of exp(K cos t) I_0(2 K sin(t/2)) is used instead.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

NODES, MODES = 128, 32
# How many standard deviations to each side are integrated over.
_WIDTHS = 14.0
# K/n beyond which an odd ring with J < 0 is taken around its own angles.
_FRUSTRATED = 1.5


def chain_log_z(coupling: Float[Tensor, "*batch"], length: int) -> Float[Tensor, "*batch"]:
    """log Z of n rotors in an open chain.

    Args:
        coupling: K = J/T.
        length: n.
    """
    size = coupling.abs()
    log_first = size + _modes(size, torch.zeros_like(size).unsqueeze(-1))[..., 0].log()
    return length * math.log(2 * math.pi) + (length - 1) * log_first


def ring_log_z(coupling: Float[Tensor, "*batch"], length: int) -> Float[Tensor, "*batch"]:
    """log Z of n rotors in a ring.

    Args:
        coupling: K = J/T.
        length: n, at least 3.
    """
    size, odd = coupling.abs(), length % 2 == 1
    opposite = coupling.detach() < 0
    alone = opposite & (size.detach() > _FRUSTRATED * length)
    plain = torch.where(alone, 1.0, size) if odd else size
    step = (plain.detach() / (4 * length)).sqrt().clamp(min=1.0)
    number = torch.arange(MODES, dtype=size.dtype, device=size.device)
    modes = _modes(plain, step.unsqueeze(-1) * number)
    terms = (modes / modes[..., :1]).pow(length) * _twice(number)
    if odd:
        terms = torch.where(opposite.unsqueeze(-1), terms * (1 - 2 * (number % 2)), terms)
    log_sum = length * (plain + modes[..., 0].log()) + (step * terms.sum(-1)).log()
    if odd:
        low = torch.where(alone, size, 2.0 * _FRUSTRATED * length)
        log_sum = torch.where(alone, _frustrated(low, length), log_sum)
    return length * math.log(2 * math.pi) + log_sum


def _modes(size: Tensor, order: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """I_k(K) exp(-K) of K >= 0 and orders k, whole ones where K is small."""
    reach = (_WIDTHS / size.detach().clamp(min=1e-3).sqrt()).clamp(max=math.pi)
    angle, weights = _between(-reach, reach)
    # cos t - 1 without cancellation.
    kernel = (-2 * size.unsqueeze(-1) * (0.5 * angle).sin().square()).exp()
    waves = (order.unsqueeze(-1) * angle.unsqueeze(-2)).cos()
    return (waves @ (weights * kernel).unsqueeze(-1)).squeeze(-1) / (2 * math.pi)


def _frustrated(size: Tensor, length: int) -> Tensor:
    """log of the sum of (-1)^k I_k(K)^n over all k, n odd, of K >= 1.5 n."""
    rest = math.pi / length
    if length == 3:
        return _three(size)
    width = _WIDTHS * (size.detach() * math.cos(rest)).rsqrt()
    away, weights = _between((-width).clamp(min=-math.pi - rest), width.clamp(max=math.pi - rest))
    # cos t - cos r + sin r (t - r) with t = r + a, without cancellation.
    bent = -2 * math.cos(rest) * (0.5 * away).sin().square() - math.sin(rest) * _sine_excess(away)
    kernel = weights * (size.unsqueeze(-1) * bent).exp()
    step = 0.3 * (size.detach() / length).sqrt()
    number = torch.arange(MODES, dtype=size.dtype, device=size.device)
    phase = (step.unsqueeze(-1) * number).unsqueeze(-1) * away.unsqueeze(-2)
    real = (phase.cos() @ kernel.unsqueeze(-1)).squeeze(-1)
    imaginary = (phase.sin() @ kernel.unsqueeze(-1)).squeeze(-1)
    log_first = real[..., 0].log()
    modulus = torch.hypot(real, imaginary) / real[..., :1]
    turn = torch.atan2(imaginary, real)
    terms = modulus.pow(length) * (length * turn).cos()
    total = (_twice(number) * terms).sum(-1)
    # Half a turn to either side.
    each = size * math.cos(rest) + log_first - math.log(2 * math.pi)
    return length * each + (2 * step * total).log()


def _twice(number: Tensor) -> Tensor:
    """1 of the order 0, and 2 of all others, which are two of either sign."""
    return 2.0 - (number == 0).to(number.dtype)


def _sine_excess(away: Tensor) -> Tensor:
    """sin a - a."""
    near = away.abs() < 0.5
    small = torch.where(near, away, 0.0)
    square = small.square()
    series = torch.ones_like(square)
    for k in range(17, 3, -2):
        series = 1 - square / (k * (k - 1)) * series
    return torch.where(near, -small * square / 6 * series, away.sin() - away)


def _three(size: Tensor) -> Tensor:
    """log of 1/pi times the integral from 0 to pi of exp(K cos t) I_0(2 K sin(t/2))."""
    width = _WIDTHS * size.detach().rsqrt()
    rest = math.pi / 3
    away, weights = _between((-width).clamp(min=-rest), width.clamp(max=math.pi - rest))
    inside = 2 * size.unsqueeze(-1) * (0.5 * (rest + away)).sin()
    # cos t + 2 sin(t/2) = 3/2 - 2 (sin(t/2) - 1/2)^2.
    apart = 2 * (0.25 * away).sin() * (0.25 * away + math.pi / 6).cos()
    bent = (-2 * size.unsqueeze(-1) * apart.square()).exp() * torch.special.i0e(inside)
    return 1.5 * size + ((weights * bent).sum(-1) / math.pi).log()


def _between(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights [*batch, nodes] of the integral between two ends."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = 0.5 * (high - low).unsqueeze(-1)
    place = torch.as_tensor(1 + nodes, dtype=low.dtype, device=low.device)
    shares = torch.as_tensor(weights, dtype=low.dtype, device=low.device)
    return low.unsqueeze(-1) + half * place, half * shares
