"""What any unnormalised observed site has, be its data discrete or continuous.

Its independent events have coordinates y [dim], and log f(y; theta) is a function of these for
every chain at its own theta; functions of one chain are mapped over all chains, and recorded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pyro_ebm.normalizers import bare

from .layout import split
from .program import ModelProgram
from .side import NO_SIDE
from .target import Target
from .vectorize import traced


@runtime_checkable
class FactorDensity(Protocol):
    """log f(.; theta) of one chain."""

    def log_factor(self, y: Tensor) -> Tensor:
        """log f of all data y [dim]."""
        ...


class ObservedEnergy(ABC):
    """One unnormalised observed site of a frozen model.

    Attributes: ``name``; ``first``, its distribution in the first trace, and ``value``, its data
    [*batch, *event]; ``rows`` independent events; ``observed`` [dim], the coordinates of the data,
    of which all events have equally many.

    :param target: a frozen model whose log density leaves out the log Z of the site.
    :raises ValueError: data that have not the shape of the site.
    """

    observed: Tensor

    def __init__(self, target: Target, name: str) -> None:
        program = target.described
        assert isinstance(program, ModelProgram)
        node: Any = program.first_trace.nodes[name]
        self.name, self._program, self._target = name, program, target
        self.first = bare(node["fn"])
        self.rows = prod(self.first.batch_shape)
        self.value = self._expanded(torch.as_tensor(node["value"]).detach())
        self._recordings: dict[tuple, Callable] = {}

    @property
    def dim(self) -> int:
        """How many coordinates the data have."""
        return len(self.observed)

    @abstractmethod
    def at(self, position: Tensor) -> FactorDensity:
        """log f(.; theta) of one chain, at its position [dim]."""

    def distribution_at(self, position: Tensor) -> Any:
        """The distribution of the site at the position [dim] of one chain."""
        parts = split(self._program.sites, position)
        _, trace = self._program.execute(parts, NO_SIDE)
        node: Any = trace.nodes[self.name]
        return bare(node["fn"])

    def log_factor(self, positions: Tensor, y: Tensor) -> Tensor:
        """log f(y; theta) [chains], at positions [dim, chains] and data [dim_y, chains]."""
        return self.mapped(_log_factor, positions, y)

    def score(self, positions: Tensor, y: Tensor) -> Tensor:
        """The gradient of log f by the position [dim, chains]."""
        return self.mapped(_score, positions, y)

    def mapped(self, single: Callable[..., Tensor], *args: Tensor) -> Tensor:
        """A function of this site and one chain, over the last axis of its arguments, recorded.

        :param single: takes the site and of every argument what one chain has of it.
        """
        key = (single, *(tuple(arg.shape) for arg in args))
        if key not in self._recordings:

            def of_one(*parts: Tensor) -> Tensor:
                return single(self, *parts)

            def batched(*tensors: Tensor) -> Tensor:
                if self._target.vectorized:
                    return torch.func.vmap(of_one, in_dims=-1, out_dims=-1)(*tensors)
                chains = zip(*(tensor.unbind(-1) for tensor in tensors), strict=True)
                return torch.stack([of_one(*parts) for parts in chains], -1)

            self._recordings[key] = traced(batched, *args) if self._target.vectorized else batched
        with torch.no_grad():
            return self._recordings[key](*args)

    def _expanded(self, value: Tensor) -> Tensor:
        batch, event = torch.Size(self.first.batch_shape), torch.Size(self.first.event_shape)
        try:
            return value.expand(batch + event)
        except RuntimeError:
            rows = tuple(value.shape[: value.dim() - len(event)])
            raise ValueError(
                f"The data at {self.name!r} have the shape {tuple(value.shape)}, where one event "
                f"has {tuple(event)} and the site has room for {tuple(batch)} of them. "
                f"Put the {rows} events into a plate: with pyro.plate(...) around the site."
            ) from None


def _log_factor(site: ObservedEnergy, position: Tensor, y: Tensor) -> Tensor:
    return site.at(position).log_factor(y)


def _score(site: ObservedEnergy, position: Tensor, y: Tensor) -> Tensor:
    return torch.func.grad(lambda z: site.at(z).log_factor(y))(position)
