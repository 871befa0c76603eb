"""Where the elements of the arrays of a density lie, and the steps that make them.

A *store* is memory of its own, in C's order. An *array* is a way to read a store: a shape, and for
every axis how far apart neighbours lie, as torch's views are. What depends on the position has one
element for each of a block of chains, next to each other, so that the processor's vectors run over
chains; the rest is the same for all chains, and is made once a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

from .expressions import NotInC, c_type, literal

# What a step writes for an element, given the operands' texts and the index on every axis.
Write = Callable[[Sequence[str], Sequence[str]], str]


@dataclass(eq=False)
class Store:
    """Memory of one array: ``step`` makes it, or nothing does where it is given."""

    name: str
    dtype: torch.dtype
    size: int
    per_chain: bool
    held: int | None = None
    step: Step | None = field(default=None, repr=False)

    @property
    def c_type(self) -> str:
        """C's name for its numbers."""
        return c_type(self.dtype)


class Array(NamedTuple):
    """A way to read a store, or a constant: ``store`` is None there."""

    store: Store | None
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    constant: float | int | bool = 0

    @property
    def per_chain(self) -> bool:
        """Whether it depends on the position."""
        return self.store is not None and self.store.per_chain

    @property
    def whole(self) -> bool:
        """Whether it is all of its store, in its order."""
        return (
            self.store is not None
            and self.offset == 0
            and self.store.size == math.prod(self.shape)
            and _squeezed(self) == contiguous(axes_of(self.shape))
        )

    @property
    def turned(self) -> Array:
        """Its last two axes exchanged."""
        shape, strides = self.shape, self.strides
        return self._replace(
            shape=(*shape[:-2], shape[-1], shape[-2]),
            strides=(*strides[:-2], strides[-1], strides[-2]),
        )

    def expanded(self, shape: Sequence[int]) -> Array:
        """Repeated along axes of length one and new ones in front, as torch broadcasts."""
        shape = tuple(shape)
        lacking = len(shape) - len(self.shape)
        old, strides = (1,) * lacking + self.shape, (0,) * lacking + self.strides
        if any(size not in (1, new) for size, new in zip(old, shape, strict=True)):
            raise NotInC(f"shape {self.shape} for {shape}")
        wide = tuple(0 if size == 1 else stride for size, stride in zip(old, strides, strict=True))
        return self._replace(shape=shape, strides=wide)

    def at(self, index: Sequence[str]) -> str:
        """The element at an index as C reads or writes it."""
        if self.store is None:
            return literal(self.constant, self.dtype)
        parts = [str(self.offset)] if self.offset else []
        parts += [
            i if stride == 1 else f"{i} * {stride}"
            for i, stride, size in zip(index, self.strides, self.shape, strict=True)
            if stride and size > 1
        ]
        place = " + ".join(parts) or "0"
        if not self.per_chain:
            return f"{self.store.name}[{place}]"
        return f"{self.store.name}[({place}) * B + l]"


@dataclass(eq=False)
class Step:
    """What makes one array; ``inputs`` have the shape of its loop where it is no block."""

    result: Array
    inputs: tuple[Array, ...]

    @property
    def store(self) -> Store:
        """What it fills."""
        assert self.result.store is not None
        return self.result.store


@dataclass(eq=False)
class Pointwise(Step):
    """Element by element; ``write`` gives the expression."""

    write: Write = field(kw_only=True)

    @property
    def loop(self) -> tuple[int, ...]:
        """What it runs over."""
        return self.result.shape


@dataclass(eq=False)
class Reduction(Step):
    """Along some axes of its one input; ``result`` keeps those axes with length one."""

    kind: Literal["sum", "max", "min", "prod"] = field(kw_only=True)

    @property
    def loop(self) -> tuple[int, ...]:
        """What it runs over."""
        return self.inputs[0].shape

    @property
    def reduced(self) -> frozenset[int]:
        """Those of the loop's longer axes along which it reduces."""
        kept = [new for old, new in zip(self.loop, self.result.shape, strict=True) if old > 1]
        return frozenset(i for i, size in enumerate(kept) if size == 1)


@dataclass(eq=False)
class Block(Step):
    """Anything else, with loops of its own; ``write`` gives the lines that fill the result."""

    write: Callable[[], list[str]] = field(kw_only=True)


def axes_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The lengths of a shape without those of one."""
    return tuple(size for size in shape if size > 1)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """How far apart neighbours lie in C's order."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def index_of(shape: Sequence[int]) -> list[str]:
    """The names of a loop's counters axis by axis; 0 where the axis has one element."""
    names, count = [], 0
    for size in shape:
        names.append(f"i{count}" if size > 1 else "0")
        count += size > 1
    return names


def _squeezed(array: Array) -> tuple[int, ...]:
    return tuple(s for s, size in zip(array.strides, array.shape, strict=True) if size > 1)
