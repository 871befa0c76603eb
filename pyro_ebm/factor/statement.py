"""`energy_factor`: an energy as a factor exp(-E(values)/T) of a model's joint density.

It is `pyro.factor` with three things more: the energy is evaluated once per element of the plates
around it, a factor that would count plate-size times is refused, and E itself is remembered beside
-E/T, so that results can show it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from pyro.poutine.util import is_validation_enabled
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.energies import (
    Energy,
    as_energy,
    check_values,
    evaluate_rows,
    joint_sizes,
    no_gradient_path,
    values_visible,
)
from pyro_ebm.energies.supports import elementwise
from pyro_ebm.normalizers import (
    checked_temperature,
    guarded,
    known_events,
    remember_events,
    shape_of,
    surroundings,
)

from .events import Context, Reading, context, joint_batch, read


class Unit(TorchDistribution):
    """The distribution behind a factor: no data, log probability -E/T.

    Pyro knows factors by the name of this class, and so treats it like its own.

    Args:
        energy_value: E(values), [*batch].
        temperature: T, a number or a tensor that broadcasts to the batch.
        has_rsample: in guides, whether the factor comes from reparametrised draws.
        captured: by name of the sites that the energy read by closure, where Pyro followed them,
            how many numbers at most.
    """

    def __init__(
        self,
        energy_value: Float[Tensor, "*batch"],
        temperature: float | Tensor = 1.0,
        *,
        has_rsample: bool | None = None,
        captured: Mapping[str, int] | None = None,
    ) -> None:
        self.energy_value = energy_value
        self.temperature = temperature
        self._captured = captured or {}
        if has_rsample is not None:
            self.has_rsample = has_rsample
        super().__init__(shape_of(energy_value), torch.Size((0,)), validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """None: the energy may be any real number or infinite."""
        return {}

    @property
    def support(self) -> constraints.Constraint:
        """The empty value lies anywhere."""
        return constraints.real

    @property
    def log_factor(self) -> Float[Tensor, "*batch"]:
        """-E/T."""
        return -self.energy_value / self.temperature

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Unit:
        """The same factor over a larger batch."""
        batch = joint_sizes(batch_shape)
        new = copy.copy(self)
        new.energy_value = self.energy_value.expand(batch)
        new._batch_shape = batch
        return new

    def captured(self, value: Tensor) -> Mapping[str, int]:
        """The sites of a model that the energy read by closure, if values carried their names."""
        return self._captured

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """The empty value."""
        return self.energy_value.new_empty(self.shape(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """The empty value."""
        return self.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """-E/T, of the batch of the factor and the empty value."""
        shape = joint_sizes(self.batch_shape, shape_of(value)[:-1])
        return self.log_factor.expand(shape)


def energy_factor(
    name: str,
    energy: object,
    *values: object,
    temperature: object = 1.0,
    has_rsample: bool | None = None,
) -> None:
    """Multiply a model's joint density by exp(-E(values)/T).

    The energy is joint: nothing normalises it, and it may depend on whatever it likes. What lies
    right of the enclosing vectorised plates is the event; in a plate the energy is one number per
    element. A tensor whose sizes match the plates is read as carrying them.

    What the energy captures it sees whole: a site of one of the plates, or a discrete latent site
    that is enumerated, is refused there and must be passed (the package's MCMC samples the latter
    instead). The package's own inference also sees what was computed from such a site before the
    energy (`m = loc[z]`, captured); stock Pyro cannot, and is wrong where the energy sums over it.

    Args:
        name: the name of the site.
        energy: an `Energy`, an nn.Module (called on batches of events) or a function of one
            event per value.
        values: tensors [*plates, *event] that the energy takes, in this order.
        temperature: T, positive; a tensor broadcasts with the plates.
        has_rsample: in guides only, whether the factor comes from reparametrised draws.

    Raises:
        TypeError: not an energy, a tensor or a temperature.
        ValueError: a plate would count the factor once per element; the energy samples inside,
            captures a site that must be passed, has no gradient path to its values, is NaN, or is
            not one number per element.
    """
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors or len(tensors) < len(values):
        raise TypeError(
            f"expected energy_factor({name!r}, energy, value, ...) with tensors as values, got "
            f"{[type(value).__name__ for value in values]}. What is no tensor the energy can "
            "capture."
        )
    validate = is_validation_enabled()
    heat = checked_temperature(temperature, values=validate)
    where = context()
    known = known_events(name) or (None,) * len(tensors)
    if isinstance(energy, Energy):
        known = (energy.event_shape, *known[1:])
    readings = [
        read(value, where, name, event_shape=event)
        for value, event in zip(tensors, known, strict=True)
    ]
    remember_events(name, tuple(reading.event for reading in readings))
    first = readings[0]
    per_element = _read_temperature(heat, where, name)
    batch = joint_batch([reading.batch for reading in (*readings, *per_element)], where, name)
    function = as_energy(energy, event_shape=first.event)
    if len(tensors) > 1 and not function.takes_params:
        raise ValueError(
            f"At factor {name!r}: expected an energy of {len(tensors)} values, got one of a single "
            "argument."
        )

    def call(*plain: Tensor) -> Tensor:
        pairs = zip(readings, plain, strict=True)
        return _energies(
            function, [reading._replace(value=value) for reading, value in pairs], batch
        )

    energies, captured = guarded(
        call, *(reading.value for reading in readings), around=surroundings(f"At factor {name!r}: ")
    )
    if values_visible():
        followed = torch.is_grad_enabled() and any(value.requires_grad for value in tensors)
        if followed and not energies.requires_grad:
            raise ValueError(f"At factor {name!r}: {no_gradient_path('its values')}")
        if validate:
            check_values(energies, first.value.expand(batch + first.event), f"factor {name!r}")
    hole = (1,) * where.hole if batch else ()
    for reading in per_element:
        heat = reading.value.reshape(reading.batch + hole)
    unit = Unit(energies.reshape(batch + hole), heat, has_rsample=has_rsample, captured=captured)
    pyro.sample(name, unit, obs=unit.sample(), infer={"is_auxiliary": True})


def _read_temperature(
    temperature: float | Tensor, where: Context, name: str
) -> tuple[Reading, ...]:
    """A temperature that is a tensor, taken apart like a value; its event is one number."""
    if not isinstance(temperature, Tensor) or temperature.dim() == 0:
        return ()
    return (read(temperature, where, name, event_shape=torch.Size()),)


def _energies(function: Energy, readings: list[Reading], batch: torch.Size) -> Tensor:
    """E of every element of the batch, infinite outside the support of the energy."""
    rows = prod(batch)
    flat = [
        reading.value.expand(batch + reading.event).reshape(rows, *reading.event)
        for reading in readings
    ]
    value = evaluate_rows(function, *flat)
    if not isinstance(elementwise(function.support), type(constraints.real)):
        value = torch.where(function.support.check(flat[0]), value, torch.inf)
    return value.reshape(batch)
