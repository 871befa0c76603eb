"""A deep generative model with an energy for its prior: p(z) is learned beside the decoder.

    p(z) = exp(-E(z)) N(z; 0, 1) / Z,      x given z by a likelihood of decoder(z).

A decoder alone has to bend a round cloud of latents into whatever shape data have; here the energy
carves the cloud: clusters of data become basins of E. With latents z+ of data and z- of the prior,

    d log p(x) = E_z+[d log p(x|z+) - dE(z+)] + E_z-[dE(z-)].

The latents of data come from lasting HMC chains over each row's posterior, exact but for the pace
at which chains follow, or from an encoder, at once and within its family.

Source: Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model; Kingma,
Welling (2014), Auto-encoding variational Bayes; Burda, Grosse, Salakhutdinov (2016), Importance
weighted autoencoders.
"""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from pyro_ebm.annealing import AIS
from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy, MLPEnergy, Tilted
from pyro_ebm.mcmc.api.arguments import check_whole

from .latent_fit import FittedLatents, LatentOptions, fit_latent_model
from .latent_rows import observed_rows, rows_for
from .latents import Generated, Latents, LikelihoodBound
from .learned_energy import LearnedEnergy
from .likelihoods import GaussianLikelihood
from .posterior_draws import posterior_draws

# Proposals of the importance-weighted bound are this much wider than the posterior draws.
_WIDER = 1.2


