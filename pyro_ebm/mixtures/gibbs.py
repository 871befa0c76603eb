"""Mixtures of many particles at once, at a power of their likelihood, and how they move.

With x_i belonging to component k with probability w_k, the joint density of parameters theta and
memberships z at the power beta is

    p(theta) prod_i w_(z_i) N(x_i; m_(z_i), S_(z_i))^beta,

so that at beta = 0 it is the prior and at beta = 1 the posterior; memberships are summed out of it,

    f_beta(theta) = p(theta) prod_i sum_k w_k N(x_i; m_k, S_k)^beta.

Given the memberships, weights, means and covariances have conditionals of their own kind, at every
beta. A move draws memberships, then weights, covariances given the old means, and means given the
new covariances.

The log density of a Gaussian is linear in 1, x and the products of its coordinates: all of them, of
all particles, components and rows, are one matrix product, and so are the sums that a move needs.

Source: Diebolt, Robert (1994), Estimation of finite mixture distributions through Bayesian
sampling; Smith, Hocking (1972), Wishart variate generator.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing.random import standard_gamma

from .prior import Hyper


class Particles(NamedTuple):
    """``log_weights`` [n, K], ``mean`` [n, K, d], ``precision`` [n, K, d] or [n, K, d, d] with its
    ``log_det`` [n, K]; of equal variances these two have a single component."""

    log_weights: Tensor
    mean: Tensor
    precision: Tensor
    log_det: Tensor

    def take(self, chosen: Tensor) -> Particles:
        """Some of the particles."""
        return Particles(*(part[chosen] for part in self))


class Memberships(NamedTuple):
    """At one beta: the log likelihood [n] with memberships summed out, and what is proportional to
    the probability of each membership, ``share`` [n, K, rows], with its sum ``total`` [n, rows]."""

    log_likelihood: Tensor
    share: Tensor
    total: Tensor

    def take(self, chosen: Tensor) -> Memberships:
        """Those of some of the particles."""
        return Memberships(*(part[chosen] for part in self))


class Gibbs:
    """Moves particles of one mixture, for standardised rows [rows, d].

    :param equal_variance: whether all components have the same covariance.
    """

    def __init__(
        self, rows: Tensor, hyper: Hyper, num_components: int, *, equal_variance: bool
    ) -> None:
        self.hyper, self.num_components, self.equal = hyper, num_components, equal_variance
        self.d = rows.shape[1]
        self._upper = torch.triu_indices(self.d, self.d, device=rows.device)
        self._features = self.features(rows)
        self._prior_precision = (
            torch.cholesky_inverse(hyper.mean_tril) if hyper.full else hyper.mean_tril**-2
        )
        self._loc = _times(self._prior_precision, hyper.mean_loc)

    def features(self, rows: Tensor) -> Tensor:
        """1, the coordinates and their products, [features, rows]."""
        columns = rows.T
        products = columns.square()
        if self.hyper.full:
            products = columns[self._upper[0]] * columns[self._upper[1]]
        return torch.cat([torch.ones_like(columns[:1]), columns, products])

    def prior(self, number: int, generator: torch.Generator) -> Particles:
        """Draws of the prior."""
        sums = self.no_sums(number)
        return self.draw(sums, sums[..., : self.d], 1.0, generator)

    def no_sums(self, number: int) -> Tensor:
        """Sums over the members where there are none."""
        return self._features.new_zeros(number, self.num_components, len(self._features))

    def prior_covariances(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Precisions [n, 1, ...] of the prior and their log determinants."""
        nothing = self._features.new_zeros(number, 1, len(self._features))
        return self._covariances(nothing, nothing[..., : self.d], generator)

    def log_components(self, particles: Particles, features: Tensor | None = None) -> Tensor:
        """log N(x_i; m_k, S_k) [n, K, rows]."""
        _, mean, precision, log_det = particles
        linear = _times(precision, mean)
        constant = 0.5 * (log_det - (linear * mean).sum(-1) - self.d * math.log(2.0 * math.pi))
        products = -0.5 * precision
        if self.hyper.full:
            off = self._upper[0] != self._upper[1]
            products = products[..., self._upper[0], self._upper[1]] * (1.0 + off.to(products))
        products = products.expand(*mean.shape[:2], products.shape[-1])
        coefficients = torch.cat([constant[..., None], linear, products], -1)
        return coefficients @ (self._features if features is None else features)

    def memberships(self, particles: Particles, log_components: Tensor, beta: float) -> Memberships:
        """The mixture at the power beta."""
        share = torch.add(particles.log_weights[..., None], log_components, alpha=beta)
        highest = share.amax(1, keepdim=True)
        share = share.sub_(highest).exp_()
        total = share.sum(1)
        return Memberships((total.log() + highest[:, 0]).double().sum(1), share, total)

    def move(
        self,
        particles: Particles,
        memberships: Memberships,
        beta: float,
        generator: torch.Generator,
    ) -> Particles:
        """One sweep that leaves f_beta invariant."""
        return self.draw(self.sums(memberships, generator), particles.mean, beta, generator)

    def sums(self, memberships: Memberships, generator: torch.Generator) -> Tensor:
        """Memberships that are drawn: sums of the features over the members, [n, K, features]."""
        return _members(memberships, generator) @ self._features.T

    def draw(
        self, sums: Tensor, mean: Tensor, beta: float, generator: torch.Generator
    ) -> Particles:
        """Weights, covariances around given means, and new means, given sums over the members."""
        raw = standard_gamma(self.hyper.concentration + sums[..., 0], generator)
        log_weights = raw.clamp(min=torch.finfo(raw.dtype).tiny).log()
        log_weights = log_weights - log_weights.logsumexp(1, keepdim=True)
        sums = beta * sums
        precision, log_det = self._covariances(sums, mean, generator)
        return Particles(log_weights, self._means(sums, precision, generator), precision, log_det)

    def _means(self, sums: Tensor, precision: Tensor, generator: torch.Generator) -> Tensor:
        count, linear = sums[..., :1], sums[..., 1 : 1 + self.d]
        noise = torch.randn(
            linear.shape, generator=generator, dtype=linear.dtype, device=linear.device
        )
        right = self._loc + _times(precision, linear)
        if not self.hyper.full:
            whole = self._prior_precision + count * precision
            return right / whole + noise * whole.rsqrt()
        root = torch.linalg.cholesky(self._prior_precision + count[..., None] * precision)
        half = torch.linalg.solve_triangular(root, right[..., None], upper=False)
        return torch.linalg.solve_triangular(root.mT, half + noise[..., None], upper=True)[..., 0]

    def precision_parameters(self, sums: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """What the law of a precision has for its parameters, around given means: a count, and a
        rate [n, K, d] (gamma) or [n, K, d, d] (Wishart); of equal variances of one component."""
        d, full = self.d, self.hyper.full
        count, linear, products = sums[..., 0], sums[..., 1 : 1 + d], sums[..., 1 + d :]
        if full:
            square = linear.new_empty(*linear.shape, d)
            square[..., self._upper[0], self._upper[1]] = products
            square[..., self._upper[1], self._upper[0]] = products
            cross = linear[..., :, None] * mean[..., None, :]
            both = mean[..., :, None] * mean[..., None, :]
            scatter = square - cross - cross.mT + count[..., None, None] * both
        else:
            scatter = products - 2.0 * linear * mean + count[..., None] * mean.square()
            scatter = scatter.clamp(min=0.0)
        if self.equal:
            scatter, count = scatter.sum(1, keepdim=True), count.sum(1, keepdim=True)
        return count, self.hyper.scale + 0.5 * scatter

    def _covariances(
        self, sums: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Precisions and their log determinants, given the means."""
        count, rate = self.precision_parameters(sums, mean)
        if not self.hyper.full:
            shape = (self.hyper.shape + 0.5 * count)[..., None].expand(rate.shape)
            raw = standard_gamma(shape, generator).clamp(min=torch.finfo(shape.dtype).tiny)
            precision = raw / rate
            return precision, precision.log().sum(-1)
        root = torch.linalg.cholesky(2.0 * rate)
        bartlett = self._bartlett(self.hyper.degrees + count, generator)
        factor = torch.linalg.solve_triangular(root.mT, bartlett, upper=True)
        parts = bartlett.diagonal(dim1=-2, dim2=-1).log() - root.diagonal(dim1=-2, dim2=-1).log()
        return factor @ factor.mT, 2.0 * parts.sum(-1)

    def _bartlett(self, degrees: Tensor, generator: torch.Generator) -> Tensor:
        """Lower triangular A [n, K, d, d] with A A' ~ Wishart(degrees, 1)."""
        d = self.d
        kind = {"dtype": degrees.dtype, "device": degrees.device}
        shape = 0.5 * (degrees[..., None] - torch.arange(d, **kind))
        diagonal = (2.0 * standard_gamma(shape, generator)).sqrt()
        noise = torch.randn(*degrees.shape, d, d, generator=generator, **kind)
        return noise.tril(-1) + torch.diag_embed(diagonal)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Of a full matrix [..., d, d], or of the diagonal [..., d] of one."""
    if matrix.dim() > vector.dim():
        return (matrix @ vector[..., None])[..., 0]
    return matrix * vector


def _members(memberships: Memberships, generator: torch.Generator) -> Tensor:
    """One membership of every row, [n, K, rows] of zeros and ones."""
    share, total = memberships.share, memberships.total
    uniform = torch.rand(total.shape, generator=generator, dtype=total.dtype, device=total.device)
    # What is left of the uniform when the shares before are gone: the first that exceeds it.
    uniform = uniform.mul_(total)
    members = torch.empty_like(share)
    last = share.shape[1] - 1
    before = torch.zeros_like(total)
    reached = torch.zeros_like(total)
    for k in range(last):
        reached = reached.add_(share[:, k])
        within = (uniform < reached).to(total.dtype)
        torch.sub(within, before, out=members[:, k])
        before = within
    torch.sub(torch.ones_like(before), before, out=members[:, last])
    return members
