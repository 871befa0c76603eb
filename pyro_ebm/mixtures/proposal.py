"""One sweep from stored states of the chains, under every order of the components: a density.

From a state of a chain, whose memberships z and means m' are kept, a sweep draws

    q(theta | z, m') = p(w | z) prod_k p(S_k | z, m'_k) p(m_k | z, S_k).

The mean of this over draws of the posterior is the posterior. The proposal is the mean over the
stored states and over all orders of the components, of which a draw may have any. With the order pi
the density is a product over components c of factors A[c, pi(c)], and so its sum over orders is the
permanent of A. A covariance that all share has a factor of its own, which no order changes.

A mean and a precision are turned to coordinates in which the prior of the mean is a standard normal
one and the precision diagonal: there the law of the mean is a product.

Sources: Frühwirth-Schnatter (2004), Estimating marginal likelihoods for mixture and Markov
switching models using bridge sampling techniques; Lee, Robert (2016), Importance sampling schemes
for evidence approximation in mixture models.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .gibbs import Gibbs, Particles
from .permanent import log_permanent

# Numbers in one table of draws against states.
_LARGEST_TABLE = 2**21


class Stored(NamedTuple):
    """States of chains: sums of the features over the members [M, K, features], means [M, K, d]."""

    sums: Tensor
    mean: Tensor


class Proposal:
    """A sweep from one of the stored states, in an order of the components that is not told.

    :param stored: states of chains, M of them.
    """

    def __init__(self, gibbs: Gibbs, stored: Stored) -> None:
        self._gibbs, self._stored = gibbs, stored
        hyper, d = gibbs.hyper, gibbs.d
        self._count = stored.sums[..., 0]
        # To coordinates in which the prior of a mean is standard normal.
        tril = hyper.mean_tril if hyper.full else torch.diag(hyper.mean_tril)
        self._white = torch.linalg.inv(tril)
        linear = stored.sums[..., 1 : 1 + d] - self._count[..., None] * hyper.mean_loc
        self._linear = linear @ self._white.T
        self._weight_constant = _log_dirichlet(hyper.concentration + self._count)
        self._wishart = _Wishart.of(gibbs, stored)

    @classmethod
    def prior(cls, gibbs: Gibbs) -> Proposal:
        """What a sweep draws from a state without members: the prior."""
        sums = gibbs.no_sums(1)
        return cls(gibbs, Stored(sums, sums[..., : gibbs.d]))

    def sample(self, number: int, generator: torch.Generator) -> Particles:
        """Draws, equally many from every state as far as that goes, components as stored."""
        states = len(self._count)
        order = torch.randperm(states, generator=generator, device=generator.device)
        chosen = order[torch.arange(number, device=order.device) % states]
        return self._gibbs.draw(
            self._stored.sums[chosen], self._stored.mean[chosen], 1.0, generator
        )

    def log_density(self, particles: Particles) -> Tensor:
        """log q [n], of weights on the simplex, means and precisions."""
        states, components = self._count.shape
        # Factors, and the sets of components over which permanents are added up.
        each = max(components**2 * self._gibbs.d, math.comb(components, components // 2))
        size = max(1, _LARGEST_TABLE // (states * each))
        every = torch.arange(len(particles.log_weights), device=particles.mean.device)
        return torch.cat([self._of_few(particles.take(part)) for part in every.split(size)])

    def _of_few(self, particles: Particles) -> Tensor:
        alpha = self._gibbs.hyper.concentration - 1.0
        # [components of the draw, those of the state, draws, states]
        factors = (alpha + self._count.T[None, :, None]) * particles.log_weights.T[:, None, :, None]
        factors = factors + self._means(particles)
        shared = self._weight_constant
        precisions = self._wishart.log_density(particles)
        if self._gibbs.equal:
            shared = shared + precisions[0, 0]
        else:
            factors = factors + precisions
        total = log_permanent(factors) + shared
        orders = math.lgamma(self._gibbs.num_components + 1.0)
        return total.logsumexp(1) - math.log(total.shape[1]) - orders

    def _means(self, particles: Particles) -> Tensor:
        """log p(m_c | z_k, S_c), [c, k, draws, states]."""
        hyper = self._gibbs.hyper
        centred = (particles.mean - hyper.mean_loc) @ self._white.T
        if hyper.full:
            tril = hyper.mean_tril
            turned = tril.T @ particles.precision @ tril
            precision, axes = torch.linalg.eigh(turned)
            centred = (axes.mT @ centred[..., None])[..., 0]
            linear = torch.einsum("ncij,mki->cknmj", axes, self._linear)
        else:
            precision = particles.precision * hyper.mean_tril.square()
            linear = self._linear.transpose(0, 1)[None, :, None]
        # [c, 1, n, 1, d] of the draws.
        precision, centred = (
            part.transpose(0, 1)[:, None, :, None] for part in (precision, centred)
        )
        whole = 1.0 + self._count.T[None, :, None, :, None] * precision
        apart = centred * whole - precision * linear
        value = 0.5 * (whole.log() - apart.square() / whole).sum(-1)
        constant = self._white.diagonal().log().sum()
        return value + constant - 0.5 * self._gibbs.d * math.log(2.0 * math.pi)


class _Wishart(NamedTuple):
    """Laws of precisions, with axes [k, states]: exp(constant + power log det S - tr(rate S))."""

    constant: Tensor
    power: Tensor
    rate: Tensor

    @classmethod
    def of(cls, gibbs: Gibbs, stored: Stored) -> _Wishart:
        """Gamma laws of every dimension, or Wishart ones."""
        hyper, d = gibbs.hyper, gibbs.d
        count, rate = gibbs.precision_parameters(stored.sums, stored.mean)
        if hyper.full:
            shape = 0.5 * (hyper.degrees + count)
            scale = 2.0 * torch.linalg.cholesky(rate).diagonal(dim1=-2, dim2=-1).log().sum(-1)
            constant = shape * scale - torch.special.multigammaln(shape, d)
            power = shape - 0.5 * (d + 1.0)
        else:
            shape = hyper.shape + 0.5 * count
            constant = shape * rate.log().sum(-1) - d * torch.lgamma(shape)
            power = shape - 1.0
        return cls(constant.T, power.T, rate.flatten(2).transpose(0, 1))

    def log_density(self, particles: Particles) -> Tensor:
        """[c, k, draws, states]."""
        precision = particles.precision.flatten(2)
        fit = torch.einsum("ncd,kmd->cknm", precision, self.rate)
        log_det = particles.log_det.T[:, None, :, None]
        return self.constant[:, None] + self.power[:, None] * log_det - fit


def _log_dirichlet(concentration: Tensor) -> Tensor:
    """log of the constant of a Dirichlet law."""
    return torch.lgamma(concentration.sum(-1)) - torch.lgamma(concentration).sum(-1)
