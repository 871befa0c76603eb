"""What is made of a recording: arrays of its nodes, and steps that make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import Node

from .arrays import Array, Block, Pointwise, Reduction, Step, Store, Write, contiguous
from .expressions import NotInC, c_type, filled


class Build:
    """What is made of a recording so far, and what makes more.

    ``arrays`` and ``examples`` are by node; ``replaced`` has for a node that was changed in place
    the one that stands for it now.
    """

    def __init__(self) -> None:
        self.arrays: dict[Node, Any] = {}
        self.examples: dict[Node, Any] = {}
        self.replaced: dict[Node, Node] = {}
        self.steps: list[Step] = []
        self.held: list[Tensor] = []
        self.checked: list[tuple[Array, int]] = []
        # Between what whole numbers lie that hang on the position.
        self.bounds: dict[Store, tuple[int, int]] = {}
        # What hangs on nothing that is given: the examples are the values.
        self.known: set[Node] = set()

    def array(self, node: Any) -> Array:
        found = self.arrays.get(self.root(node))
        if not isinstance(found, Array):
            raise NotInC(f"{node} as an operand")
        return found

    def example(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self.examples[self.root(value)]
        if isinstance(value, (list, tuple)):
            return type(value)(self.example(each) for each in value)
        return value

    def root(self, node: Any) -> Node:
        while node in self.replaced:
            node = self.replaced[node]
        return node

    def given(self, tensor: Tensor) -> Array:
        place = len(self.held)
        # A view of its own: the offset is in the pointer.
        store = Store(f"h{place}", tensor.dtype, tensor.numel(), per_chain=False, held=place)
        self.held.append(tensor)
        return Array(store, tensor.dtype, tuple(tensor.shape), tensor.stride())

    def result(self, dtype: torch.dtype, shape: Sequence[int], *inputs: Array) -> Array:
        shape = tuple(shape)
        store = self._store(dtype, math.prod(shape), *inputs)
        return Array(store, dtype, shape, contiguous(shape))

    def _store(self, dtype: torch.dtype, size: int, *inputs: Array) -> Store:
        per_chain = any(array.per_chain for array in inputs)
        return Store(f"b{len(self.steps)}", dtype, size, per_chain=per_chain)

    def _add(self, step: Step) -> Array:
        step.store.step = step
        self.steps.append(step)
        return step.result

    def pointwise(
        self,
        template: str | Write,
        dtype: torch.dtype,
        inputs: Sequence[Array],
        shape: Sequence[int],
        *,
        computed_in: torch.dtype | None = None,
    ) -> Array:
        """One more step; a template's operands come in the type that is computed in."""
        inner = computed_in or dtype
        write = template if callable(template) else _filling(template, inner)
        wide = tuple(array.expanded(shape) for array in inputs)
        result = self.result(dtype, shape, *inputs)
        step = Pointwise(result, wide, write=_converting(write, wide, inner))
        return self._add(step)

    def reduce(
        self, kind: Literal["sum", "max", "min", "prod"], array: Array, axes: Sequence[int]
    ) -> Array:
        """Along axes, which are kept with length one; in the array's own type."""
        shape = tuple(1 if i in axes else size for i, size in enumerate(array.shape))
        if math.prod(shape) == math.prod(array.shape):
            return array
        if array.store is None:
            array = self.pointwise("{0}", array.dtype, [array], array.shape)
        result = self.result(array.dtype, shape, array)
        return self._add(Reduction(result, (array,), kind=kind))

    def check(self, chosen: Array, source: Array, size: int) -> None:
        """Have it looked at every call whether indices lie within an axis of that length.

        :raises NotInC: they are computed, and would be used before they could be looked at.
        """
        if chosen.store is not None and chosen.store.held is None and not source.per_chain:
            raise NotInC("data picked by indices that are computed")
        self.checked.append((chosen, size))

    def block(self, result: Array, inputs: Sequence[Array], write: Callable) -> Array:
        return self._add(Block(result, tuple(inputs), write=write))


def reshaped(array: Array, example: Tensor) -> Array:
    """The same elements with other axes of length one."""
    shape = tuple(example.shape)
    if array.store is None:
        return array._replace(shape=shape, strides=(0,) * len(shape))
    apart = iter([s for s, size in zip(array.strides, array.shape, strict=True) if size > 1])
    strides = tuple(next(apart) if size > 1 else 0 for size in shape)
    return array._replace(shape=shape, strides=strides)


def constant_like(array: Array, example: Any, value: Any = None) -> Any:
    """A constant, the array's own unless given, in the shape and type of an example."""
    if isinstance(example, (list, tuple)):
        return [constant_like(array, each, value) for each in example]
    shape = tuple(example.shape)
    constant = array.constant if value is None else value
    return Array(None, example.dtype, shape, (0,) * len(shape), 0, constant)


def _filling(template: str, dtype: torch.dtype) -> Write:
    return lambda operands, _: filled(template, dtype, *operands)


def _converting(
    write: Callable[[Sequence[str], Sequence[str]], str], inputs: Sequence[Array], dtype: Any
) -> Callable[[Sequence[str], Sequence[str]], str]:
    """Operands of other types are converted before they are computed with."""
    kind = c_type(dtype)
    own = [array.dtype == dtype or array.dtype == torch.bool for array in inputs]

    def converted(operands: Sequence[str], index: Sequence[str]) -> str:
        texts = [
            text if same else f"(({kind}){text})" for text, same in zip(operands, own, strict=True)
        ]
        return write(texts, index)

    return converted
