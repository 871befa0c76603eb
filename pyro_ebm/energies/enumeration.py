"""Exact answers for small discrete energies, by listing every configuration.

log Z(T) = log sum_x exp(-E(x)/T), and with the probabilities p(x) = exp(-E(x)/T)/Z all else: the
mean energy U, its variance T^2 C, the entropy S = (U + T log Z)/T, and the moments of the sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .base import Energy, as_energy, evaluate_rows
from .changes import checked_states
from .checks import as_temperature
from .parameters import spread_out
from .states import is_one_hot

MAX_CONFIGURATIONS = 2**22
MAX_LISTED = 2**12


class Enumeration(NamedTuple):
    """What there is to know of a discrete energy at given temperatures, in float64.

    Attributes:
        temperature: T, [*batch].
        log_z: log of the sum over configurations of exp(-E/T), [*batch].
        mean_energy: the mean of E, [*batch].
        energy_variance: the variance of E, which is T^2 times the heat capacity, [*batch].
        entropy: S in nats, [*batch].
        marginals: the probability of each state of each site, states ascending,
            [*batch, *event, K]; of one-hot rows, whose event ends with their states, [*batch,
            *event].
        mean: the mean of x, [*batch, *event].
        covariance: of the sites of the flattened event, [*batch, n, n].
        observable: the mean of what was asked for beside, [*batch, *shape]; else None.
        energies: E of all configurations, in the order of `configurations`, [K^n].
    """

    temperature: Float[Tensor, "*batch"]
    log_z: Float[Tensor, "*batch"]
    mean_energy: Float[Tensor, "*batch"]
    energy_variance: Float[Tensor, "*batch"]
    entropy: Float[Tensor, "*batch"]
    marginals: Float[Tensor, ...]
    mean: Float[Tensor, ...]
    covariance: Float[Tensor, "*batch n n"]
    observable: Tensor | None
    energies: Float[Tensor, " configurations"]

    @property
    def log_probabilities(self) -> Float[Tensor, "*batch configurations"]:
        """log p of all configurations, in the order of `configurations`."""
        return -self.energies / self.temperature.unsqueeze(-1) - self.log_z.unsqueeze(-1)


def exact_enumeration(
    energy: object,
    temperature: float | Tensor = 1.0,
    *,
    observable: Callable[[Tensor], Tensor] | None = None,
    chunk_size: int = 2**15,
) -> Enumeration:
    """Sum over every configuration of a discrete energy, 2^22 at most; without gradient.

    Args:
        energy: an energy on a discrete support.
        temperature: T, a number or a tensor [*batch].
        observable: whose mean is wanted, a function of configurations [N, *event] to [N, *shape].
        chunk_size: how many configurations are evaluated at once.

    Raises:
        ValueError: a support that is not discrete and finite; more than 2^22 configurations; an
            energy that is NaN or minus infinity somewhere, or infinite everywhere.
    """
    listed = as_energy(energy)
    count = count_configurations(listed)
    if count > MAX_CONFIGURATIONS:
        raise ValueError(
            f"expected at most 2^22 configurations, got {count:.4g} of "
            f"{type(listed).__name__} with event shape {tuple(listed.event_shape)}. "
            "Take fewer sites, hold some of them with clamp(energy, ...), or estimate "
            "log Z with AIS or ThermodynamicIntegration."
        )
    with torch.no_grad():
        one_hot = is_one_hot(listed.support)
        states = None if one_hot else checked_states(listed).double()
        chunks = [evaluate_rows(listed, x).double() for x in _chunks(listed, count, chunk_size)]
        energies = torch.cat(chunks)
        _check_energies(listed, energies)
        value = as_temperature(temperature).double().to(energies.device)
        levels = value.reshape(-1, 1)
        log_z = (-energies / levels).logsumexp(-1)
        sums: list[Tensor] = []
        offset = 0
        for x in _chunks(listed, count, chunk_size):
            part = energies[offset : offset + len(x)]
            offset += len(x)
            weights = (-part / levels - log_z.unsqueeze(-1)).exp()
            # What is ruled out has no share: nought, where nought times infinity is no number.
            part = torch.where(part.isfinite(), part, 0.0)
            flat = x.double().reshape(len(x), -1)
            found = flat  # one-hot rows say themselves which state each site is in
            if states is not None:
                found = (flat.unsqueeze(-1) == states.to(flat.device)).double().flatten(1)
            terms = [weights @ part, weights @ part.square(), weights @ found, weights @ flat]
            terms.append(torch.stack([(row.unsqueeze(-1) * flat).mT @ flat for row in weights]))
            if observable is not None:
                seen = observable(x).double()
                shape = seen.shape[1:]
                terms.append((weights @ seen.reshape(len(x), -1)).reshape(-1, *shape))
            sums = [a + b for a, b in zip(sums, terms, strict=True)] if sums else terms
    mean_energy, square, marginals, mean, products = sums[:5]
    covariance = products - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    batch, event = value.shape, listed.event_shape
    seen = sums[5] if observable is not None else None
    return Enumeration(
        value,
        log_z.reshape(batch),
        mean_energy.reshape(batch),
        (square - mean_energy.square()).clamp(min=0).reshape(batch),
        (mean_energy / levels.squeeze(-1) + log_z).reshape(batch),
        marginals.reshape(*batch, *event, *(() if states is None else states.shape)),
        mean.reshape(batch + event),
        covariance.reshape(*batch, *covariance.shape[-2:]),
        None if seen is None else seen.reshape(batch + seen.shape[1:]),
        energies,
    )


def _check_energies(energy: Energy, energies: Tensor) -> None:
    """Infinity rules a configuration out; all else must be a number, and something be left.

    Raises:
        ValueError: NaN, minus infinity, or nothing left.
    """
    wrong = energies.isnan() | (energies == -torch.inf)
    if not bool(wrong.any()) and bool(energies.isfinite().any()):
        return
    number = int(wrong.int().argmax())
    x = configurations(energy, torch.tensor([number]))[0].tolist()
    raise ValueError(
        f"expected {type(energy).__name__} to be finite, or infinite where a configuration is "
        f"ruled out, got {float(energies[number])} at "
        + (f"{x}." if bool(wrong.any()) else "all configurations.")
    )


def count_configurations(energy: Energy) -> int:
    """How many configurations a discrete energy has.

    Raises:
        ValueError: a support that is not discrete and finite.
    """
    if is_one_hot(energy.support):
        *sites, states = energy.event_shape
        return states ** math.prod(sites)
    return len(checked_states(energy)) ** energy.event_shape.numel()


def configurations(energy: Energy, index: Int[Tensor, " n"]) -> Float[Tensor, "n ..."]:
    """Configurations by number: the first site changes slowest, states ascend.

    Args:
        energy: a discrete energy.
        index: numbers from 0 to K^n - 1.

    Returns:
        Configurations [N, *event], in the dtype of the energy.
    """
    like = next(
        (t for t in [*energy.parameters(), *energy.buffers()] if t.is_floating_point()), None
    )
    if is_one_hot(energy.support):
        *sites, number = energy.event_shape
        found = digits(index, number, math.prod(sites))
        rows = torch.eye(number) if like is None else torch.eye(number).to(like)
        return rows[found.to(rows.device)].reshape(len(index), *energy.event_shape)
    states = checked_states(energy, like)
    found = digits(index, len(states), energy.event_shape.numel())
    return states[found.to(states.device)].reshape(len(index), *energy.event_shape)


def digits(
    index: Int[Tensor, "*batch"], num_states: int, sites: int
) -> Int[Tensor, "*batch sites"]:
    """The numbers of the states of all sites in configurations by number."""
    # No number of a configuration that fits into 63 bits reaches a higher power.
    powers = torch.tensor([min(num_states**place, 2**62) for place in reversed(range(sites))])
    return index.unsqueeze(-1) // powers.to(index.device) % num_states


def listed_log_z(energy: Energy, temperature: float | Tensor) -> Float[Tensor, "*batch"] | None:
    """log Z by the sum over all configurations, with gradient; None when there are too many."""
    count = count_configurations(energy)
    if count > MAX_LISTED:
        return None
    energies = evaluate_rows(energy, configurations(energy, torch.arange(count))).double()
    value = as_temperature(temperature).double().to(energies.device)
    return (-energies / value.unsqueeze(-1)).logsumexp(-1)


def listed_sample(
    energy: Energy,
    shape: Sequence[int],
    *,
    temperature: float | Tensor,
    generator: torch.Generator | None,
) -> Tensor | None:
    """Independent draws from the list of all configurations; None when there are too many."""
    count = count_configurations(energy)
    if count > MAX_LISTED:
        return None
    with torch.no_grad():
        energies = evaluate_rows(energy, configurations(energy, torch.arange(count))).double()
        levels, which = (
            spread_out(temperature, shape).double().reshape(-1).unique(return_inverse=True)
        )
        index = torch.zeros_like(which)
        for number, level in enumerate(levels):
            here = which == number
            shares = (-(energies - energies.min()) / level.to(energies.device)).exp()
            drawn = torch.multinomial(shares, int(here.sum()), True, generator=generator)
            index[here] = drawn.to(index.device)
        return configurations(energy, index).reshape(*shape, *energy.event_shape)


def _chunks(energy: Energy, count: int, size: int) -> Iterator[Tensor]:
    for first in range(0, count, size):
        yield configurations(energy, torch.arange(first, min(first + size, count)))
