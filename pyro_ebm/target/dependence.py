"""What the values in a model depend on, followed through every tensor operation of one run.

Names are put on the memory of the latent values. Every operation passes the names of what it reads
on to the memory that it writes: views, writes in place, comparisons and integers included. Under
vmap no number leaves its tensor (no ``if`` on a value, no ``.item()``, no NumPy), so that nothing
passes on unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

Values = Mapping[str, Tensor]


def dependencies(
    function: Callable[[Values], Values], inputs: Values, *, mapped: bool = True
) -> dict[str, frozenset[str]]:
    """By name of an output the names of the inputs that it may depend on.

    :param function: makes tensors by name of tensors by name.
    :param mapped: run it under vmap, so that a function that takes numbers out of tensors raises
        instead of hiding what it read.
    """
    marked = {
        name: (value.expand(2, *value.shape) if mapped else value).clone()
        for name, value in inputs.items()
    }
    with torch.no_grad(), _Follow() as follow:
        for name, value in marked.items():
            follow.pass_on(frozenset({name}), [value])
        found = (torch.func.vmap(function) if mapped else function)(marked)
    return {name: follow.names_of([value]) for name, value in found.items()}


class _Follow(TorchDispatchMode):
    """Pass names on from the memory that an operation reads to the memory that it writes."""

    def __init__(self) -> None:
        super().__init__()
        # The storage is held so that its address is not used again.
        self._names: dict[int, tuple[Any, frozenset[str]]] = {}

    def names_of(self, tensors: list[Tensor]) -> frozenset[str]:
        """All names on the memory of some tensors."""
        keys = [tensor.untyped_storage()._cdata for tensor in tensors]
        return frozenset[str]().union(*(self._names[key][1] for key in keys if key in self._names))

    def pass_on(self, names: frozenset[str], tensors: list[Tensor]) -> None:
        """Put names on the memory of some tensors, beside those that it has."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._names[storage._cdata] = (storage, names | self.names_of([tensor]))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        names = self.names_of(_tensors((args, kwargs)))
        if names:
            self.pass_on(names, _tensors((result, _written(func, args, kwargs))))
        return result


def _written(func: Any, args: tuple, kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that an operation writes to."""
    found = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(args[i] if i < len(args) else kwargs.get(argument.name))
    return found


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
