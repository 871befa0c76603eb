"""Bridge sampling: log Z from the draws of a finished MCMC run, with no further sampling.

A normalised proposal q is fitted to one half of the draws; between as many independent draws of q
and the other half of the draws of p, log Z is Bennett's acceptance ratio. The halves are then
swapped and the two estimates averaged. With weights w = p/q, equal shares of both and

    overlap = 2 * integral of p q / (p + q),

which is 1 for q = p and falls to 0, the variance of log Z from n independent draws of each is
(2 / n) (1 / overlap - 1): neither a heavy nor a light tail of q spoils it. Draws of chains are not
independent: they count as many as their integrand's effective sample size says.

What no chain has met is missing from draws, proposal and estimate alike, and nothing here can tell.

Source: Meng, Wong (1996), Simulating ratios of normalizing constants; Frühwirth-Schnatter (2004),
Estimating marginal likelihoods for mixture and Markov switching models using bridge sampling
techniques; Gronau et al. (2017), A tutorial on bridge sampling.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.diagnostics import ess_is_reliable, ess_mean
from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.mcmc.api.diagnosis import findings
from pyro_ebm.mcmc.api.record import RunRecord
from pyro_ebm.target import Target

from .autoregressive import autoregressive_base, fit_autoregression
from .bennett import bennett
from .families import independent
from .log_z import Backward, LogZ
from .path import Base
from .start import check_whole
from .weights import log_mean_exp, standard_error

_LEAST_OVERLAP, _LEAST_ESS, _APART = 0.05, 100.0, 4.0
# From here on chains are split into two groups; fewer are each cut in the middle.
_FEWEST_CHAINS = 4
# From so many short chains the spread of their means tells what the draws are worth.
_CHAINS_THAT_TELL = 16
# Fewer draws than this many a coordinate leave nothing to fit.
_DRAWS_PER_COORDINATE = 4
# What a diagnosis says of the errors of means, which this estimate has an error of its own for.
_NO_MATTER = ("bulk ESS", "tail ESS", "short for R-hat", "short chains", "partial")
# Numbers held at once.
_NUMBERS = 2**24


def bridge_sampling(mcmc: MCMC, *, num_draws: int | None = None) -> LogZ:
    """log Z of the target of a finished run: of a model, its log evidence.

    Of an :class:`EnergyDistribution` that knows its normaliser the run's target is normalised
    already, and log Z is 0 but for the error; run the energy itself, or a distribution without
    ``log_normalizer``, to estimate that of exp(-E/T).

    :param mcmc: a run that kept whole positions, without ``sites=``.
    :param num_draws: so many of the draws are used, spread evenly over each chain; all unless
        given.
    :raises RuntimeError: before the run.
    :raises TypeError: something else than a run, one over states, or one of :class:`Exchange`,
        whose density lacks log Z(theta).
    :raises ValueError: a run without whole positions, or with too few draws to fit a proposal to.

    ``positions`` of the result are the draws, ``ess`` what they are worth; ``backward.works`` the
    log weights of the draws and ``details["forward_works"]`` those of the proposals.
    """
    if not isinstance(mcmc, MCMC):
        raise TypeError(f"expected a finished ebm.MCMC run, got {type(mcmc).__name__}.")
    record = mcmc.record
    if record.target.num_states is not None:
        raise TypeError(
            "bridge_sampling fits a density to draws, and this run is over the states of a "
            "discrete energy. Use AIS, SMC or ParallelTempering."
        )
    if record.target.sampled:
        raise TypeError(
            "bridge_sampling fits a density to draws, and in this run the discrete sites "
            f"{list(record.target.sampled)} were sampled. Use AIS where they can be summed out."
        )
    if record.lacks_log_z:
        raise TypeError(
            "bridge_sampling needs the density of the draws, and what an Exchange run knows of it "
            "lacks log Z(theta). Give the sites that lack it log_normalizer=f, a function such as "
            "listed_log_normalizer and log_normalizer_surface make, and then run NUTS and "
            "bridge_sampling, or AIS."
        )
    positions, log_density = _used(record, num_draws)
    seed = int(torch.randint(2**62, ()))
    generator = torch.Generator(record.target.device).manual_seed(seed)
    with poutine.block(), torch.no_grad():
        first, second = _split(positions), _split(log_density)
        swapped = [
            _half(record.target, first[i], first[1 - i], second[1 - i], generator) for i in (0, 1)
        ]
    return _joined(record, positions, swapped, {"seed": seed, "dtype": str(record.target.dtype)})


class Half(NamedTuple):
    """An estimate from one half of the draws, with a proposal fitted to the other.

    ``proposal_variance`` and ``draws_variance`` are their shares of the variance of log Z.
    """

    log_z: float
    proposal_variance: float
    draws_variance: float
    ess: float
    overlap: float
    forward: Tensor
    backward: Tensor
    measurable: bool

    @property
    def error(self) -> float:
        """The standard error of this half alone."""
        return math.sqrt(self.proposal_variance + self.draws_variance)


def _used(record: RunRecord, num_draws: int | None) -> tuple[Tensor, Tensor]:
    """Positions [chain, draw, dim] and log densities [chain, draw] that are to be used."""
    target, chains = record.target, record.num_chains
    if not record.keeps_all:
        raise ValueError(
            f"expected a run that kept all {target.dim} coordinates, got one with "
            f"{record.positions.shape[-1]}. Run it without sites=."
        )
    each = record.num_draws
    if num_draws is not None:
        check_whole("num_draws", num_draws, 1)
        each = min(each, max(1, num_draws // chains))
    # The last draws, evenly apart.
    stride = record.num_draws // each
    chosen = torch.arange(each) * stride + record.num_draws - 1 - (each - 1) * stride
    least = 2 * max(_DRAWS_PER_COORDINATE * target.dim, 10)
    if chains * each < least:
        raise ValueError(
            f"expected at least {least} draws for {target.dim} coordinates, got {chains} chains of "
            f"{each}. Run longer or with more chains."
        )
    index = chosen.to(record.positions.device)
    return record.positions[:, index], record.statistics["lp"][:, index].double()


def _split(values: Tensor) -> tuple[Tensor, Tensor]:
    """Two halves of [chain, draw, ...]: every other chain, or of few chains each one's halves."""
    if len(values) >= _FEWEST_CHAINS:
        return values[::2], values[1::2]
    middle = values.shape[1] // 2
    return values[:, :middle], values[:, middle:]


