"""Gaussian mixtures: as a model, as a posterior, and their evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing.start import check_whole
from pyro_ebm.numeric import as_numbers

from .anneal import ISLAND, Moves
from .evidence import posterior
from .gibbs import Gibbs, Particles
from .prior import Hyper, MixturePrior
from .pyro_model import mixture_model
from .relabel import orders
from .reseed import Reseed
from .result import MixturePosterior
from .rows import as_rows

if TYPE_CHECKING:
    from .selection import Selection

# Names of components go by so many of the rows.
_ROWS_FOR_NAMES = 300
_FEWEST_ISLANDS = 4


class GaussianMixture:
    """A mixture of Gaussians with a prior, its components exchangeable.

        x_i ~ sum_k w_k N(m_k, S_k)

    In one dimension, or where the prior says so, covariances are diagonal; else full.

    :param num_components: K.
    :param prior: :class:`MixturePrior`; None for :meth:`MixturePrior.of` the data that come.
    :param equal_variance: whether all components share one variance or covariance.
    :param num_particles: of the evidence, a multiple of 256; its error falls with their root.
    :raises ValueError: no whole number of components, or too few particles.
    :raises TypeError: a prior that is none.
    """

    def __init__(
        self,
        num_components: int | np.integer,
        *,
        prior: MixturePrior | None = None,
        equal_variance: bool = False,
        num_particles: int = 1024,
    ) -> None:
        check_whole("num_components", num_components, 1)
        self.num_components = int(num_components)
        if prior is not None and not isinstance(prior, MixturePrior):
            raise TypeError(f"expected prior to be a MixturePrior, got {type(prior).__name__}.")
        check_whole("num_particles", num_particles, _FEWEST_ISLANDS * ISLAND)
        if num_particles % ISLAND:
            raise ValueError(
                f"expected num_particles to be a multiple of {ISLAND}, got {num_particles}."
            )
        self.prior, self.equal_variance = prior, bool(equal_variance)
        self.num_particles = num_particles

    def model(self, data: Any) -> None:
        """The mixture as a Pyro model of data [n] or [n, d], memberships summed out.

        Sites are ``weight`` (of more than one component), ``mean``, and ``variance`` or, of full
        covariances, the factors of the deterministic ``covariance``. ``NUTS(mixture.model)`` draws
        from it; chains may change the names of components.
        """
        rows = as_rows(data)
        mixture_model(
            rows,
            self._hyper(rows),
            self.num_components,
            equal_variance=self.equal_variance,
            scalar=as_numbers("data", data).dim() == 1,
        )

    def fit(self, data: Any) -> MixturePosterior:
        """The posterior, its components named, with its evidence.

        A run is repeated by ``pyro.set_rng_seed``.

        :param data: [n] or [n, d]: a tensor, an array, or a table or column of pandas.
        :raises ValueError: data that are not finite, do not vary or are of another shape, or of
            other dimensions than the prior.
        """
        given = as_rows(data)
        # Differences of large sums of squares are lost in single precision.
        rows = given.double()
        hyper = self._hyper(rows)
        center, width = rows.mean(0), rows.std(0)
        standard = (rows - center) / width
        gibbs = Gibbs(
            standard,
            hyper.standardised(center, width),
            self.num_components,
            equal_variance=self.equal_variance,
        )
        seed = int(torch.randint(2**62, ()))
        generator = torch.Generator(rows.device).manual_seed(seed)
        with torch.no_grad():
            evidence, draws = posterior(
                Moves(gibbs, Reseed(gibbs, standard)),
                self.num_particles,
                generator,
                log_jacobian=-len(rows) * float(width.log().sum()),
            )
            flat = Particles(*(part.flatten(0, 1) for part in draws))
            weight, mean, covariance = (
                part.unflatten(0, draws.mean.shape[:2]) for part in _named(gibbs, flat, standard)
            )
        mean, covariance = mean * width + center, covariance * (width[:, None] * width)
        return MixturePosterior(
            *(part.to(given) for part in (weight, mean, covariance)),
            rows=given,
            evidence=evidence,
            scalar=as_numbers("data", data).dim() == 1,
            diagonal=not hyper.full,
            attrs={"seed": seed, "equal_variance": self.equal_variance},
        )

    def log_evidence(self, data: Any) -> LogZ:
        """log of the probability of the data under the mixture and its prior, all labels counted.

        :param data: as for :meth:`fit`.
        """
        return self.fit(data).evidence

    @classmethod
    def select(
        cls,
        data: Any,
        components: Iterable[int] = range(1, 9),
        *,
        prior: MixturePrior | None = None,
        equal_variance: bool = False,
        num_particles: int = 1024,
        prior_probability: Mapping[int, float] | None = None,
    ) -> Selection:
        """How many components: evidence, posterior probability and BIC of each number.

        :param components: the numbers that are compared.
        :param prior: one for all numbers; None for :meth:`MixturePrior.of` the data.
        :param prior_probability: of each number, up to a common factor; alike unless given.
        :raises TypeError: components that are not several numbers.
        :raises ValueError: as :meth:`fit`; no numbers, or one twice.
        """
        from .selection import numbers_among, select

        rows = as_rows(data)
        shared = prior or MixturePrior.of(rows)
        mixtures = [
            cls(k, prior=shared, equal_variance=equal_variance, num_particles=num_particles)
            for k in numbers_among(components)
        ]
        return select(mixtures, data, prior_probability=prior_probability)

    def _hyper(self, rows: Tensor) -> Hyper:
        return (self.prior or MixturePrior.of(rows)).hyper(rows)


def _named(gibbs: Gibbs, draws: Particles, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and covariances [draws, K, ...] in an order that is the same in all draws."""
    step = max(1, len(rows) // _ROWS_FOR_NAMES)
    log_components = gibbs.log_components(draws, gibbs.features(rows[::step]))
    memberships = gibbs.memberships(draws, log_components, 1.0)
    probabilities = (memberships.share / memberships.total[:, None]).mT
    order = orders(probabilities.cpu(), int(memberships.log_likelihood.argmax())).to(rows.device)
    precision = draws.precision if gibbs.hyper.full else torch.diag_embed(draws.precision)
    covariance = torch.linalg.inv(precision)
    covariance = covariance.expand(*draws.mean.shape, draws.mean.shape[-1])
    every = torch.arange(len(order), device=rows.device)[:, None]
    weight, mean, covariance = (
        part[every, order] for part in (draws.log_weights.exp(), draws.mean, covariance)
    )
    by_place = mean[..., 0].mean(0).argsort()
    return weight[:, by_place], mean[:, by_place], covariance[:, by_place]
