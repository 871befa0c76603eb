"""Maximum likelihood with weighted particles, annealed along the way that the parameters take.

Particles with weights stand for the present p. A step of the optimiser changes the energy of every
particle, and the weight follows, which is annealed importance sampling along the parameters:

    log w += E_before(x) - E_now(x),   then x moves by a kernel that leaves the present p invariant.

So the negative phase is unbiased for as long as the weights are even, they are resampled when they
are not, and their mean carries log Z along: learning knows its log likelihood in nats. It begins
with an estimate of log Z and draws of the energy as it was before learning.

The parameters follow the particles of the negative phase, and raise the energy where these happen
to be; log Z from the same particles would be low, by whole nats at large learning rates. So a
second set of particles, which no gradient sees, weighs the way of the parameters: on a way that
does not depend on them the mean of the weights is unbiased.

Source: Carbone, Hua, Coste, Vanden-Eijnden (2023), Efficient training of energy-based models using
Jarzynski equality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing import AIS
from pyro_ebm.annealing.weights import effective_sample_size, systematic_resampling
from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_share, check_whole

from .chains import Chains, ChainState
from .objective import Bound, Judged, Objective
from .stand_in import stand_in


class Weighed(NamedTuple):
    """Chains with weights: ``log_weights`` [n] add up to log Z with ``log_z``; ``energy`` [n] is
    that of each under the parameters at which it was last moved. ``variance`` adds up that of log Z
    as the weights tell it."""

    chains: ChainState
    log_weights: Tensor
    energy: Tensor
    log_z: Tensor
    variance: Tensor


class Particles(NamedTuple):
    """``learning`` are the particles of the negative phase, ``judging`` those of log Z."""

    learning: Weighed
    judging: Weighed

    @property
    def chains(self) -> ChainState:
        """The chains of the negative phase."""
        return self.learning.chains

    @property
    def log_weights(self) -> Tensor:
        """Their log weights [n]."""
        return self.learning.log_weights


@dataclass(frozen=True)
class AnnealedLikelihood(Objective):
    """Maximum likelihood with a negative phase of weighted particles, which keeps log Z known.

    :param num_particles: of the negative phase; there are as many for log Z.
    :param steps: transitions of every particle at a step of learning.
    :param resample_below: the share of effective particles below which they are resampled.
    :param sampler: makes the kernel, as of :class:`.ContrastiveDivergence`; it has to leave p
        invariant.
    :param log_z: that of the energy before learning, a number; "auto" asks the energy, and else
        estimates it by AIS.
    """

    num_particles: int = 1024
    steps: int = 1
    resample_below: float = 0.5
    sampler: Any = "auto"
    log_z: float | str = "auto"

    def __post_init__(self) -> None:
        check_whole("num_particles", self.num_particles, 2)
        check_whole("steps", self.steps, 1)
        check_share("resample_below", self.resample_below)
        if isinstance(self.log_z, str) and self.log_z != "auto":
            raise ValueError(f'log_z must be a number or "auto", got {self.log_z!r}.')

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy.

        :raises ValueError: a sampler without a Metropolis rule.
        """
        return _Bound(energy, self)