def _half(
    target: Target, fitted: Tensor, left: Tensor, log_density: Tensor, generator: torch.Generator
) -> Half:
    """log Z between a proposal fitted to some draws and the draws that are left."""
    draws = fitted.reshape(-1, target.dim).T.to(target.dtype)
    fit = fit_autoregression(independent(draws))
    proposal = autoregressive_base(fit, widen=1.0, description="a density fitted to the draws")
    n = log_density.numel()
    drawn = proposal.sample(n, generator).contiguous()
    forward = _log_weights(target, proposal, drawn, None)
    flat = left.reshape(-1, target.dim).T.contiguous()
    backward = _log_weights(target, proposal, flat, log_density.reshape(-1))
    ess, known = float(n), True
    # What the draws are worth depends on log Z a little, and log Z on it hardly.
    for _ in range(2):
        log_z, _ = bennett(forward, backward, num_backward_independent=ess)
        if not math.isfinite(log_z):
            return Half(log_z, math.inf, 0.0, 0.0, 0.0, forward, backward, measurable=False)
        _, bottom = _integrands(forward, backward, log_z, n / (n + ess))
        ess, known = _worth(bottom.reshape(log_density.shape))
    log_z, _ = bennett(forward, backward, num_backward_independent=ess)
    top, bottom = _integrands(forward, backward, log_z, n / (n + ess))
    return Half(
        log_z,
        float(top.var() / top.mean().square()) / n,
        float(bottom.var() / bottom.mean().square()) / ess,
        ess,
        float(_integrands(forward, backward, log_z, 0.5)[0].mean()),
        forward,
        backward,
        measurable=known,
    )


def _integrands(
    forward: Tensor, backward: Tensor, log_z: float, share: float
) -> tuple[Tensor, Tensor]:
    """p / (s_R p + s_F q) at the proposals and q / (s_R p + s_F q) at the draws, p normalised."""
    odds = math.log(share) - math.log1p(-share)
    top = torch.sigmoid(forward - log_z - odds) / (1.0 - share)
    return top, torch.sigmoid(odds + log_z - backward) / share


