"""Draws and log Z of an energy over rows, annealed from a mixture.

Rows drawn from the base go through the densities between base and target,

    log p_beta = (1 - beta) log base - beta E/T,

and are moved at each by :class:`.RowChains`; the increments of log p_beta add up to log weights,
whose mean is Z. The inverse temperatures come from a pilot of other rows, which spaces them by
equal barriers and finds a step size for each; the rows that count meet a path that does not depend
on them, so that the mean weight is unbiased. They are resampled at the end, for draws.

Source: Neal (2001), Annealed importance sampling; Syed, Bouchard-Cote, Chern, Doucet (2024),
Optimised annealed sequential Monte Carlo samplers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing.verdict import LEAST_ESS, has_heavy_tail
from pyro_ebm.annealing.weights import (
    beta_ahead,
    effective_sample_size,
    log_mean_exp,
    standard_error,
    systematic_resampling,
)
from pyro_ebm.diagnostics import pareto_khat
from pyro_ebm.learning.chains import ChainState

from .mixture_base import MixtureBase
from .row_chains import EnergyOfRows, RowChains

_PILOTS, _BARRIER, _MOST_STEPS = 256, 0.25, 400
_CHECKED, _APART = 10, 4.0


class AnnealedRows(NamedTuple):
    """``rows`` [n, dim] are draws of the target, ``state`` their chains, and ``log_z`` the
    estimate."""

    rows: Tensor
    state: ChainState
    log_z: LogZ


def annealed_rows(
    energy: EnergyOfRows,
    base: MixtureBase,
    num_states: Sequence[int],
    *,
    number: int,
    temperature: float,
    generator: torch.Generator,
) -> AnnealedRows:
    """Anneal rows from the base to exp(-E/T).

    :param energy: from rows [n, dim] to [n].
    :param number: how many rows.
    """
    path = _Path(energy, base, num_states, temperature)
    betas, sizes = path.pilot(generator)
    rows = base.sample(number, generator)
    state = path.chains.begin(rows)
    log_weights = torch.zeros(number, dtype=torch.float64, device=rows.device)
    for before, after, size in zip(betas, betas[1:], sizes, strict=False):
        log_weights = log_weights + (after - before) * path.slope(path.chains.rows(state))
        path.beta = after
        state, _ = path.chains.move(state._replace(step_size=size), 1, generator)
    offset = float(torch.rand((), generator=generator, device=rows.device))
    kept = systematic_resampling(log_weights, offset)
    state = state._replace(positions=state.positions[:, kept].contiguous())
    before = energy_mean(energy, path.chains.rows(state))
    state, _ = path.chains.move(state, _CHECKED, generator)
    drawn = path.chains.rows(state)
    ess = effective_sample_size(log_weights)
    apart = _apart(before, energy_mean(energy, drawn), ess)
    return AnnealedRows(drawn, state, _estimate(log_weights, len(betas) - 1, apart, path))


class _Path:
    """The densities between; ``beta`` is where the chains are."""

    def __init__(
        self,
        energy: EnergyOfRows,
        base: MixtureBase,
        num_states: Sequence[int],
        temperature: float,
    ) -> None:
        self.energy, self.base, self.temperature = energy, base, temperature
        self.beta = 0.0
        self.chains = RowChains(self._between, num_states)

    def _between(self, rows: Tensor) -> Tensor:
        share = self.beta / self.temperature
        return share * self.energy(rows) - (1.0 - self.beta) * self.base.log_prob(rows)

    def slope(self, rows: Tensor) -> Float[Tensor, " n"]:
        """d log p_beta / d beta."""
        with torch.no_grad():
            found = -self.energy(rows).double() / self.temperature
            return found - self.base.log_prob(rows).double()

    def pilot(self, generator: torch.Generator) -> tuple[list[float], list[Tensor]]:
        """Inverse temperatures at equal barriers, and the step size at each but the first."""
        state = self.chains.begin(self.base.sample(_PILOTS, generator))
        state, _ = self.chains.move(state, _CHECKED, generator)
        betas, sizes = [0.0], []
        while betas[-1] < 1.0 and len(betas) <= _MOST_STEPS:
            slope = self.slope(self.chains.rows(state))
            even = torch.zeros_like(slope)
            beta = beta_ahead(even, slope, betas[-1], _BARRIER)
            increments = (beta - betas[-1]) * slope
            offset = float(torch.rand((), generator=generator, device=slope.device))
            kept = systematic_resampling(increments, offset)
            state = state._replace(positions=state.positions[:, kept].contiguous())
            betas.append(beta)
            self.beta = beta
            sizes.append(state.step_size)
            state, _ = self.chains.move(state, 1, generator)
        betas[-1], self.beta = 1.0, 0.0
        return betas, sizes


def energy_mean(energy: EnergyOfRows, rows: Tensor) -> Float[Tensor, " n"]:
    """Energies of rows, in float64 and without gradient."""
    with torch.no_grad():
        return energy(rows).double()


def _apart(before: Tensor, after: Tensor, ess: float) -> float:
    """How many standard errors the mean energy has moved, while chains went on."""
    error = math.sqrt(float(before.var() + after.var()) / max(ess, 1.0))
    return abs(float(after.mean() - before.mean())) / max(error, 1e-12)


def _estimate(log_weights: Tensor, steps: int, apart: float, path: _Path) -> LogZ:
    ess, khat = effective_sample_size(log_weights), pareto_khat(log_weights)
    problems = []
    if ess < LEAST_ESS:
        problems.append(f"the weights are worth {ess:.0f} of {len(log_weights)} rows")
    if has_heavy_tail(log_weights, khat):
        problems.append(f"the tail of the weights is heavy, k-hat {khat:.2f}")
    if apart > _APART:
        problems.append(
            f"the mean energy moved by {apart:.1f} standard errors while chains went on"
        )
    why = (
        "; ".join(problems) + ". Take more rows, or a base nearer to the data."
        if problems
        else f"{steps} steps from the mixture, and further transitions did not move the energy"
    )
    return LogZ(
        float(log_mean_exp(log_weights)),
        standard_error(log_weights),
        "annealing from the mixture",
        not problems,
        why,
        ess=ess,
        khat=khat,
        num_particles=len(log_weights),
        log_weights=log_weights,
        details={"num_temperatures": steps, "temperature": path.temperature},
    )
