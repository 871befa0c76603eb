"""How many numbers one evaluation of a log density makes on its way.

A net or a large data set makes millions of numbers for the few terms that it gives, and with a
gradient all of them are held at once. What does not hang on the position is made once for all
chains, and is not counted; nor are views, which hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary


def counted(function: Callable[[Tensor], Any], position: Tensor) -> tuple[Any, int]:
    """What a function gives at a position, and how many numbers hang on the position until then.

    None are counted where it looks at values, which cannot be done while it is watched.
    """
    counter = _Counter(position)
    try:
        with counter:
            return function(position), counter.numbers
    except RuntimeError:
        return function(position), 0


class _Counter(TorchDispatchMode):
    """Does every operation, and adds up what those that hang on a tensor make."""

    supports_higher_order_operators = True

    def __init__(self, position: Tensor) -> None:
        super().__init__()
        self.numbers = 0
        self._moving = WeakTensorKeyDictionary({position: True})

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Being skipped by the compiler is what imports the compiler.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        given = _tensors_in((args, kwargs))
        if any(tensor in self._moving for tensor in given):
            held = {_place(tensor) for tensor in given}
            for tensor in _tensors_in(found):
                self._moving[tensor] = True
                if _place(tensor) not in held:
                    self.numbers += tensor.numel()
        return found


def _place(tensor: Tensor) -> int | None:
    """What views of one tensor have in common; sparse tensors have no storage to tell by."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else None


def _tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
