"""Data as every measure takes them: rows of numbers, a configuration each.

Rows come as tensors, arrays [n, *event], data frames or lists; an image is an event like any other.
What compares rows sees them flat, in float64; what evaluates an energy sees them as it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pyro_ebm.energies import Energy, as_energy
from pyro_ebm.numeric import Table

from ..rows import as_tensor, flat

# [n, *event], a tensor, an array, a data frame or lists of numbers.
Rows = Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."] | Table | Sequence[Any]

# Rows that the median of all distances is told from.
_MOST_FOR_MEDIAN = 1000


def flat_alike(least: int = 1, **groups: object) -> list[Float[Tensor, "n size"]]:
    """Groups of rows flattened, in float64, on the device of the first.

    :param least: how many each must have.
    :param groups: the rows by the names of the arguments.
    :raises TypeError: no real numbers.
    :raises ValueError: fewer rows, events of different shapes, numbers that are not finite.
    """
    tensors = {name: as_tensor(name, rows) for name, rows in groups.items()}
    shapes = {name: tuple(rows.shape[1:]) for name, rows in tensors.items()}
    few = [name for name, rows in tensors.items() if len(rows) < least]
    if few:
        raise ValueError(f"expected at least {least} rows of {few[0]}, got {len(tensors[few[0]])}.")
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{shape} of {name}" for name, shape in shapes.items())
        raise ValueError(f"expected rows of one event shape, got {told}.")
    device = next(iter(tensors.values())).device
    return [flat(rows).to(device) for rows in tensors.values()]


def configurations(name: str, energy: object, rows: object) -> tuple[Energy, Tensor]:
    """An energy, and rows as it takes them: its dtype and device, all within its support.

    :param name: what to call the rows in an error.
    :param energy: an Energy, or a net or a function of the event that a row is.
    :raises ValueError: rows of another event shape, or outside of the support.
    """
    value = as_tensor(name, rows)
    if isinstance(energy, Energy) and energy.event_shape != value.shape[1:]:
        raise ValueError(
            f"expected {name} [n, *event] with the event shape {tuple(energy.event_shape)} of "
            f"{type(energy).__name__}, got shape {tuple(value.shape)}. Reshape them."
        )
    known = as_energy(energy, event_shape=value.shape[1:])
    value = value.to(_like(known, value))
    inside = known.support.check(value)
    if not bool(inside.all()):
        outside = (~inside).nonzero()[:, 0]
        raise ValueError(
            f"expected {name} within {known.support}, got {len(outside)} of {len(value)} rows "
            f"outside of it, first row {int(outside[0])}. The density is zero there: give rows "
            "that the energy is meant for, or the energy the support of the data."
        )
    return known, value


def check_scores(name: str, score: Float[Tensor, "n ..."]) -> None:
    """Refuse rows at which a score is not finite.

    :raises ValueError: there are some; the first is named.
    """
    finite = flat(score).isfinite().all(1)
    if not bool(finite.all()):
        raise ValueError(
            f"expected {name} at which the score is finite, got {int((~finite).sum())} of "
            f"{len(score)} rows where it is not, first row {int((~finite).nonzero()[0])}. The "
            "density is zero or not smooth there: no draws of it are."
        )


def median_distance(rows: Float[Tensor, "n size"], generator: torch.Generator | None) -> float:
    """The median distance of two different rows, of a thousand of them at most; one where all rows
    are equal."""
    chosen = choose(len(rows), _MOST_FOR_MEDIAN, generator).to(rows.device)
    distances = torch.pdist(rows[chosen])
    distances = distances[distances > 0]
    return float(distances.median()) if len(distances) else 1.0


def choose(n: int, most: int, generator: torch.Generator | None) -> Tensor:
    """Places of `most` of n rows, chosen at random without replacement; of all where n is less."""
    device = None if generator is None else generator.device
    return torch.randperm(n, generator=generator, device=device)[:most]


def seed_from(generator: torch.Generator | None) -> int:
    """A seed for what takes no generator."""
    device = None if generator is None else generator.device
    return int(torch.randint(2**31 - 1, (), generator=generator, device=device))


def check_count(name: str, value: object, *, least: int) -> int:
    """A whole number that is large enough.

    :raises TypeError: no integer.
    :raises ValueError: less than `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected {name} to be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"expected {name} to be at least {least}, got {value}.")
    return value


def _like(energy: Energy, rows: Tensor) -> Tensor:
    """An empty tensor of the dtype and device that an energy takes rows in."""
    own = [t for t in [*energy.parameters(), *energy.buffers()] if t.is_floating_point()]
    if not own:
        return rows[:0] if rows.is_floating_point() else rows[:0].to(torch.get_default_dtype())
    dtype = own[0].dtype
    for each in own:
        dtype = torch.promote_types(dtype, each.dtype)
    return torch.empty((), dtype=dtype, device=own[0].device)
