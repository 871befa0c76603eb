"""The evidence of a mixture by importance and bridge sampling, at the posterior itself.

Half of the chains make a proposal (:mod:`.proposal`), which has every order of the components and
is the nearer to the posterior the more states it knows. Its draws, and draws of the other half of
the chains, tell log Z together (Bennett 1976). Nothing depends on a path from the prior, on which
mixtures change phase.

What speaks against an estimate: importance weights with a heavy tail, importance sampling alone
that comes to something else, chains that remember where they began, and particles annealed from the
prior that find more than the chains.

Source: Frühwirth-Schnatter (2004), Estimating marginal likelihoods for mixture and Markov switching
models using bridge sampling techniques.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing.bennett import bennett, forward_discrepancy
from pyro_ebm.annealing.verdict import LEAST_ESS
from pyro_ebm.annealing.weights import effective_sample_size, log_mean_exp
from pyro_ebm.diagnostics import pareto_khat

from .anneal import ISLAND, Moves, drawn, islands, mean_of
from .chains import NUM_CHAINS, Chains, chains
from .gibbs import Gibbs, Particles
from .proposal import Proposal, Stored

# States that the proposal knows, and every how many draws of a chain one is taken to the bridge.
_STATES, _EVERY = 512, 2
# Standard errors that two answers may lie apart; and the largest error of annealed particles with
# which they say much.
_APART, _BLUNT = 4.0, 0.5
# From here on weights say that the error is large, and no longer how large.
_SATURATED = 0.5
# The share of the effective sample size from which on weights hardly differ.
_EVEN = 0.95
# The Pareto shape of a tail that has no mean, and what a proposal may miss, in nats.
_NO_MEAN, _MISSED = 1.0, 0.5


class Posterior(NamedTuple):
    """log Z of standardised rows, and draws [chains, draws, ...] of the posterior."""

    evidence: LogZ
    draws: Particles


class Bridge(NamedTuple):
    """log Z with its error; log weights of the proposal's draws [n] and of the chains' [m], which
    are worth ``independent`` ones."""

    log_z: float
    error: float
    forward: Tensor
    backward: Tensor
    independent: float

    @property
    def ess(self) -> float:
        """How many independent draws of a perfect proposal have this error."""
        return 1.0 / (self.error**2 + 1.0 / len(self.forward))

    @property
    def khat(self) -> float:
        """The Pareto shape of the proposal's weights."""
        return pareto_khat(self.forward)


