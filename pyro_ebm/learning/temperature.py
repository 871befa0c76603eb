"""The temperature of a learned energy: at which exp(-E/T) has the energies of the data.

Maximum likelihood gives T = 1. What is learned otherwise, with chains that make errors, or scores
of blurred data, may be the energy of the data's density up to a factor, or anything near that. The
likeliest temperature of rows x_1 ... x_n solves d/dT [-mean E/T - log Z(T)] = 0, which is

    <E>_T = mean of E over the data,

and <E>_T rises with T, as its slope in beta = 1/T is minus the variance of E. Chains that follow
exp(-beta E) give mean and slope, and Newton steps between betas that are known to be too low and
too high find beta. At each beta chains begin anew at rows of data: at the right one, where
exp(-beta E) is their density, they are in equilibrium from the start, and whether they cross
barriers does not matter. Where the energy is not that of the data they must run until they have
forgotten these, and run longer, or the result says that they have not.

Rows that were not learned from give the temperature of the density; those that were give one that
is a little low, as far as they are remembered.

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

from .chains import Chains, ChainState
from .objective import energy_for
from .rows import as_rows
from .temperature_look import SEEN, Advance, Begin, Look, look

# Looks at most, draws of the first ones, and how many times num_draws the last may take.
_LOOKS, _FIRST_DRAWS, _LONGEST = 60, 10, 8
# How far beta goes up or down at once, while nothing bounds it.
_FURTHEST = 4.0
# beta times the spread of energies, below which they are as those at beta = 0.
_FLAT = 0.1
# Roundings of an energy, in which all energies at a minimum lie.
_ROUNDINGS = 16.0


class NoTemperatureError(ValueError):
    """No positive temperature gives chains the mean energy of the data."""


class CalibratedTemperature(NamedTuple):
    """T with its standard error, from the rows and from the chains.

    :ivar reliable: whether every check was passed.
    :ivar why: a sentence on what that rests on, or what speaks against it: no check sees a part of
        space that neither the data nor a chain has met.
    """

    temperature: float
    error: float
    reliable: bool = True
    why: str = ""

    def __repr__(self) -> str:
        known = self.error > 0.0 and math.isfinite(self.error) and math.isfinite(self.temperature)
        places = max(0, 1 - math.floor(math.log10(self.error))) if known else 3
        verdict = "reliable" if self.reliable else "not reliable"
        return f"T = {self.temperature:.{places}f} ± {self.error:.{places}f} ({verdict})"


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
    :param num_draws: transitions of each, after the temperature has been found; up to eight times
        as many where that does not suffice.
    :param sampler: makes the kernel, as of :class:`.PersistentContrastiveDivergence`.
    :param generator: the random stream; one seeded from torch's global one unless given.
    :raises TypeError, ValueError: data that are no configurations of the energy, and data that no
        positive temperature fits.
    """
    check_whole("num_chains", num_chains, 2)
    check_whole("num_draws", num_draws, 4)
    rows = as_rows(data)
    taken = energy_for(energy, rows)
    if generator is None:
        generator = torch.Generator(rows.device).manual_seed(int(torch.randint(2**62, ())))
    stream = generator
    level = torch.ones((), dtype=rows.dtype, device=rows.device)
    chains = Chains(taken / level, sampler)

    def start(beta: float) -> ChainState:
        level.fill_(1.0 / beta)
        return chains.begin(rows[starting_rows(len(rows), num_chains, stream)], stream)

    begin = beginning(
        start,
        lambda state: chains.move(state, 1, stream)[0],
        lambda state: taken(chains.values(state.positions)),
    )
    with torch.no_grad():
        of_data = taken(rows)
    return solve_temperature(begin, of_data, num_draws=num_draws)


def beginning(
    start: Callable[[float], ChainState],
    move: Callable[[ChainState], ChainState],
    energies: Callable[[ChainState], Tensor],
) -> Begin:
    """Chains that begin anew at each beta, with the step size that those before have learned.

    :param start: chains at rows of data, at a beta that they follow from then on.
    :param move: all chains by one transition.
    :param energies: of where they are [chains].
    """
    step_size: Tensor | None = None

    def begin(beta: float) -> tuple[Tensor, Advance]:
        state = start(beta)
        if step_size is not None:
            state = state._replace(step_size=step_size)

        def here() -> Tensor:
            with torch.no_grad():
                return energies(state).double()

        def advance(transitions: int) -> Tensor:
            nonlocal state, step_size
            found = []
            for _ in range(transitions):
                state = move(state)
                found.append(here())
            step_size = state.step_size
            return torch.stack(found)

        return here(), advance

    return begin


