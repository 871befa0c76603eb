"""The temperature of a learned energy: at which exp(-E/T) has the energies of the data.

Maximum likelihood gives T = 1. What is learned otherwise, with chains that make errors, or scores
of blurred data, may be the energy of the data's density up to a factor, or anything near that. The
likeliest temperature of rows x_1 ... x_n solves d/dT [-mean E/T - log Z(T)] = 0, which is

    <E>_T = mean of E over the data,

and <E>_T rises with T, as its slope in beta = 1/T is minus the variance of E. Chains that follow
exp(-beta E) give mean and variance, Newton steps find beta, and the draws at the last one are
reweighted for what is left. Rows that were not learned from give the temperature of the density;
those that were give one that is a little low, as far as they are remembered.

Source: Ackley, Hinton, Sejnowski (1985), A learning algorithm for Boltzmann machines, whose
gradient this is in one direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.api.arguments import check_whole

from .chains import Chains
from .objective import energy_for
from .rows import as_rows

# Newton steps at most, and how far beta may go in one, as a factor.
_ROUNDS, _FURTHEST = 30, 2.0
_SETTLE, _LOOK = 20, 10
_CLOSE = 2.0


class CalibratedTemperature(NamedTuple):
    """T with its standard error, from the rows and from the chains."""

    temperature: float
    error: float


# (beta, transitions) -> energies [draws, chains] of chains that are moved on at beta.
Trace = Callable[[float, int], Tensor]


def calibrate_temperature(
    energy: Any,
    data: Any,
    *,
    num_chains: int = 256,
    num_draws: int = 100,
    sampler: Any = "auto",
    generator: torch.Generator | None = None,
) -> CalibratedTemperature:
    """The temperature T at which the mean energy under exp(-E/T) is that of the data.

    :param energy: an Energy, a net or a function that can be normalised.
    :param data: rows [n, *event], best those that were not learned from.
    :param num_chains: chains, which begin at rows of data.
    :param num_draws: transitions of each, after the temperature has been found.
    :param sampler: makes the kernel, as of :class:`.PersistentContrastiveDivergence`.
    :param generator: the random stream; one seeded from torch's global one unless given.
    :raises TypeError, ValueError: data that are no configurations of the energy.
    """
    check_whole("num_chains", num_chains, 2)
    check_whole("num_draws", num_draws, 2)
    rows = as_rows(data)
    taken = energy_for(energy, rows)
    if generator is None:
        generator = torch.Generator(rows.device).manual_seed(int(torch.randint(2**62, ())))
    stream = generator
    level = torch.ones((), dtype=rows.dtype, device=rows.device)
    tempered = taken / level
    chains = Chains(tempered, sampler)
    order = torch.randint(len(rows), (num_chains,), generator=stream, device=rows.device)
    state = chains.begin(rows[order], stream)

    def trace(beta: float, transitions: int) -> Tensor:
        nonlocal state
        level.fill_(1.0 / beta)
        found = []
        for _ in range(transitions):
            state, _ = chains.move(state, 1, stream)
            with torch.no_grad():
                found.append(taken(chains.values(state.positions)).double())
        return torch.stack(found)

    with torch.no_grad():
        of_data = taken(rows).double()
    return solve_temperature(trace, of_data, num_draws=num_draws)


def solve_temperature(trace: Trace, of_data: Tensor, *, num_draws: int) -> CalibratedTemperature:
    """The temperature at which traced energies have the mean of those of the data [n].

    :raises ValueError: energies that do not vary, or are not finite.
    """
    wanted = float(of_data.mean())
    rows_error = float(of_data.std()) / math.sqrt(len(of_data)) if len(of_data) > 1 else math.inf
    beta, near = 1.0, 0
    for _ in range(_ROUNDS):
        trace(beta, _SETTLE)
        found = trace(beta, _LOOK)
        apart, variance = float(found.mean()) - wanted, float(found.var())
        if not (math.isfinite(apart) and variance > 0.0):
            raise ValueError(
                f"expected chains with energies that vary, got a mean of {float(found.mean()):g} "
                f"and a variance of {variance:g} at T = {1.0 / beta:g}. Give the energy a base "
                "(Tilted) or a confining term, so that it can be normalised."
            )
        error = math.hypot(rows_error, _chains_error(found))
        step = beta + apart / variance
        beta = min(max(step, beta / _FURTHEST), beta * _FURTHEST)
        near = near + 1 if abs(apart) < _CLOSE * error else 0
        if near == 2:
            break
    trace(beta, _SETTLE)
    found = trace(beta, num_draws)
    variance = float(found.var())
    beta = beta + _left(found.reshape(-1), wanted, variance)
    error = math.hypot(rows_error, _chains_error(found)) / variance
    return CalibratedTemperature(1.0 / beta, error / beta**2)


def _chains_error(energies: Tensor) -> float:
    """The standard error of the mean, from the means of independent chains."""
    return float(energies.mean(0).std()) / math.sqrt(energies.shape[1])


def _left(energies: Tensor, wanted: float, variance: float) -> float:
    """What beta still lacks: draws reweighted by exp(-d E) have the wanted mean at d."""
    centred, lacking = energies - energies.mean(), wanted - float(energies.mean())
    # Beyond a spread of one in d E a few draws would have all the weight.
    most = 1.0 / math.sqrt(variance)
    low, high = -most, most
    for _ in range(60):
        middle = 0.5 * (low + high)
        share = (-middle * centred).softmax(0)
        if float((share * centred).sum()) > lacking:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
