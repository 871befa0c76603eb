"""One number with energy h x + r x^2/2 + u x^4/4: integrals by quadrature, draws by rejection.

At h = 0 the normaliser is a Bessel function; with a tilt it has no closed form, and one method for
all is simpler than two. The line is cut at the barrier top into two pieces on which the density has
one peak; each is truncated where the density has fallen by e^-50, so that the windows follow wells
of any width at any temperature, and the analytic integrand is summed at 256 Chebyshev points, in
float64. All of it is elementwise in (h, r, u, T) and differentiable in them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .gaussian import normal_noise

CUT = 50.0  # how far, in units of T, the energy rises before the integrand is dropped
NODES = 256
NEWTON_STEPS = 20
LEAST_ACCEPTANCE = 1e-3


class SiteMoments(NamedTuple):
    """What is known of one site: log Z, mean and variance, each of the shape of (h, r, u, T)."""

    log_z: Tensor
    mean: Tensor
    variance: Tensor


def site_moments(h: Tensor, r: Tensor, u: Tensor, temperature: Tensor) -> SiteMoments:
    """log Z, mean and variance of exp(-(h x + r x^2/2 + u x^4/4)/T).

    Args:
        h, r, u: coefficients; u > 0, or u = 0 and r > 0.
        temperature: T; all four broadcast.
    """
    h, r, u, t = torch.broadcast_tensors(*(v.double() for v in (h, r, u, temperature)))
    with torch.no_grad():
        edges = _windows(h, r, u, t)
    nodes, weights = _fejer(h.device)
    points, logs = [], []
    for low, high in edges:
        half = 0.5 * (high - low).unsqueeze(-1)
        points.append(low.unsqueeze(-1) + half * (1 + nodes))
        logs.append((half * weights).log())
    x = torch.cat(points, -1)
    energy = h.unsqueeze(-1) * x + x.square() * (
        0.5 * r.unsqueeze(-1) + 0.25 * u.unsqueeze(-1) * x.square()
    )
    log_terms = torch.cat(logs, -1) - energy / t.unsqueeze(-1)
    log_z = log_terms.logsumexp(-1)
    shares = (log_terms - log_z.unsqueeze(-1)).exp()
    mean = (shares * x).sum(-1)
    variance = (shares * (x - mean.unsqueeze(-1)).square()).sum(-1)
    return SiteMoments(log_z, mean, variance)


def _fejer(device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Fejér's first rule on [-1, 1]; the weights are positive."""
    angle = (torch.arange(NODES, dtype=torch.float64, device=device) + 0.5) * (math.pi / NODES)
    j = torch.arange(1, NODES // 2 + 1, dtype=torch.float64, device=device)
    series = ((2 * j * angle.unsqueeze(-1)).cos() / (4 * j.square() - 1)).sum(-1)
    return angle.cos(), 2 / NODES * (1 - 2 * series)


def _windows(h: Tensor, r: Tensor, u: Tensor, t: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Left and right windows of integration, split at the barrier top if there is one."""
    # E'' < 0 exactly on (-w, w): E' falls there and rises outside.
    w = torch.where((u > 0) & (r < 0), (-r / (3 * u)).sqrt(), 0.0)
    # No stationary point lies beyond: u x^3 outgrows 2|r| x and 2|h|, or r x outgrows |h|.
    reach_u = torch.maximum((2 * r.abs() / u).sqrt(), (2 * h.abs() / u).pow(1 / 3))
    reach_r = torch.where(r > 0, h.abs() / r, math.inf)
    reach = torch.maximum(
        torch.minimum(reach_u.nan_to_num(nan=math.inf, posinf=math.inf), reach_r), w
    )
    # Outside of the wells E' bends away from its root, inside of +-w towards it: from these starts
    # Newton's steps only ever approach.
    left, split, right = _stationary(
        torch.stack([h, h, h]),
        r,
        u,
        low=torch.stack([-reach, -w, w]),
        high=torch.stack([-w, w, reach]),
        start=torch.stack([-reach, torch.zeros_like(w), reach]),
    ).unbind()
    windows = []
    for well, side in ((left, -1.0), (right, 1.0)):
        slope = side * (h + well * (r + u * well.square()))
        bend = r + 3 * u * well.square()
        outer = _rise(slope, bend, u, well, t)
        # Inwards E rises by at least bend/4 d^2 while d <= bend/(4 u |well|).
        quick = torch.where(bend > 0, (4 * CUT * t / bend).sqrt(), math.inf)
        whole = side * (well - split)
        inner = torch.where(quick * 4 * u * well.abs() <= bend, torch.minimum(quick, whole), whole)
        ends = (well - side * inner, well + side * outer)
        windows.append(ends if side > 0 else ends[::-1])
    return windows


def _rise(slope: Tensor, bend: Tensor, u: Tensor, well: Tensor, t: Tensor) -> Tensor:
    """A distance outwards over which E rises by CUT T: each term of the polynomial alone does."""
    target = CUT * t
    terms = (
        torch.where(slope > 0, target / slope, math.inf),
        torch.where(bend > 0, (2 * target / bend).sqrt(), math.inf),
        torch.where(u * well != 0, (target / (u * well).abs()).pow(1 / 3), math.inf),
        torch.where(u > 0, (4 * target / u).pow(0.25), math.inf),
    )
    return torch.stack(terms).amin(0)


def _stationary(
    h: Tensor, r: Tensor, u: Tensor, *, low: Tensor, high: Tensor, start: Tensor
) -> Tensor:
    """Where E' vanishes between two points, by Newton's method; the nearer end where it does not.

    Near a double root each step halves the distance, and E is flat there.
    """
    x, bend = start, r + torch.finfo(r.dtype).tiny  # never 0/0
    for _ in range(NEWTON_STEPS):
        stiffness = u * x.square()
        x = (2 * stiffness * x - h) / (bend + 3 * stiffness)
        x = torch.clamp(x, low, high)
    return x


def sample_sites(
    h: Tensor,
    r: Tensor,
    u: Tensor,
    *,
    temperature: Tensor,
    generator: torch.Generator | None,
) -> Tensor | None:
    """Exact draws from exp(-(h x + r x^2/2 + u x^4/4)/T).

    Rejection from a Gaussian: x^4 >= 2 c x^2 - c^2 bounds the energy from below by a parabola.

    Args:
        h, r, u: coefficients of the event's shape.
        temperature: T of each draw, [*shape].
        generator: the random stream.

    Returns:
        Draws [*shape, *event] in float64, or None where fewer than one proposal in a thousand would
        be accepted.
    """
    levels, level = temperature.double().unique(return_inverse=True)
    coefficients = torch.stack([h, r, u]).double()
    b, g, a = coefficients.unsqueeze(1) / levels.reshape(-1, *(1,) * h.dim())
    k, log_area = _envelope(b, g, a)
    least = site_moments(b, g, a, torch.ones_like(b)).log_z - log_area
    if temperature.numel() and bool((least < math.log(LEAST_ACCEPTANCE)).any()):
        return None
    c = torch.where(a > 0, (k - g) / a, 0.0)
    b, a, k, c = (v[level].flatten() for v in (b, a, k, c))
    draws = torch.empty_like(b)
    left = torch.arange(b.numel(), device=b.device)
    while left.numel():
        x = -b[left] / k[left] + normal_noise(left.shape, b, generator) / k[left].sqrt()
        uniform = torch.rand(left.shape, generator=generator, dtype=b.dtype, device=b.device)
        accepted = uniform.log() < -0.25 * a[left] * (x.square() - c[left]).square()
        draws[left[accepted]] = x[accepted]
        left = left[~accepted]
    return draws.reshape(temperature.shape + h.shape)


def _envelope(b: Tensor, g: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The Gaussian of least area above exp(-(b x + g x^2/2 + a x^4/4)).

    The bound is exp(-(b x + k x^2/2 - a c^2/4)), k = g + a c, of which k is chosen on a grid.

    Returns:
        k and the log of the area.
    """
    grid = torch.logspace(-6, 6, 241, dtype=torch.float64, device=b.device)
    b, g, a = (v.unsqueeze(-1) for v in (b, g, a))
    k = torch.where(a > 0, g.clamp(min=0.0) + grid * torch.maximum(g.abs(), a.sqrt()), g)
    excess = torch.where(a > 0, 0.25 * (k - g).square() / a, 0.0)
    log_area = 0.5 * b.square() / k + excess + 0.5 * (2 * math.pi / k).log()
    best = log_area.argmin(-1, keepdim=True)
    return k.gather(-1, best).squeeze(-1), log_area.gather(-1, best).squeeze(-1)
