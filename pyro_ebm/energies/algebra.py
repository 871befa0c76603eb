"""The algebra of energies: sums, multiples and temperatures.

Adding energies multiplies densities (a product of experts); multiplying an energy by c > 0 is the
same as dividing the temperature by c. What is known of the parts (normaliser, moments, exact draws)
is passed on exactly where it can be proved, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from .base import Energy, as_energy, evaluate
from .checks import as_temperature, values_visible
from .couplings import Bonds, scaled_bonds
from .numbers_seen import holds_at_all
from .parameters import keep
from .supports import same_support


class Scaled(Energy):
    """c E(x): the density exp(-c E(x)/T), which at c > 0 is that of E at temperature T/c.

    At c <= 0 the normaliser is unknown; inside vmap and traces, where the sign of a tensor cannot
    be looked at, it is NaN then.

    Args:
        energy: the energy E.
        factor: c, a finite number of any sign, or a tensor of shape ().

    Raises:
        TypeError: the factor is not real.
        ValueError: the factor is not finite, or a tensor of another shape.
    """

    factor: float | Tensor

    def __init__(self, energy: Energy, factor: object) -> None:
        super().__init__(energy.event_shape, support=energy.support)
        self.energy = energy
        value = as_scalar(factor, "factor")
        if isinstance(value, Tensor):
            keep(self, "factor", value)
        else:
            self.factor = value

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        return self.factor * evaluate(self.energy, x, params)

    @property
    def support(self) -> Constraint:
        return self.energy.support

    @property
    def takes_params(self) -> bool:
        return self.energy.takes_params

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._ask("log_normalizer", temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._ask("mean", temperature)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._ask("variance", temperature)

    def energy_changes(self, x: Tensor) -> Tensor | None:
        changes = self.energy.energy_changes(x)
        return None if changes is None else self.factor * changes

    @property
    def interactions(self) -> Tensor | None:
        return self.energy.interactions

    @property
    def bonds(self) -> Bonds | None:
        """Those of an energy of pairs, times the factor; else None."""
        return scaled_bonds(self.energy, self.factor)

    def _ask(self, what: str, temperature: float | Tensor) -> Tensor | None:
        as_temperature(temperature)
        answer = getattr(self.energy, what)
        if not isinstance(self.factor, Tensor):
            return answer(temperature / self.factor) if self.factor > 0 else None
        is_positive = holds_at_all(lambda factor: factor > 0, self.factor)
        if is_positive is not None:
            return answer(temperature / self.factor) if is_positive else None
        legal = self.factor > 0
        known = answer(temperature / torch.where(legal, self.factor, 1.0))
        return None if known is None else torch.where(legal, known, math.nan)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        as_temperature(temperature)
        if not self.factor > 0:
            return None
        return self.energy.exact_sample(
            shape, temperature=temperature / self.factor, generator=generator
        )

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class Tempered(Energy):
    """E(x)/T0: the density exp(-E(x)/(T0 T)), which is that of E at temperature T0 T.

    Args:
        energy: the energy E.
        temperature: T0, positive, a number or a tensor of shape ().

    Raises:
        TypeError: the temperature is not real.
        ValueError: the temperature is not positive and finite, or a tensor of another shape.
    """

    temperature: float | Tensor

    def __init__(self, energy: Energy, temperature: object) -> None:
        super().__init__(energy.event_shape, support=energy.support)
        self.energy = energy
        as_temperature(temperature)
        value = as_scalar(temperature, "temperature")
        if isinstance(value, Tensor):
            keep(self, "temperature", value)
        else:
            self.temperature = value

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        return evaluate(self.energy, x, params) / self.temperature

    @property
    def support(self) -> Constraint:
        return self.energy.support

    @property
    def takes_params(self) -> bool:
        return self.energy.takes_params

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self.energy.log_normalizer(self._joint(temperature))

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self.energy.mean(self._joint(temperature))

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self.energy.variance(self._joint(temperature))

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        return self.energy.exact_sample(
            shape, temperature=self._joint(temperature), generator=generator
        )

    def energy_changes(self, x: Tensor) -> Tensor | None:
        changes = self.energy.energy_changes(x)
        return None if changes is None else changes / self.temperature

    @property
    def interactions(self) -> Tensor | None:
        return self.energy.interactions

    @property
    def bonds(self) -> Bonds | None:
        """Those of an energy of pairs, over the temperature; else None."""
        return scaled_bonds(self.energy, 1 / self.temperature)

    def _joint(self, temperature: float | Tensor) -> float | Tensor:
        as_temperature(temperature)
        return temperature * self.temperature

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class ProductOfExperts(Energy):
    """The product of densities: E(x) = sum_k E_k(x).

    The normaliser of a product is not known from those of its factors. Params reach every expert
    that has room for them.

    Args:
        experts: at least one energy, all of one event shape and support; functions and nets are
            taken to live where the first `Energy` among them lives.

    Raises:
        ValueError: no experts, or they live in different places.

    Source: Hinton (2002), Training products of experts by minimizing contrastive divergence.
    """

    def __init__(self, experts: Sequence[object]) -> None:
        energies = together(experts, "experts")
        super().__init__(energies[0].event_shape, support=energies[0].support)
        flat = []
        for energy in energies:
            flat.extend(members(energy.experts) if type(energy) is ProductOfExperts else [energy])
        self.experts = nn.ModuleList(flat)

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        return torch.stack(evaluate_all(self.experts, x, params)).sum(0)

    def energy_changes(self, x: Tensor) -> Tensor | None:
        changes = [expert.energy_changes(x) for expert in members(self.experts)]
        known = [change for change in changes if change is not None]
        return torch.stack(known).sum(0) if len(known) == len(changes) else None

    @property
    def interactions(self) -> Tensor | None:
        pairs = [expert.interactions for expert in members(self.experts)]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            return None
        return torch.cat(known).sort(-1).values.unique(dim=0)

    @property
    def support(self) -> Constraint:
        return members(self.experts)[0].support

    @property
    def takes_params(self) -> bool:
        return any(expert.takes_params for expert in members(self.experts))


def members(parts: nn.ModuleList) -> list[Energy]:
    """What a ModuleList of energies holds, by its right type."""
    return [part for part in parts if isinstance(part, Energy)]


def evaluate_all(parts: nn.ModuleList, x: Tensor, params: tuple[Tensor, ...]) -> list[Tensor]:
    """The energies of all members; params go to those that have room for them."""
    return [evaluate(e, x, params if e.takes_params else ()) for e in members(parts)]


def as_scalar(value: Any, name: str) -> Any:
    """One finite real number, or a tensor of shape () that holds one, in floating point."""
    if isinstance(value, Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"expected {name} to be real, got a tensor of {value.dtype}.")
        if value.dim():
            raise ValueError(
                f"expected {name} to be a number or a tensor of shape (), got shape "
                f"{tuple(value.shape)}. A batch of temperatures belongs in "
                "EnergyDistribution(energy, temperature=...)."
            )
        if values_visible() and not bool(value.isfinite()):
            raise ValueError(f"expected {name} to be finite, got {value.detach()}.")
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected {name} to be a real number, got {type(value).__name__}.")
    if not torch.tensor(float(value)).isfinite():
        raise ValueError(f"expected {name} to be finite, got {value}.")
    return float(value)


def together(parts: Sequence[object], name: str) -> list[Energy]:
    """Energies that live in one place: one event shape, one support."""
    if not parts:
        raise ValueError(f"expected at least one energy in {name}, got none.")
    host = next((part for part in parts if isinstance(part, Energy)), None)
    if host is None:
        energies = [as_energy(part) for part in parts]
    else:
        energies = [
            part
            if isinstance(part, Energy)
            else as_energy(part, event_shape=host.event_shape, support=host.support)
            for part in parts
        ]
    first = energies[0]
    for energy in energies[1:]:
        if energy.event_shape != first.event_shape:
            raise ValueError(
                f"expected {name} of one event shape, got {tuple(first.event_shape)} and "
                f"{tuple(energy.event_shape)}. Build them for the same configurations."
            )
        if not same_support(energy.support, first.support):
            raise ValueError(
                f"expected {name} on one support, got {first.support} and {energy.support}. "
                "Put one on the other's with as_energy(energy, support=other.support)."
            )
    return energies
