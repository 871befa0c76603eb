"""A base fitted to draws, coordinate after coordinate: its spread may change from place to place.

With standardised coordinates z, in an order of its own,

    z_i = m_i(z_<i) + exp(s_i(z_<i)) u_i,

where the location m_i is linear and, where draws ask for it, quadratic in the coordinates before,
the logarithm of the scale s_i is piecewise linear in them, and u_i has a mixture of a few Student-t
distributions. At its simplest this is a Gaussian with heavier tails. With a scale that changes, a
funnel is followed into its neck, further than any draw has been; with mixtures, coordinates that
have two wells each are followed into all of their combinations. Too wide a base costs a little, too
narrow a one is wrong without a sign: so it is widened.

Source: Papamakarios, Pavlakou, Murray (2017), Masked autoregressive flow for density estimation,
of which this is one layer with linear conditioners.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .families import Draws, Grouping
from .noise import fit_noise
from .path import Base
from .random import standard_gamma

WIDEN = 1.15
# A feature enters where its score is so many standard deviations from zero.
_SIGNIFICANT = 4.0
_ROUNDS, _FISHER_STEPS = 3, 50
_MEAN_LOG_CHI_SQUARE = 1.2704
_RIDGE = 1.0
_DISTINCT = 2.5
# With fewer families to a coefficient, each has to show by itself before it is fitted with others.
_FAMILIES_A_COEFFICIENT = 4.0
_LEAST_LOG_SCALE = -20.0
# No scale is larger than the largest at any draw by more than this factor's logarithm: tails of one
# coordinate would be multiplied into the next one's.
_LARGEST_EXCESS = 2.0
_LARGEST_RATIO = 50.0
_TINY = 1e-3


class Autoregression(NamedTuple):
    """The fitted numbers; row i of a matrix belongs to the i-th coordinate in ``order``.

    ``loc`` and ``scale`` [dim] standardise; ``linear``, ``square``, ``slope`` and ``bend``
    [dim, dim] are strictly lower triangular; ``most`` [dim] bounds the log scale from above;
    ``log_weights``, ``centers`` and ``widths``
    [dim, parts] are the mixture of u; ``dof`` [dim] is that of its parts.
    """

    order: Tensor
    loc: Tensor
    scale: Tensor
    constant: Tensor
    linear: Tensor
    square: Tensor
    log_scale: Tensor
    slope: Tensor
    bend: Tensor
    most: Tensor
    log_weights: Tensor
    centers: Tensor
    widths: Tensor
    dof: Tensor


def autoregressive_base(fit: Autoregression, *, widen: float, description: str) -> Base:
    """The fitted density, each conditional ``widen`` times as wide, as a base."""
    dim = len(fit.order)
    back = torch.argsort(fit.order)
    dof = fit.dof[:, None]
    parts_dof = fit.dof[:, None, None]
    widths = widen * fit.widths[:, :, None]
    centers = fit.centers[:, :, None]
    constants = (
        fit.log_weights
        + (torch.lgamma(0.5 * (fit.dof + 1)) - torch.lgamma(0.5 * fit.dof))[:, None]
        - 0.5 * (fit.dof * math.pi).log()[:, None]
        - (widen * fit.widths).log()
    )[:, :, None]
    log_volume = float(fit.scale.log().sum())

    def bounded(s: Tensor, rows: slice) -> Tensor:
        return s.clamp(min=_LEAST_LOG_SCALE).minimum(fit.most[rows, None])

    def conditional(z: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        square = fit.square[rows] @ z.square()
        m = fit.constant[rows, None] + fit.linear[rows] @ z + square
        s = fit.log_scale[rows, None] + fit.slope[rows] @ z + fit.bend[rows] @ z.abs()
        return m, s

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        z = (positions.index_select(0, fit.order) - fit.loc[:, None]) / fit.scale[:, None]
        m, free = conditional(z, slice(None))
        s = bounded(free, slice(None))
        inverse = (-s).exp()
        u = (z - m) * inverse
        v = (u[:, None] - centers) / widths
        parts = constants - 0.5 * (parts_dof + 1) * torch.log1p(v.square() / parts_dof)
        log_u = parts.logsumexp(1)
        value = (log_u - s).sum(0) - log_volume
        # By the chain rule: h is d log p(u) / du; a log scale s changes both u and the volume.
        share = (parts - log_u[:, None]).exp()
        h = -(share * (parts_dof + 1) * v / (parts_dof + v.square()) / widths).sum(1)
        pull = h * inverse
        spread = (-h * u - 1.0) * (s == free)
        gradient = pull - fit.linear.T @ pull - 2.0 * z * (fit.square.T @ pull)
        gradient = gradient + fit.slope.T @ spread + z.sign() * (fit.bend.T @ spread)
        return value, (gradient / fit.scale[:, None]).index_select(0, back)

    def sample(n: int, generator: torch.Generator) -> Tensor:
        kind = {"dtype": fit.loc.dtype, "device": fit.loc.device}
        normal = torch.randn(dim, n, generator=generator, **kind)
        shape = 0.5 * dof.to(**kind).expand(dim, n)
        t = normal * (dof / (2.0 * standard_gamma(shape, generator))).sqrt()
        part = torch.multinomial(fit.log_weights.exp(), n, replacement=True, generator=generator)
        u = fit.centers.gather(1, part) + widen * fit.widths.gather(1, part) * t
        z = torch.zeros(dim, n, **kind)
        for i in range(dim):
            m, s = conditional(z, slice(i, i + 1))
            z[i] = m[0] + bounded(s, slice(i, i + 1))[0].exp() * u[i]
        return (fit.loc[:, None] + fit.scale[:, None] * z).index_select(0, back)

    return Base(log_density_and_gradient, sample, description, plain=True)


def fit_autoregression(draws: Draws, *, one_part: bool = False) -> Autoregression:
    """Fit the conditionals to draws by maximum likelihood, each with what is beyond chance.

    :param one_part: leave the noise of every coordinate one Student-t, where the draws do not know
        how much each mode weighs.
    """
    x, grouping = draws.positions.double(), Grouping(draws.families)
    order = _order(x, grouping)
    x = x[order]
    loc, scale = _centre(x), _spread(x)
    z = ((x - loc[:, None]) / scale[:, None]).clamp(-1e3, 1e3)
    dim = len(x)
    zero = torch.zeros(dim, dim, dtype=torch.float64, device=x.device)
    linear, square, slope, bend = zero.clone(), zero.clone(), zero.clone(), zero.clone()
    constant, log_scale, most = zero[0].clone(), zero[0].clone(), zero[0].clone()
    noise = torch.empty_like(z)
    for i in range(dim):
        row = _fit_row(z[:i], z[i], grouping)
        constant[i], linear[i, :i], square[i, :i] = row.constant, row.linear, row.square
        log_scale[i], slope[i, :i], bend[i, :i] = row.log_scale, row.slope, row.bend
        most[i], noise[i] = row.most, row.noise
    parts = (
        loc,
        scale,
        constant,
        linear,
        square,
        log_scale,
        slope,
        bend,
        most,
        *fit_noise(noise, num_independent=grouping.number, one_part=one_part),
    )
    return Autoregression(order, *(part.to(draws.positions) for part in parts))


class _Row(NamedTuple):
    constant: Tensor
    linear: Tensor
    square: Tensor
    log_scale: Tensor
    slope: Tensor
    bend: Tensor
    most: Tensor
    noise: Tensor


def _centre(x: Tensor) -> Tensor:
    return x.median(1).values


def _spread(x: Tensor) -> Tensor:
    """A robust standard deviation [dim]: heavy tails have no other."""
    low, high = torch.quantile(x, x.new_tensor([0.16, 0.84]), dim=1)
    return (0.5 * (high - low)).clamp(min=1e-300)


def _order(x: Tensor, grouping: Grouping) -> Tensor:
    """Those coordinates first that the spread of the others follows."""
    z = ((x - _centre(x)[:, None]) / _spread(x)[:, None]).clamp(-30.0, 30.0)
    covariance = torch.cov(z).reshape(len(z), len(z)) + 1e-3 * torch.eye(
        len(z), dtype=z.dtype, device=z.device
    )
    # What is left of each coordinate when all others are known linearly.
    precision = torch.linalg.inv(covariance)
    residual = (precision @ (z - z.mean(1, keepdim=True))) / precision.diagonal()[:, None]
    size = _standardised((residual.square() + 1e-8).log())
    score = size @ _standardised(z).T / z.shape[1]
    score.fill_diagonal_(0.0)
    significant = score.abs() * math.sqrt(grouping.number) > _SIGNIFICANT
    leads = (score.square() * significant).sum(0)
    return torch.argsort(leads, descending=True, stable=True)


def _standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / centred.std(1, keepdim=True).clamp(min=1e-12)


def _fit_row(before: Tensor, y: Tensor, grouping: Grouping) -> _Row:
    """One conditional: location and log scale in turn, each by weighted least squares."""
    i, n = before.shape
    one = torch.ones(1, n, dtype=y.dtype, device=y.device)
    hinges = torch.cat([before, before.abs()])
    used = torch.zeros(i, dtype=torch.bool, device=y.device)
    bent = torch.zeros(2 * i, dtype=torch.bool, device=y.device)
    s = torch.zeros_like(y)
    b = torch.zeros(1 + 2 * i, dtype=y.dtype, device=y.device)
    location, residual = b, y
    for _ in range(_ROUNDS):
        weight = (-2.0 * s).exp().clamp(max=1e12)
        design = torch.cat([one, before, before.square() * used[:, None]])
        location = _least_squares(design, y, weight, grouping)
        residual = y - location @ design
        used = used | _significant(before.square(), residual * weight.sqrt(), grouping)
        # Where the spread changes, slopes come first, and bends only where they are not enough.
        for part in (slice(0, i), slice(i, 2 * i)):
            b = _fit_log_scale(torch.cat([one, hinges * bent[:, None]]), residual)
            s = b @ torch.cat([one, hinges * bent[:, None]])
            ratio = ((residual * (-s).exp()).square() + _TINY).log()
            bent[part] |= _significant(hinges[part], ratio - ratio.mean(), grouping)
    b = _fit_log_scale(torch.cat([one, hinges * bent[:, None]]), residual)
    s = (b @ torch.cat([one, hinges * bent[:, None]])).clamp(min=_LEAST_LOG_SCALE)
    residual = y - location @ torch.cat([one, before, before.square() * used[:, None]])
    return _Row(
        location[0],
        location[1 : 1 + i],
        location[1 + i :] * used,
        b[0],
        b[1 : 1 + i] * bent[:i],
        b[1 + i :] * bent[i:],
        s.max() + _LARGEST_EXCESS,
        residual * (-s).exp(),
    )


def _least_squares(design: Tensor, y: Tensor, weight: Tensor, grouping: Grouping) -> Tensor:
    """Coefficients [k] of those features in design [k, n] that differ from zero, by weighted least
    squares; the first is the constant."""
    weight = weight / weight.mean()
    eye = torch.eye(len(design), dtype=y.dtype, device=y.device)
    ridge = _RIDGE * design.shape[1] / grouping.number * eye
    ridge[0, 0] = 0.0
    gram = (design * weight) @ design.T + ridge
    moment = (design * weight) @ y

    def solve(kept: Tensor, right: Tensor) -> Tensor:
        both = kept[:, None] & kept
        return torch.linalg.solve(gram * both + (~kept).to(y).diag(), right * kept[:, None])

    keep = _may_enter(design, y, weight, grouping)
    found = solve(keep, moment[:, None])[:, 0]
    # What is not distinguishable from zero is zero: in a neck a small location is a large one.
    scores = design * (weight * (y - found @ design))
    error = grouping.square_of_sums(solve(keep, scores))
    keep = keep & (found.square() > _DISTINCT**2 * error)
    keep[0] = True
    return solve(keep, moment[:, None])[:, 0]


def _may_enter(design: Tensor, y: Tensor, weight: Tensor, grouping: Grouping) -> Tensor:
    """Which features [k] may be fitted together; where families are few, the strongest by
    themselves."""
    alive = design.abs().amax(1) > 0
    alive[0] = True
    most = int(grouping.number / _FAMILIES_A_COEFFICIENT)
    if int(alive.sum()) <= most:
        return alive
    strength = _t_statistics(design, weight * (y - (weight * y).mean()), grouping)
    strength[0] = torch.inf
    least = strength.topk(min(len(strength), 1 + most)).values[-1]
    return alive & (strength >= least) & (strength > _DISTINCT)


def _significant(features: Tensor, residual: Tensor, grouping: Grouping) -> Tensor:
    """Which features [k, n] a residual [n] goes with."""
    return _t_statistics(features, residual - residual.mean(), grouping) > _SIGNIFICANT


def _t_statistics(features: Tensor, residual: Tensor, grouping: Grouping) -> Tensor:
    """The sizes [k] of the covariances of features [k, n] and a residual [n], in their errors."""
    scores = (features - features.mean(1, keepdim=True)) * residual
    total = scores.sum(1)
    error = grouping.square_of_sums(scores - total[:, None] / features.shape[1]).sqrt()
    return total.abs() / error.clamp(min=1e-300)


def _fit_log_scale(design: Tensor, residual: Tensor) -> Tensor:
    """Coefficients of a log-linear scale: the mean of s + residual^2 exp(-2 s) / 2 is least."""
    # Fisher scoring, begun from a regression of log residual^2, whose mean is 2 s - 1.27.
    gram = 2.0 * design @ design.T
    ridge = _RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    ridge[0, 0] = _RIDGE * 1e-6
    factor = torch.linalg.cholesky(gram + ridge)
    size = residual.square()
    target = (size + 1e-12 * size.mean()).log() + _MEAN_LOG_CHI_SQUARE
    b = torch.cholesky_solve((design @ target)[:, None], factor)[:, 0]
    for _ in range(_FISHER_STEPS):
        ratio = (size * (-2.0 * (b @ design)).exp()).clamp(max=_LARGEST_RATIO)
        step = torch.cholesky_solve((design @ (ratio - 1.0))[:, None], factor)[:, 0]
        b = b + step.clamp(-1.0, 1.0)
        if float(step.abs().max()) < 1e-4:
            break
    return b
