"""Tilting: an energy that reweights a base distribution.

The density is base(x) exp(-E(x)), the form in which papers on energy-based models write a net: the
base makes it normalisable, and an energy of zero gives the base back.
"""

from __future__ import annotations

import copy

from torch import Tensor
from torch.distributions import Distribution, constraints

from .base import Energy, as_energy, evaluate
from .supports import as_support, elementwise, event_support, same_interior
from .uniform_spins import UniformSpins


class Tilted(Energy):
    """base(x) exp(-E(x)) as an energy: E(x) - log base(x).

    A temperature divides the whole of it: p(x) is proportional to (base(x) exp(-E(x)))^(1/T). The
    base is no module: it stays on the device where it was made and is no part of `state_dict`.

    Args:
        energy: E, any callable, net or energy.
        base: a distribution with batch shape (), whose event and support are the energy's; an
            energy of all real numbers goes with any support.

    Raises:
        TypeError: the base is no distribution.
        ValueError: the base has a batch shape; the energy has another support than the base.
    """

    def __init__(self, energy: object, base: object) -> None:
        if not isinstance(base, Distribution):
            raise TypeError(
                f"expected base to be a torch or Pyro distribution, got {type(base).__name__}."
            )
        if base.batch_shape:
            raise ValueError(
                f"expected a base over whole configurations, with batch shape (), got batch shape "
                f"{tuple(base.batch_shape)} and event shape {tuple(base.event_shape)}. "
                f"Write base.to_event({len(base.batch_shape)})."
            )
        if isinstance(energy, Energy) and not isinstance(
            elementwise(energy.support), type(constraints.real)
        ):
            where = event_support(as_support(base.support), base.event_shape)
            if not same_interior(energy.support, where):
                raise ValueError(
                    f"expected an energy and a base on one support, got {energy.support} and "
                    f"{where}. Take a base on the support of the energy; or say that the energy is "
                    "right on all of the base's: as_energy(energy, support=base.support)."
                )
        super().__init__(base.event_shape, support=base.support)
        self.energy = as_energy(energy, event_shape=base.event_shape, support=base.support)
        self.base = base

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        energies = evaluate(self.energy, x, params)
        if not len(x):  # torch's Independent cannot sum over an empty batch
            return energies
        # The validation in log_prob branches on values, which vmap and traces cannot.
        return energies - without_validation(self.base).log_prob(x)

    @property
    def takes_params(self) -> bool:
        return self.energy.takes_params

    def energy_changes(self, x: Tensor) -> Tensor | None:
        return self.energy.energy_changes(x) if isinstance(self.base, UniformSpins) else None

    @property
    def interactions(self) -> Tensor | None:
        return self.energy.interactions if isinstance(self.base, UniformSpins) else None

    def extra_repr(self) -> str:
        return f"base={self.base}"


def without_validation(distribution: Distribution) -> Distribution:
    """A shallow copy that does not check values, nor do the distributions that it wraps."""
    bare = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Distribution):
            setattr(bare, name, without_validation(value))
    bare._validate_args = False
    return bare
