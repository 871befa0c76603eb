"""Where each latent site of a model lies in the flat, unconstrained position.

A position is one vector. Site after site, in the order in which the model meets them, takes a
slice of it, reshapes it, and maps it onto its support by the bijection that
:func:`torch.distributions.biject_to` gives for that support.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to


class PlateFrame(NamedTuple):
    """A vectorised plate around a site: its name, its dimension from the right, its size."""

    name: str
    dim: int
    size: int


class Site(NamedTuple):
    """One latent site: its slice of the position, the shapes of both sides, and its plates.

    ``dtype`` and ``device`` are those of its values, whatever the whole position has. A discrete
    site that is sampled has ``states`` [K, *unit], the values that each of its units can take; its
    coordinates are their numbers, and the unconstrained shape is that of the units.
    """

    name: str
    offset: int
    unconstrained_shape: torch.Size
    shape: torch.Size
    event_dim: int
    plates: tuple[PlateFrame, ...]
    dtype: torch.dtype
    device: torch.device
    states: Tensor | None = None

    @property
    def size(self) -> int:
        """The number of coordinates of the site in the flat position."""
        return prod(self.unconstrained_shape)

    @property
    def slice(self) -> slice:
        """The coordinates of the site in the flat position."""
        return slice(self.offset, self.offset + self.size)

    def value_of(self, part: Tensor) -> Tensor:
        """The value of a site with states, of their numbers [*unconstrained shape]."""
        assert self.states is not None
        numbers = part.long().clamp(0, len(self.states) - 1)
        # A number of no dimension as an index would become one of Python's, which vmap refuses.
        chosen = self.states.index_select(0, numbers.reshape(-1))
        return chosen.reshape(part.shape + self.states.shape[1:])

    def numbers_of(self, value: Tensor) -> Tensor:
        """The numbers of states [*batch, size] of values [*batch, *shape] of a site with states.

        :raises ValueError: another shape, or values that are no states.
        """
        assert self.states is not None
        batch = value.shape[: value.dim() - len(self.shape)]
        if tuple(value.shape[len(batch) :]) == tuple(self.shape):
            unit = self.states[0].numel()
            rows = value.reshape(*batch, self.size, 1, unit).to(self.states)
            equal = (rows == self.states.reshape(-1, unit)).all(-1)
            if bool(equal.any(-1).all()):
                return equal.to(torch.int8).argmax(-1)
        raise ValueError(
            f"expected values of the discrete site '{self.name}' of shape {tuple(self.shape)}, "
            f"each one of {self.states.tolist()}, got {value.tolist()}."
        )


def split(sites: Iterable[Site], position: Tensor) -> dict[str, Tensor]:
    """The unconstrained value of every site, cut out of one flat position."""
    return {
        site.name: position[site.slice]
        .reshape(site.unconstrained_shape)
        .to(dtype=site.dtype, device=site.device)
        for site in sites
    }


def joined(parts: Iterable[Tensor]) -> Tensor:
    """One flat vector of some tensors, of the dtype they promote to, on the device of the first
    that is not on the CPU."""
    parts = [part.reshape(-1) for part in parts] or [torch.zeros(0)]
    dtype = reduce(torch.promote_types, (part.dtype for part in parts))
    devices = [part.device for part in parts]
    device = next((each for each in devices if each.type != "cpu"), devices[0])
    return torch.cat([part.to(dtype=dtype, device=device) for part in parts])


def origin(sites: Iterable[Site]) -> Tensor:
    """The flat position of zeros."""
    return joined(torch.zeros(site.size, dtype=site.dtype, device=site.device) for site in sites)


def bijection(support: Any, name: str) -> Transform:
    """The map from unconstrained space onto a support.

    :raises ValueError: when the support has no bijection from an unconstrained space.
    """
    try:
        return biject_to(support)
    except NotImplementedError as error:
        raise ValueError(
            f"The support {support} of site '{name}' has no bijection from an unconstrained space, "
            "so gradient-based samplers cannot move on it. Give the site a support that has one "
            "(real, positive, interval, simplex, ordered, correlation matrices, ...), or register "
            "a bijection with torch.distributions.biject_to.register."
        ) from error


def vectorised_plates(frames: tuple) -> tuple[PlateFrame, ...]:
    """The vectorised plates of a site's cond_indep_stack, outermost (leftmost) first."""
    plates = [PlateFrame(f.name, f.dim, f.size) for f in frames if f.vectorized]
    return tuple(sorted(plates, key=lambda plate: plate.dim))