def _log_weights(
    target: Target, proposal: Base, positions: Tensor, log_density: Tensor | None
) -> Tensor:
    """log p - log q [n] in float64 at positions [dim, n]."""
    size = max(1, _NUMBERS // target.numbers_in_memory)
    found = []
    for start in range(0, positions.shape[1], size):
        part = positions[:, start : start + size].contiguous()
        if log_density is None:
            at_target, _ = target.log_density_and_gradient(part)
        else:
            at_target = log_density[start : start + size]
        at_proposal, _ = proposal.log_density_and_gradient(part)
        found.append(at_target.double() - at_proposal.double())
    log_weights = torch.cat(found)
    return torch.where(log_weights.isnan(), -torch.inf, log_weights)


def _worth(values: Tensor) -> tuple[float, bool]:
    """How many independent draws these [chain, draw] are worth, and whether that can be known."""
    chains, draws = values.shape
    n = float(values.numel())
    if float(values.std()) <= 1e-12 * float(values.abs().max()):
        return n, True
    if not ess_is_reliable(draws):
        spread = float(values.mean(1).var()) / chains if chains > 1 else math.nan
        effective = float(values.var()) / spread if spread > 0 else math.nan
        known = chains >= _CHAINS_THAT_TELL
    else:
        effective, known = float(ess_mean(values)), True
    if not math.isfinite(effective):
        return max(float(chains), 2.0), False
    return float(np.clip(effective, 2.0, n)), known


def _joined(
    record: RunRecord, positions: Tensor, halves: list[Half], details: dict[str, object]
) -> LogZ:
    """The average of both halves, its error, and whether it is to be trusted."""
    first, second = halves
    log_z = 0.5 * (first.log_z + second.log_z)
    # Either half's draws have made the other's proposal: where that is all that is wrong with it
    # the two errors are the same, so they count as fully correlated.
    shared = math.sqrt(first.draws_variance) + math.sqrt(second.draws_variance)
    own = first.proposal_variance + second.proposal_variance
    error = 0.5 * math.sqrt(own + shared**2)
    forward = torch.cat([half.forward for half in halves])
    works = torch.cat([half.backward for half in halves])
    ess = first.ess + second.ess
    overlap = min(half.overlap for half in halves)
    problems = [
        f"the run itself has a problem: {str(finding).rstrip('.')}"
        for finding in findings(record)
        if finding.severity == "problem" and finding.name not in _NO_MATTER
    ]
    problems += _problems(halves, ess, overlap)
    if not math.isfinite(log_z):
        log_z, error = math.nan, math.inf
    back = Backward(works, -float(log_mean_exp(-works)), standard_error(-works), log_z, error)
    flat = positions.flatten(0, 1).T.contiguous()
    return LogZ(
        log_z,
        error,
        "bridge sampling",
        reliable=not problems,
        why=_sentence(problems, overlap, ess),
        ess=ess,
        num_particles=flat.shape[1],
        log_weights=works.new_zeros(flat.shape[1]),
        positions=flat,
        target=record.target,
        backward=back,
        details={
            **details,
            "base": "a density fitted to the draws",
            "overlap": overlap,
            "halves": [(half.log_z, half.error) for half in halves],
            "forward_works": forward,
        },
    )


def _problems(halves: list[Half], ess: float, overlap: float) -> list[str]:
    """What the halves say against their average."""
    first, second = halves
    if overlap == 0.0:
        return ["the proposal and the draws do not overlap at all"]
    found = []
    if overlap < _LEAST_OVERLAP:
        found.append(
            f"the proposal and the draws overlap by {overlap:.1%} only; the density is too unlike "
            "one that can be fitted: anneal with AIS"
        )
    apart = abs(first.log_z - second.log_z) / math.hypot(first.error, second.error)
    if apart > _APART:
        found.append(
            f"the two halves of the draws give {first.log_z:.3f} and {second.log_z:.3f}, "
            f"{apart:.1f} joint errors apart"
        )
    if not all(half.measurable for half in halves):
        found.append("the chains are too short and too few to tell what their draws are worth")
    elif ess < _LEAST_ESS:
        found.append(f"the draws are worth {ess:.0f} independent ones, fewer than {_LEAST_ESS:.0f}")
    return found


def _sentence(problems: list[str], overlap: float, ess: float) -> str:
    if problems:
        return "; ".join(problems) + "."
    return (
        f"The chains agree, both halves of their draws give the same, they are worth {ess:.0f} "
        f"independent ones, and the proposal overlaps with them by {overlap:.0%}. What no chain "
        "has met cannot be noticed."
    )
