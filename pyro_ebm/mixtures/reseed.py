"""A component that is taken out and put down somewhere else.

Gibbs sweeps move a component as far as its members allow; one that shares a heap with another is
slow to leave it for a small heap far off. Here one component of every particle is proposed anew and
accepted by Metropolis and Hastings, memberships summed out: its mean near a row or from the prior,
its precision from the prior, its weight from its prior Beta or from one of small weights, while the
weights of the others keep their proportions. A covariance that all share is scaled instead, as it
has to shrink where a heap that it had to cover gets a component of its own. The move is its own
reverse.

Source: Richardson, Green (1997), On Bayesian analysis of mixtures with an unknown number of
components, whose births these are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.annealing.random import standard_gamma

from .gibbs import Gibbs, Memberships, Particles

# The other Beta of a weight; and how near to a row a mean is proposed, in bandwidths of a density.
_SMALL, _NEAR = (1.0, 10.0), 0.5
# The standard deviation of the logarithm of the factor of a shared precision.
_STEP = 0.7
_HALF = math.log(2.0)


class Reseed:
    """The move, for one mixture and its standardised rows [n, d]."""

    def __init__(self, gibbs: Gibbs, rows: Tensor) -> None:
        self.gibbs, self.rows = gibbs, rows
        n, d = rows.shape
        self._near = _NEAR * n ** (-1.0 / (d + 4.0))
        hyper = gibbs.hyper
        tril = hyper.mean_tril if hyper.full else torch.diag(hyper.mean_tril)
        self._prior = torch.distributions.MultivariateNormal(
            hyper.mean_loc, scale_tril=tril, validate_args=False
        )
        alpha = hyper.concentration
        self._betas = ((alpha, alpha * (gibbs.num_components - 1)), _SMALL)

    def __call__(
        self,
        particles: Particles,
        log_components: Tensor,
        memberships: Memberships,
        beta: float,
        generator: torch.Generator,
    ) -> tuple[Particles, Tensor, Memberships]:
        """Particles, their log densities and :class:`Memberships` after the move at ``beta``."""
        gibbs = self.gibbs
        log_weights, mean = particles.log_weights, particles.mean
        n, components = log_weights.shape
        if components == 1:
            return particles, log_components, memberships
        kind = {"generator": generator, "device": mean.device}
        k = torch.randint(components, (n,), **kind)
        every = torch.arange(n, device=mean.device)
        fresh = self._mean(n, generator)
        here = log_weights.scatter(1, k[:, None], -torch.inf)
        others = here.logsumexp(1)
        own, rest = self._weight(n, generator)
        proposed = here + (rest - others)[:, None]
        proposed = proposed.scatter(1, k[:, None], own[:, None])
        moved = mean.clone()
        moved[every, k] = fresh
        precision, log_det = particles.precision, particles.log_det
        scaled = torch.zeros(n, dtype=torch.float64, device=mean.device)
        one, its_log_det = gibbs.prior_covariances(n, generator)
        if gibbs.equal:
            precision, log_det, scaled = self._scaled(precision, log_det, generator)
        else:
            precision, log_det = precision.clone(), log_det.clone()
            precision[every, k], log_det[every, k] = one[:, 0], its_log_det[:, 0]
        other = Particles(proposed, moved, precision, log_det)
        if gibbs.equal:
            densities = gibbs.log_components(other)
        else:
            single = Particles(proposed, fresh[:, None], one, its_log_det)
            densities = log_components.clone()
            densities[every, k] = gibbs.log_components(single)[:, 0]
        there = gibbs.memberships(other, densities, beta)
        log_ratio = (
            there.log_likelihood
            - memberships.log_likelihood
            + scaled
            + self._mean_ratio(fresh)
            - self._mean_ratio(mean[every, k])
            + self._weight_ratio(own, rest)
            - self._weight_ratio(log_weights[every, k], others)
        )
        uniform = torch.rand(n, dtype=log_ratio.dtype, **kind)
        accepted = uniform.log() < log_ratio
        return (
            _either(accepted, other, particles),
            torch.where(accepted[:, None, None], densities, log_components),
            _either(accepted, there, memberships),
        )

    def _scaled(
        self, precision: Tensor, log_det: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A shared precision times a factor, its log determinant, and log of the prior's ratio."""
        hyper, d = self.gibbs.hyper, self.gibbs.d
        noise = torch.randn(
            len(precision), 1, generator=generator, dtype=precision.dtype, device=precision.device
        )
        step = _STEP * noise
        factor = step.exp()[..., None]
        if hyper.full:
            exponent, scale = 0.5 * hyper.degrees * d, hyper.scale
            factor = factor[..., None]
        else:
            exponent, scale = hyper.shape * d, hyper.scale
        change = (scale * precision * (factor - 1.0)).flatten(1).sum(1)
        ratio = exponent * step[:, 0] - change
        return precision * factor, log_det + d * step, ratio.double()

    def _mean(self, number: int, generator: torch.Generator) -> Tensor:
        n, d = self.rows.shape
        kind = {"generator": generator, "device": self.rows.device}
        noise = torch.randn(number, d, dtype=self.rows.dtype, **kind)
        near = self.rows[torch.randint(n, (number,), **kind)] + self._near * noise
        anywhere = self._prior.loc + noise @ self._prior.scale_tril.T
        return torch.where(torch.rand(number, 1, **kind) < 0.5, near, anywhere)

    def _mean_ratio(self, mean: Tensor) -> Tensor:
        """log prior minus log of what proposes it."""
        n, d = self.rows.shape
        prior = self._prior.log_prob(mean)
        square = torch.cdist(mean, self.rows).square() / self._near**2
        near = (-0.5 * square).logsumexp(1) - math.log(n)
        near = near - d * (math.log(self._near) + 0.5 * math.log(2.0 * math.pi))
        return (prior - torch.logaddexp(prior, near) + _HALF).double()

    def _weight(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """log of a weight, and of what it leaves."""
        tiny = torch.finfo(self.rows.dtype).tiny
        kind = {"generator": generator, "device": self.rows.device}
        first = torch.rand(number, **kind) < 0.5
        ours, theirs = (
            torch.where(first, self._betas[0][i], self._betas[1][i]).to(self.rows) for i in (0, 1)
        )
        both = torch.stack([standard_gamma(ours, generator), standard_gamma(theirs, generator)])
        logs = both.clamp(min=tiny).log().log_softmax(0)
        return logs[0], logs[1]

    def _weight_ratio(self, own: Tensor, rest: Tensor) -> Tensor:
        prior, small = (
            (a - 1.0) * own
            + (b - 1.0) * rest
            + (math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
            for a, b in self._betas
        )
        return (prior - torch.logaddexp(prior, small) + _HALF).double()


def _either(accepted: Tensor, there, here):
    """Of each particle the one or the other."""
    return type(here)(
        *(
            torch.where(accepted.reshape(-1, *[1] * (a.dim() - 1)), a, b)
            for a, b in zip(there, here, strict=True)
        )
    )
