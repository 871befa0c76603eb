"""Clamping: the energy of some coordinates while the others are held.

exp(-E(x_free, x_held)/T) as a function of x_free is, up to its normaliser, the conditional density
of the free coordinates given the held ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions.constraints import Constraint

from .base import Energy, as_energy, evaluate
from .checks import values_visible
from .parameters import keep
from .supports import elementwise, event_support, select


def clamp(energy: object, held: object, values: float | Tensor) -> Clamped:
    """The energy of the free coordinates, the held ones at the given values.

    Args:
        energy: an `Energy` whose event has at least one dimension.
        held: which coordinates are held: a boolean tensor of the event's shape, or, for events of
            one dimension, an index or a sequence or tensor of indices.
        values: a number, or a tensor [num_held] in the order of `held` (a mask's is row-major).

    Returns:
        An energy of event shape (num_free,), the free coordinates in row-major order.

    Raises:
        TypeError: `held` is neither a mask nor indices.
        ValueError: a mask of another shape; indices out of range or twice; nothing left free;
            values of another shape or outside the support; a support whose coordinates depend on
            one another, such as the simplex.
    """
    whole = as_energy(energy)
    event = whole.event_shape
    if not event:
        raise ValueError(
            "expected an energy of vectors or arrays, got event shape (): there is one coordinate, "
            "and nothing would be left free."
        )
    support = elementwise(whole.support)
    if support is None:
        raise ValueError(
            f"expected a support of independent coordinates, such as real or an interval, got "
            f"{whole.support}: holding some of its coordinates changes where the others may be. "
            "Write the conditional energy as a function with its own support."
        )
    positions = _positions(held, event)
    total = event.numel()
    free = torch.tensor([i for i in range(total) if i not in set(positions)], dtype=torch.long)
    if not len(free):
        raise ValueError(f"expected at least one free coordinate, got all {total} held.")
    fixed = torch.as_tensor(values)
    if not fixed.is_floating_point():
        fixed = fixed.to(torch.get_default_dtype())
    if fixed.shape not in ((), (len(positions),)):
        raise ValueError(
            f"expected one number or values of shape ({len(positions)},), one for each held "
            f"coordinate, got {tuple(fixed.shape)}."
        )
    at = torch.tensor(positions, dtype=torch.long)
    place = select(support, event, at)
    if values_visible() and not bool(place.check(fixed.detach()).all()):
        raise ValueError(
            f"expected held values inside the support {support}, got {fixed.detach()}."
        )
    return Clamped(whole, free, at, values=fixed)


class Clamped(Energy):
    """An energy with some coordinates held: made by `clamp`.

    Args:
        energy: the whole energy.
        free: positions of the free coordinates in the flattened event.
        held: positions of the others.
        values: what they are held at, one number or one for each.
    """

    order: Tensor
    inverse_order: Tensor
    values: Tensor

    def __init__(self, energy: Energy, free: Tensor, held: Tensor, *, values: Tensor) -> None:
        super().__init__((len(free),))
        self.energy = energy
        order = torch.cat([free, held])
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())
        keep(self, "values", values)

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        return evaluate(self.energy, self.merge(x), params)

    @property
    def support(self) -> Constraint:
        """The support of the free coordinates alone."""
        event = self.energy.event_shape
        place = elementwise(self.energy.support)
        if place is None:
            raise ValueError(f"expected independent coordinates, got {self.energy.support}.")
        free = self.order[: self.event_shape.numel()]
        return event_support(select(place, event, free), self.event_shape)

    @property
    def takes_params(self) -> bool:
        return self.energy.takes_params

    def energy_changes(self, x: Tensor) -> Tensor | None:
        changes = self.energy.energy_changes(self.merge(x))
        if changes is None:
            return None
        return changes.flatten(1, -2).index_select(1, self.order[: self.event_shape.numel()])

    @property
    def interactions(self) -> Tensor | None:
        pairs = self.energy.interactions
        if pairs is None:
            return None
        places = self.inverse_order[pairs]
        return places[(places < self.event_shape.numel()).all(-1)]

    def merge(self, free: Shaped[Tensor, "*batch free"]) -> Tensor:
        """Whole configurations [*batch, *event] from their free coordinates [*batch, num_free]."""
        batch = free.shape[:-1]
        num_held = len(self.order) - self.event_shape.numel()
        held = self.values.to(free.device).expand(*batch, num_held)
        whole = torch.cat([free, held], -1).index_select(-1, self.inverse_order)
        return whole.reshape(batch + self.energy.event_shape)

    def free(self, x: Tensor) -> Float[Tensor, "*batch free"]:
        """The free coordinates [*batch, num_free] of whole configurations [*batch, *event]."""
        batch = x.shape[: x.dim() - len(self.energy.event_shape)]
        flat = x.reshape(*batch, self.energy.event_shape.numel())
        return flat.index_select(-1, self.order[: self.event_shape.numel()])


def _positions(held: object, event: torch.Size) -> list[int]:
    """Positions in the flattened event, in the order in which values are given."""
    if isinstance(held, Tensor) and held.dtype == torch.bool:
        if held.shape != event:
            raise ValueError(
                f"expected a mask of the event's shape {tuple(event)}, got {tuple(held.shape)}."
            )
        return held.reshape(-1).nonzero().squeeze(-1).tolist()
    if isinstance(held, Tensor):
        if held.is_floating_point() or held.is_complex():
            raise TypeError(f"expected a boolean mask or integer indices, got {held.dtype}.")
        held = held.tolist()
    indices = [held] if isinstance(held, int) and not isinstance(held, bool) else held
    if not isinstance(indices, Sequence) or not all(
        isinstance(i, int) and not isinstance(i, bool) for i in indices
    ):
        raise TypeError(f"expected a boolean mask (a tensor) or integer indices, got {held!r}.")
    if len(event) != 1:
        raise ValueError(
            f"expected a boolean mask of shape {tuple(event)}: indices are for events of one "
            f"dimension, got {held!r}."
        )
    size = event[0]
    if any(not -size <= i < size for i in indices):
        raise ValueError(f"expected indices from {-size} to {size - 1}, got {list(indices)}.")
    positions = [i % size for i in indices]
    if len(set(positions)) < len(positions):
        raise ValueError(f"expected each coordinate held once, got {list(indices)}.")
    return positions
