"""What is measured of a configuration, and what follows from means of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies.states import spin
from pyro_ebm.energies.supports import elementwise
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram

# Of means by name, and a temperature, a quantity.
Derived = Callable[[Mapping[str, Tensor], Tensor], Tensor]
# Names of moments that only serve others begin with this.
HIDDEN = "_"
# Names of standard errors end with this.
_ERROR = "_error"

_RESERVED = {
    *("temperature", "log_z", "free_energy", "internal_energy", "entropy", "heat_capacity", "ess"),
    *("magnetization", "susceptibility", "binder_cumulant"),
}


def check_observables(observables: Any) -> dict[str, Callable[..., Tensor]]:
    """Functions by name.

    :raises TypeError: something else.
    :raises ValueError: a name that is taken.
    """
    if observables is None:
        return {}
    if not isinstance(observables, Mapping) or not all(
        isinstance(name, str) and callable(function) for name, function in observables.items()
    ):
        raise TypeError(f"expected observables to be {{name: function}}, got {observables!r}.")
    taken = sorted(
        name
        for name in observables
        if name in _RESERVED or name.startswith(HIDDEN) or name.endswith(_ERROR)
    )
    if taken:
        raise ValueError(
            f"expected other names of observables, got {taken}, which are taken: those of the "
            f"dataset itself, and all that begin with {HIDDEN!r} or end with {_ERROR!r}."
        )
    return dict(observables)


def measured(
    functions: Mapping[str, Callable[..., Tensor]], latents: Mapping[str, Tensor], *, bare: bool
) -> dict[str, Tensor]:
    """By name one number [n] for each of n configurations.

    :param latents: by site its values [n, *shape].
    :param bare: whether the functions take the one variable ``x`` instead of a dictionary.
    :raises ValueError: a function that gives more than one number.
    """
    found = {}
    number = len(next(iter(latents.values())))
    for name, function in functions.items():
        given = latents["x"] if bare else dict(latents)
        values = torch.as_tensor(function(given))
        if values.shape != (number,):
            raise ValueError(
                f"expected the observable {name!r} to give one number for each of {number} "
                f"configurations, got shape {tuple(values.shape)}."
            )
        found[name] = values.double()
    return found


def is_of_spins(target: Target) -> bool:
    """Whether the target is over spins, which have a magnetisation."""
    program = target.program
    if not isinstance(program, DiscreteProgram):
        return False
    return isinstance(elementwise(program.energy.support), type(spin))


def spin_moments(x: Tensor) -> dict[str, Tensor]:
    """Moments of the magnetisation m, the mean of the spins, of configurations [n, *event]."""
    m = x.flatten(1).double().mean(1)
    return {"magnetization": m.abs(), "_square": m.square(), "_fourth": m.pow(4)}


def spin_quantities(num_spins: int) -> dict[str, Derived]:
    """What follows from them: chi = N (<m^2> - <|m|>^2)/T, and 1 - <m^4>/(3 <m^2>^2)."""
    return {
        "susceptibility": lambda mean, temperature: (
            num_spins * (mean["_square"] - mean["magnetization"].square()) / temperature
        ),
        "binder_cumulant": lambda mean, temperature: (
            1.0 - mean["_fourth"] / (3.0 * mean["_square"].square())
        ),
    }
