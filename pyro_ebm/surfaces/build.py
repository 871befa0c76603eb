"""log Z as a function of an energy's params, estimated once and for all over a box of them.

Of an energy that is linear in its params log Z is a sum over the levels of the energy, and how many
configurations each level has is estimated from a pool of draws (:mod:`.pooled`). Of any other one
the mean gradient is fitted by a polynomial (:mod:`.polynomial`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.annealing.start import check_whole
from pyro_ebm.energies import Energy, as_energy
from pyro_ebm.energies.enumeration import count_configurations
from pyro_ebm.energies.sites import num_sites, site_values

from .box import Box
from .chains import Chains
from .checks import bounds, check_takes, number
from .counted import CountedSurface
from .linear import LinearEnergy
from .polynomial import polynomial_surface
from .pooled import counted_surface
from .surface import LogNormalizerSurface

_MOST_PARAMS = 4


def log_normalizer_surface(
    energy: object,
    low: Sequence[float],
    high: Sequence[float],
    *,
    event_shape: object = None,
    support: object = None,
    temperature: float = 1.0,
    degree: int | None = None,
    num_chains: int = 16,
    num_sweeps: int = 300,
    start: Tensor | None = None,
) -> CountedSurface | LogNormalizerSurface:
    """Estimate log Z of a discrete energy over a box of its params, once and for all.

    Args:
        energy: E(x, *params), as :class:`~pyro_ebm.EnergyDistribution` takes it.
        low: the least value of each of one to four params.
        high: the largest.
        event_shape: the shape of one configuration; None means the energy's own.
        support: its states; None means the energy's own.
        temperature: T, for which the surface holds.
        degree: asks for a polynomial of this degree. Unless given, an energy that is linear in its
            params has its configurations counted, and any other one a polynomial of degree 14, 8, 5
            or 4 for one to four params.
        num_chains: independent chains at every point, at least 4.
        num_sweeps: of every chain, the first fifth of which is not counted.
        start: a configuration from which some chains of a polynomial begin, beside random ones and
            those with all sites in one state. Where configurations are counted it says nothing, and
            a warning says so: replicas come there from the uniform law.

    Returns:
        A function f(*params, temperature), differentiable, for ``log_normalizer=``, with
        ``std_error(*params)``, ``max_error``, ``check``, ``reliable`` and ``why``.

    Raises:
        TypeError: no energy, or one that takes another number of params; bounds or a temperature
            that are no numbers.
        ValueError: a continuous energy; an empty box, or one of more than four params; arguments
            out of range.
    """
    wrapped = as_energy(energy, event_shape=event_shape, support=support)
    first, last = bounds("low", low), bounds("high", high)
    _check_arguments(first, last, num_chains, num_sweeps, degree, temperature)
    check_takes(energy, len(first))
    log_states = math.log(count_configurations(wrapped))
    numbers = None if start is None else _numbers_of(start, wrapped)
    box = Box(first, last, float(temperature))
    generator = torch.Generator(torch.get_default_device()).manual_seed(
        int(torch.randint(2**62, ()))
    )
    with poutine.block(), torch.no_grad():
        if degree is None:
            linear = LinearEnergy(wrapped, first, last)
            counted = counted_surface(
                linear, box, num_ladders=num_chains, num_sweeps=num_sweeps, generator=generator
            )
            if counted is not None:
                if start is not None:
                    warnings.warn(
                        "start= is not used: this energy is linear in its params, so that its "
                        "configurations are counted by replicas from the uniform law. Leave it "
                        "out, or give degree= for a polynomial.",
                        stacklevel=2,
                    )
                return counted
        chains = Chains.of(
            wrapped,
            len(first),
            box.temperature,
            num_chains=num_chains,
            num_sweeps=num_sweeps,
            start=numbers,
        )
        return polynomial_surface(
            chains, box, degree=degree, log_states=log_states, generator=generator
        )


def _numbers_of(start: Tensor, energy: Energy) -> Tensor:
    """The numbers of states [sites] of a configuration."""
    states = site_values(energy)
    given = torch.as_tensor(start)
    right = given.numel() == energy.event_shape.numel()
    # One number a site, or of one-hot rows as many as states.
    flat = given.to(states).reshape(num_sites(energy), -1) if right else states.new_empty(0, 1)
    found = (flat[:, None] == states.reshape(len(states), -1)).all(-1)
    if not right or not bool(found.any(1).all()):
        raise ValueError(
            f"expected start to be a configuration of shape {tuple(energy.event_shape)} with the "
            f"states {states.tolist()}, got {given.tolist()}."
        )
    return found.int().argmax(1)


def _check_arguments(
    low: Tensor,
    high: Tensor,
    num_chains: int,
    num_sweeps: int,
    degree: int | None,
    temperature: float,
) -> None:
    if len(low) != len(high) or not 1 <= len(low) <= _MOST_PARAMS:
        raise ValueError(
            f"expected low and high of one to {_MOST_PARAMS} params each, got {len(low)} and "
            f"{len(high)}."
        )
    if not bool((low < high).all()) or not bool(low.isfinite().all() & high.isfinite().all()):
        raise ValueError(
            f"expected finite bounds with low below high, got {low.tolist()} and {high.tolist()}."
        )
    check_whole("num_chains", num_chains, 4)
    check_whole("num_sweeps", num_sweeps, 20)
    if degree is not None:
        check_whole("degree", degree, 1)
    if not 0 < number("temperature", temperature) < math.inf:
        raise ValueError(f"expected a positive temperature, got {temperature}.")