def posterior(
    moves: Moves, num_particles: int, generator: torch.Generator, *, log_jacobian: float
) -> Posterior:
    """Anneal, sample, and bridge.

    :param num_particles: draws of the proposal, and particles that are annealed.
    :param log_jacobian: what is added to log Z for the units of the data.
    """
    annealed, num_steps = islands(moves, num_particles // ISLAND, generator)
    found = chains(moves, drawn(annealed, NUM_CHAINS // 2, generator), generator)
    bridge = _bridge(moves.gibbs, found, num_particles, generator)
    upwards = mean_of(annealed)
    problems = problems_of(bridge, found.log_likelihood, upwards)
    evidence = LogZ(
        bridge.log_z + log_jacobian,
        bridge.error,
        "mixture bridge sampling",
        reliable=not problems,
        why=_sentence(problems, upwards[1]),
        ess=bridge.ess,
        khat=bridge.khat,
        num_particles=num_particles,
        log_weights=bridge.forward + log_jacobian,
        details={
            "base": "sweeps from states of the chains, in every order of the components",
            "log_z_importance": float(log_mean_exp(bridge.forward)) + log_jacobian,
            "log_z_annealed": upwards[0] + log_jacobian,
            "error_annealed": upwards[1],
            "islands": [each.log_z + log_jacobian for each in annealed],
            "num_temperatures": num_steps,
            "independent_draws": bridge.independent,
            "complete": True,
        },
    )
    return Posterior(evidence, found.draws)


def _bridge(gibbs: Gibbs, found: Chains, num_particles: int, generator: torch.Generator) -> Bridge:
    """log Z between a proposal made of every other chain and draws of the rest."""
    known = Stored(*(part[::2].flatten(0, 1) for part in found.stored))
    order = torch.randperm(len(known.mean), generator=generator, device=generator.device)
    proposal = Proposal(gibbs, Stored(*(part[order[:_STATES]] for part in known)))
    prior = Proposal.prior(gibbs)

    def log_weights(particles: Particles, log_likelihood: Tensor) -> Tensor:
        log_density = log_likelihood + prior.log_density(particles)
        return (log_density - proposal.log_density(particles)).double()

    fresh = proposal.sample(num_particles, generator)
    fitted = gibbs.memberships(fresh, gibbs.log_components(fresh), 1.0)
    forward = log_weights(fresh, fitted.log_likelihood)
    others = Particles(*(part[1::2, ::_EVERY].flatten(0, 1) for part in found.draws))
    log_likelihood = found.log_likelihood[1::2, ::_EVERY]
    backward = log_weights(others, log_likelihood.flatten())
    log_z, _ = bennett(forward, backward)
    share = math.log(len(forward) / len(backward))
    bottom = torch.sigmoid(share + log_z - backward).reshape(log_likelihood.shape)
    independent = _worth(bottom)
    return Bridge(
        *bennett(forward, backward, num_backward_independent=independent),
        forward,
        backward,
        independent,
    )


def _worth(values: Tensor) -> float:
    """How many independent draws these [chain, draw] are worth, by what chains differ."""
    number = values.numel()
    spread = float(values.mean(1).var()) / len(values)
    worth = float(values.var()) / spread if spread > 0.0 else float(number)
    return min(max(worth, 2.0), float(number))


def problems_of(bridge: Bridge, log_likelihood: Tensor, upwards: tuple[float, float]) -> list[str]:
    """What speaks against the estimate.

    :param log_likelihood: of the chains, those from the prior last.
    :param upwards: log Z and its error by annealed particles.
    """
    if not math.isfinite(bridge.log_z):
        return ["no draw of the proposal has a finite weight"]
    problems = []
    # What a bridge averages is bounded. Only weights without a mean stand against it, and not even
    # these where they hardly differ.
    even = effective_sample_size(bridge.forward) > _EVEN * len(bridge.forward)
    if bridge.khat > _NO_MEAN and not even:
        problems.append(
            f"weights of the proposal have no mean (k-hat {bridge.khat:.2f}): it is too narrow"
        )
    if bridge.ess < LEAST_ESS:
        problems.append(
            f"draws are worth {bridge.ess:.0f} independent ones, fewer than {LEAST_ESS:.0f}; take "
            "more particles"
        )
    if bridge.error > _SATURATED:
        problems.append(
            f"the error of {bridge.error:.2g} is near the largest that weights can tell, and the "
            "true one may be larger; take more particles"
        )
    apart, error = forward_discrepancy(
        bridge.forward, bridge.backward, num_backward_independent=bridge.independent
    )
    # Chains may know a little more than the proposal: that is what they are there for.
    if apart < -_APART * error or apart > max(_MISSED, _APART * error):
        problems.append(
            f"with draws of the chains log Z comes out {apart:+.3f} ± {error:.2g} from what the "
            "proposal's own draws say: one of the two has missed a region; take more particles"
        )
    mean = log_likelihood.mean(1)
    cooled, annealed = mean[NUM_CHAINS // 2 :], mean[: NUM_CHAINS // 2]
    shift = float(cooled.mean() - annealed.mean())
    spread = math.sqrt(float(cooled.var() + annealed.var()) / len(cooled))
    if abs(shift) > _APART * spread:
        problems.append(
            "chains from the prior and chains from annealed particles do not agree: log "
            f"likelihoods are {shift:+.2f} ± {spread:.2g} apart, and some have not arrived"
        )
    above, joint = upwards[0] - bridge.log_z, math.hypot(upwards[1], bridge.error)
    if above > _APART * joint:
        problems.append(
            f"particles annealed from the prior find {above:+.3f} ± {joint:.2g} more: the chains "
            "have missed a region"
        )
    return problems


def _sentence(problems: list[str], annealed_error: float) -> str:
    if problems:
        return "; ".join(problems) + "."
    told = "particles annealed from the prior find no more"
    if annealed_error > _BLUNT:
        told = (
            f"particles annealed from the prior tell too little to check (± {annealed_error:.2g})"
        )
    return (
        "Importance and bridge sampling agree, chains do not remember where they began, and "
        f"{told}. What neither has met cannot be noticed."
    )