class _Bound(Bound):
    def __init__(self, energy: Energy, options: AnnealedLikelihood) -> None:
        super().__init__(energy)
        self.options = options
        self.chains = Chains(energy, options.sampler)
        if self.chains.biased:
            raise ValueError(
                "expected a sampler that leaves p invariant, got unadjusted Langevin dynamics: the "
                "weights would be wrong. Use HMC, or Langevin(adjusted=True)."
            )

    def begin(self, batch: Tensor, generator: torch.Generator) -> Particles:
        number = self.options.num_particles
        draws, log_z, error = self._drawn(2 * number, generator)
        return Particles(
            *(self._begun(batch, part, log_z, error, generator) for part in draws.split(number))
        )

    def judge(self, batch: Tensor, state: Particles, generator: torch.Generator) -> Judged:
        judging, _, _ = self._moved(state.judging, generator)
        learning, acceptance, ess = self._moved(state.learning, generator)
        negatives = self.chains.values(learning.chains.positions)
        share = learning.log_weights.softmax(0)
        data_energy, negative_energy = self.energy(batch), self.energy(negatives)
        loss = data_energy.mean() - (share.to(negative_energy) * negative_energy).sum()
        report = {"acceptance": acceptance, "ess": ess}
        return Judged(loss, Particles(learning, judging), data_energy, negative_energy, report)

    def negatives(self, state: Particles) -> Tensor:
        return self.chains.values(state.chains.positions)

    def log_z(self, state: Particles) -> tuple[float, float]:
        judging = state.judging
        now = self._energies(self.chains.values(judging.chains.positions))
        log_weights = judging.log_weights + (judging.energy - now)
        found = float(judging.log_z + log_weights.logsumexp(0)) - math.log(len(log_weights))
        more = 1.0 / effective_sample_size(log_weights) - 1.0 / len(log_weights)
        return found, math.sqrt(max(0.0, float(judging.variance) + more))

    def held_out(self, rows: Tensor, state: Particles, generator: torch.Generator) -> float:
        known = self.energy.log_normalizer(1.0)
        log_z = self.log_z(state)[0] if known is None else float(known.detach())
        return float(self._energies(rows).mean()) + log_z

    def watched(self, rows: Tensor, state: Particles, generator: torch.Generator) -> float | None:
        # Particles that cannot follow do not know log Z, nor how wrong they are.
        if self.energy.log_normalizer(1.0) is not None:
            return self.held_out(rows, state, generator)
        return stand_in(self.energy, rows, generator, any_temperature=False)

    def _begun(
        self, batch: Tensor, draws: Tensor, log_z: float, error: float, generator: torch.Generator
    ) -> Weighed:
        rows = torch.arange(len(draws), device=batch.device) % len(batch)
        state = self.chains.begin(batch[rows], generator)
        state = state._replace(positions=self.chains.positions_of(draws, generator))
        weights = torch.zeros(len(draws), dtype=torch.float64, device=draws.device)
        log_z_now, variance = weights.new_tensor(log_z), weights.new_tensor(error**2)
        return Weighed(state, weights, self._energies(draws), log_z_now, variance)

    def _moved(self, state: Weighed, generator: torch.Generator) -> tuple[Weighed, float, float]:
        """Particles under the present parameters, with their acceptance rate, and the share of
        them that their weights were worth."""
        chains = self.chains
        before = chains.values(state.chains.positions)
        # The parameters have moved since: the weights take that in.
        log_weights = state.log_weights + (state.energy - self._energies(before))
        ess = effective_sample_size(log_weights) / len(log_weights)
        log_z, variance, moving = state.log_z, state.variance, state.chains
        if ess < self.options.resample_below:
            log_z = log_z + log_weights.logsumexp(0) - math.log(len(log_weights))
            variance = variance + (1.0 / ess - 1.0) / len(log_weights)
            offset = torch.rand((), generator=generator, device=log_weights.device)
            kept = systematic_resampling(log_weights, float(offset))
            moving = moving._replace(positions=moving.positions[:, kept].contiguous())
            log_weights = torch.zeros_like(log_weights)
        moving, acceptance = chains.move(moving, self.options.steps, generator)
        energy = self._energies(chains.values(moving.positions))
        return Weighed(moving, log_weights, energy, log_z, variance), acceptance, ess

    def _energies(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.energy(x).double()

    def _drawn(self, number: int, generator: torch.Generator) -> tuple[Tensor, float, float]:
        """Draws of the energy before learning, with its log Z and the error of that."""
        energy = self.energy
        given = self.options.log_z
        with torch.no_grad():
            known = energy.log_normalizer(1.0) if isinstance(given, str) else torch.tensor(given)
        exact = energy.exact_sample((number,), generator=generator)
        if exact is not None and known is not None:
            return exact, float(known), 0.0
        found = AIS(EnergyDistribution(energy), disable_progbar=True).run()
        if not found.reliable:
            raise ValueError(
                f"log Z of the energy before learning could not be had: {found.why} Begin with an "
                "energy that is easier to sample, such as a net whose last layer is small, tilted "
                "from a base."
            )
        draws = found.draws(number)["x"]
        if known is not None:
            return draws, float(known), 0.0
        return draws, found.log_z, found.std_error