def starting_rows(num_rows: int, number: int, stream: torch.Generator) -> Tensor:
    """Indices [number] of rows, each as often as any other, or once more."""
    rounds = -(-number // num_rows)
    every = [
        torch.randperm(num_rows, generator=stream, device=stream.device) for _ in range(rounds)
    ]
    return torch.cat(every)[:number]


def solve_temperature(begin: Begin, of_data: Tensor, *, num_draws: int) -> CalibratedTemperature:
    """The temperature at which energies of chains have the mean of those of the data [n].

    :raises NoTemperatureError: energies that do not vary, or are not finite; data that have at
        least the energies of infinite temperature, or lie at a minimum.
    """
    rounding = _ROUNDINGS * torch.finfo(of_data.dtype).eps * float(of_data.abs().max())
    of_data = of_data.double()
    draws = min(_FIRST_DRAWS, num_draws)
    beta, low, high = 1.0, 0.0, math.inf
    looks = 0
    while True:
        looks += 1
        seen = look(begin, beta, draws=draws, of_data=of_data)
        _check_energies(seen, beta, rounding)
        newton, uncertain = beta + seen.apart / seen.slope, seen.error / seen.slope
        settled = abs(seen.apart) < seen.error and seen.answers
        if settled and seen.lowest >= seen.wanted - rounding:
            raise _too_cold(seen, beta)
        hopeless = (
            beta * math.sqrt(seen.variance) < _FLAT and seen.answers and newton < 2.0 * uncertain
        )
        if draws >= num_draws:
            if hopeless:
                raise _too_hot(seen, newton, uncertain)
            if settled and (_verdict(seen)[0] or draws >= _LONGEST * num_draws):
                return _result(newton, uncertain, beta, _verdict(seen))
        if looks == _LOOKS:
            break
        if settled or hopeless or not seen.answers:
            longer = 4 * draws if draws < num_draws else 2 * draws
            limit = num_draws if draws < num_draws else _LONGEST * num_draws
            draws, low, high = min(longer, limit), 0.0, math.inf
        elif seen.apart > SEEN * seen.error:
            low = max(low, beta)
        elif seen.apart < -SEEN * seen.error:
            high = min(high, beta)
        if low >= high:  # one of them was an accident
            low, high = 0.0, math.inf
        beta = _next(newton, beta, low, high)
    if low > 0.0 and math.isinf(high) and newton > 1.5 * beta:
        raise _too_cold(seen, beta)
    fair, why = _verdict(seen)
    advice = "Try more num_chains or num_draws." if fair else f"In the last, {why}"
    ended = f"no temperature was settled in {_LOOKS} looks. {advice}"
    return _result(newton, math.inf, beta, (False, ended))


def _result(
    newton: float, uncertain: float, beta: float, verdict: tuple[bool, str]
) -> CalibratedTemperature:
    # Further than that, the slope at beta says nothing.
    beta = min(max(newton, 0.5 * beta), 2.0 * beta)
    return CalibratedTemperature(1.0 / beta, uncertain / beta**2, *verdict)


def _verdict(seen: Look) -> tuple[bool, str]:
    """Whether a look that found the mean energy of the data is to be held for equilibrium."""
    if not seen.answers:
        return False, "the chains hardly move. Give another sampler."
    if seen.drifts:
        return False, (
            "the mean energy of the chains still drifts. Give more num_draws, or an energy that "
            "can be normalised."
        )
    if seen.forgets:
        return True, "the chains have forgotten where they began."
    if seen.stays:
        return True, (
            "the chains remember where they began, and have energies spread as those of the data, "
            "as they must at the right temperature."
        )
    return False, (
        "the chains remember where they began, and the energy is not that of the data, which have "
        "energies of another spread. Give more num_draws, or a sampler that crosses barriers."
    )


def _next(newton: float, beta: float, low: float, high: float) -> float:
    """The beta to look at next: by Newton's step, unless that is outside of what is possible."""
    if math.isinf(high) and newton > 1.5 * beta:
        return _FURTHEST * beta
    tried = min(max(newton, beta / _FURTHEST), _FURTHEST * beta)
    if low < tried < high:
        return tried
    if math.isinf(high):
        return _FURTHEST * low
    return math.sqrt(low * high) if low > 0.0 else high / _FURTHEST


def _check_energies(seen: Look, beta: float, rounding: float) -> None:
    if not (math.isfinite(seen.apart) and math.isfinite(seen.variance)):
        raise NoTemperatureError(
            f"expected chains with finite energies, got a mean of {seen.mean:g} and a variance of "
            f"{seen.variance:g} at T = {1.0 / beta:g}. Give the energy a base (Tilted) or a "
            "confining term, so that it can be normalised."
        )
    if math.sqrt(seen.variance) <= rounding:
        raise _too_cold(seen, beta)


def _too_cold(seen: Look, beta: float) -> NoTemperatureError:
    return NoTemperatureError(
        f"expected data above the minimum of the energy, got a mean energy of "
        f"{seen.wanted:g}, and chains that have {seen.mean:g} with a spread of "
        f"{math.sqrt(seen.variance):g} at T = {1.0 / beta:g}: no positive temperature fits, or the "
        "energy is constant. Give rows that vary, or an energy that was learned from them."
    )


def _too_hot(seen: Look, newton: float, uncertain: float) -> NoTemperatureError:
    return NoTemperatureError(
        f"expected data with less energy than at infinite temperature, got a mean energy of "
        f"{seen.wanted:g}, where chains have {seen.mean:g}, and 1/T = {newton:g} ± "
        f"{uncertain:g}: no positive temperature fits. Look at the sign of the energy, or learn it "
        "from these data."
    )