class LatentEnergyModel(nn.Module):
    """Rows of data from a decoder of latents whose prior is exp(-E(z)) N(z; 0, 1) / Z.

    :param decoder: a net from latents [n, d] to what the likelihood takes, one number for each
        entry of a row [n, *event].
    :param energy: a net from latents [n, d] to E, a function of the package's kinds, or None for a
        perceptron with two hidden layers of 64.
    :param latent_dim: d.
    :param likelihood: from the decoder's output to a distribution of every entry, such as
        :class:`.GaussianLikelihood` (the default) or :class:`.BernoulliLikelihood`.
    :param encoder: a net from rows [n, *event] to means and log standard deviations of their
        latents, [n, 2 d]; None for chains.
    :param objective: of the energy, as of :class:`.LearnedEnergy`: chains of the prior, which
        ``AnnealedLikelihood`` weighs so that log Z is known.
    :raises ValueError: an energy of other latents; no latents.

    :ivar prior: the :class:`.LearnedEnergy` of the latents.
    """

    def __init__(
        self,
        decoder: nn.Module,
        energy: nn.Module | None = None,
        *,
        latent_dim: int,
        likelihood: nn.Module | None = None,
        encoder: nn.Module | None = None,
        objective: Any = "auto",
    ) -> None:
        super().__init__()
        check_whole("latent_dim", latent_dim, 1)
        if energy is None:
            energy = MLPEnergy((latent_dim,), confinement=None)
        if isinstance(energy, Energy) and tuple(energy.event_shape) != (latent_dim,):
            raise ValueError(
                f"expected an energy of {latent_dim} latents, got one of event shape "
                f"{tuple(energy.event_shape)}."
            )
        like = next(iter(energy.parameters()), torch.empty(()))
        base = dist.Normal(like.new_zeros(latent_dim), like.new_ones(latent_dim)).to_event(1)
        self.latent_dim = latent_dim
        self.decoder, self.encoder = decoder, encoder
        self.likelihood = GaussianLikelihood() if likelihood is None else likelihood
        self.energy = Tilted(energy, base)
        self.prior = LearnedEnergy(self.energy, objective)

    def given(self, latents: Shaped[Tensor, "*batch d"]) -> Any:
        """The distribution of every entry of rows [*batch, *event], given their latents."""
        batch = latents.shape[:-1]
        decoded = self.decoder(latents.reshape(-1, self.latent_dim))
        return self.likelihood(decoded.reshape(batch + decoded.shape[1:]))

    def encoded(self, rows: Shaped[Tensor, "n ..."]) -> Any:
        """The encoder's distribution of the latents of rows.

        :raises ValueError: there is no encoder, or it gives other numbers than 2 d.
        """
        if self.encoder is None:
            raise ValueError("expected a model with an encoder, got one that infers by chains.")
        found = self.encoder(rows)
        if found.shape != (len(rows), 2 * self.latent_dim):
            raise ValueError(
                f"expected an encoder that gives means and log standard deviations, [n, "
                f"{2 * self.latent_dim}], got shape {tuple(found.shape)}."
            )
        mean, log_scale = found.chunk(2, -1)
        return dist.Normal(mean, log_scale.exp()).to_event(1)

    def log_joint(
        self, rows: Tensor, latents: Tensor, observed: Tensor | None = None
    ) -> Shaped[Tensor, " n"]:
        """log p(x|z) - E(z) + log N(z; 0, 1), of rows [n, *event] and latents [n, d].

        :param observed: which entries are known, [*event] or [n, *event]; all unless given.
        """
        return self.log_likelihood(rows, latents, observed) - self.energy(latents)

    def log_likelihood(
        self, rows: Tensor, latents: Tensor, observed: Tensor | None = None
    ) -> Shaped[Tensor, " n"]:
        """log p(x|z) of the entries that are known."""
        entries = self.given(latents).log_prob(rows)
        if entries.shape != rows.shape:
            raise ValueError(
                f"expected a decoder and a likelihood of rows {tuple(rows.shape)}, one number for "
                f"each entry, got {tuple(entries.shape)}. Leave to_event out."
            )
        if observed is not None:
            entries = torch.where(observed, entries, 0.0)
        return entries.flatten(1).sum(1)

    def model(self, rows: Shaped[Tensor, "n ..."]) -> None:
        """The model for Pyro: ``SVI(m.model, m.guide, optimiser, Trace_ELBO())`` learns it all."""
        pyro.module("latent_energy_model", self)
        with pyro.plate("rows", len(rows)):
            z = pyro.sample("z", self.prior)
            pyro.sample("x", self.given(z).to_event(rows.dim() - 1), obs=rows)

    def guide(self, rows: Shaped[Tensor, "n ..."]) -> None:
        """The encoder as a guide for :meth:`model`; there must be one."""
        pyro.module("latent_energy_model", self)
        with pyro.plate("rows", len(rows)):
            pyro.sample("z", self.encoded(rows))

    def fit(
        self,
        data: Any,
        *,
        num_steps: int = 2000,
        batch_size: int = 128,
        optimizer: Any = None,
        posterior_steps: int = 2,
        disable_progbar: bool = False,
    ) -> FittedLatents:
        """Learn decoder, energy and encoder together, in place.

        Where the learning rate is too high what was gained is lost again: learning ends then, with
        the parameters of the best look and a :class:`DivergedWarning`.

        :param data: rows [n, *event], a tensor, an array, a data frame or lists of numbers; they
            are taken in the dtype and to the device of the parameters.
        :param num_steps: steps of the optimiser.
        :param batch_size: rows of a batch.
        :param optimizer: makes the optimiser from a list of parameters, or is one; Adam at 1e-3
            unless given.
        :param posterior_steps: without an encoder, transitions of the chains over the latents of a
            row, each time that it is in a batch.
        :param disable_progbar: no progress bar.
        :returns: how it went.
        :raises TypeError, ValueError: data that are no rows of the decoder, or outside of the
            likelihood's support; options outside of their range.
        """
        options = LatentOptions(num_steps, batch_size, posterior_steps)
        rows = rows_for(self, data)
        return fit_latent_model(self, rows, optimizer, options, disable_progbar=disable_progbar)

    def sample(self, number: int) -> Generated:
        """So many new rows: latents from chains that start at those of the prior, decoded."""
        check_whole("number", number, 1)
        with torch.no_grad():
            z = self.prior.sample((number,))
            found = self.given(z)
            return Generated(z, found.mean, found.sample())

    def latents(
        self,
        data: Any,
        *,
        observed: Any = None,
        num_samples: int = 100,
        warmup_steps: int = 100,
        num_chains: int = 4,
    ) -> Latents:
        """Posterior draws of the latents of rows, by HMC from draws of the prior that suit them.

        :param data: rows [n, *event], as :meth:`fit` takes them.
        :param observed: which entries are known, booleans [*event] or [n, *event]; all unless
            given. The others may be NaN.
        :param num_samples: draws of a chain.
        :param warmup_steps: transitions before them, in which the step size is adapted.
        :param num_chains: chains of each row.
        :raises TypeError, ValueError: data as of :meth:`fit`; a mask that is none of theirs.
        """
        check_whole("num_samples", num_samples, 1)
        check_whole("num_chains", num_chains, 1)
        rows, mask = observed_rows(self, data, observed)
        return posterior_draws(
            self,
            rows,
            mask,
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            num_chains=num_chains,
        )

    def reconstruct(self, data: Any, **options: Any) -> Tensor:
        """The posterior mean of every entry of rows [n, *event]; of those that are missing too.

        :param data: rows [n, *event].
        :param options: of :meth:`latents`; ``observed`` says which entries are known.
        """
        found = self.latents(data, **options)
        with torch.no_grad():
            return torch.stack([self.given(z).mean for z in found.draws.flatten(0, 1)]).mean(0)

    def likelihood_bound(self, data: Any, *, num_particles: int = 256) -> LikelihoodBound:
        """A lower bound on log p(x) by importance sampling: the more particles, the tighter.

        Proposals are the encoder's, whose bound with one particle is the ELBO; without an encoder
        Gaussians with the mean and, widened, the covariance of posterior draws.

        :param data: rows [n, *event], held out from learning.
        :param num_particles: K.
        """
        check_whole("num_particles", num_particles, 1)
        rows = rows_for(self, data)
        log_z, error, reliable, why = self._log_z()
        with torch.no_grad():
            proposal: Any = self.encoded(rows) if self.encoder is not None else self._fitted(rows)
            weights = []
            for _ in range(num_particles):
                z = proposal.sample()
                weights.append(self.log_joint(rows, z) - proposal.log_prob(z))
        bound = torch.stack(weights).double().logsumexp(0) - math.log(num_particles) - log_z
        spread = float(bound.std()) / math.sqrt(len(rows)) if len(rows) > 1 else math.nan
        return LikelihoodBound(bound, spread, log_z, error, reliable, why)

    def _log_z(self) -> tuple[float, float, bool, str]:
        known = self.prior.log_z()
        if known is not None:
            return *known, True, "log Z is that of the objective"
        found = AIS(EnergyDistribution(self.energy), disable_progbar=True).run()
        return found.log_z, found.std_error, found.reliable, found.why

    def _fitted(self, rows: Tensor) -> Any:
        """Gaussians around the posterior draws of each row."""
        draws = self.latents(rows).draws.flatten(0, 1)
        off = draws - draws.mean(0)
        covariance = torch.einsum("snd,sne->nde", off, off) / (len(draws) - 1)
        floor = 1e-6 * torch.eye(self.latent_dim).to(covariance)
        factor = _WIDER * torch.linalg.cholesky(covariance + floor)
        return dist.MultivariateNormal(draws.mean(0), scale_tril=factor)
