"""NaN that reaches all that depends on it, whatever the values are.

Arithmetic passes NaN on by itself, products with zero included. What chooses between values does
not: ``where``, ``masked_fill``, a power of zero. There it is added to what comes out. A comparison,
or a rounding to whole numbers, has no NaN to give, and an index that is computed may pick another
element next time: then the track is lost, and says so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_ebm.shapes import joint_shape

# Operations that pick elements by tensors, which may depend on anything.
_PICKS = {
    "embedding",
    "gather",
    "index",
    "index_copy",
    "index_put",
    "index_put_",
    "index_select",
    "kthvalue",
    "masked_scatter",
    "masked_select",
    "nanmedian",
    "nansum",
    "scatter",
    "scatter_",
    "take",
}
# Operations in place that pass NaN on, or truly write over it.
_IN_PLACE = {"add_", "copy_", "div_", "exp_", "fill_", "log_", "mul_", "neg_", "sub_", "zero_"}


class SpreadNaN(TorchDispatchMode):
    """Let NaN pass through operations that choose; ``lost`` says that it was swallowed."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        marked = [x for x in _floats((args, kwargs)) if bool(x.isnan().any())]
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not marked or _is_view(func):
            return result
        out = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        if name in _PICKS or any(not x.is_floating_point() for x in out):
            self.lost = True
        elif func._schema.is_mutable:
            self.lost |= name not in _IN_PLACE
        elif isinstance(result, Tensor):
            for x in marked:
                if _broadcasts_to(x.shape, result.shape):
                    result = result + 0.0 * x
        return result


def _floats(tree: Any) -> list[Tensor]:
    leaves = pytree.tree_leaves(tree)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def _is_view(func: Any) -> bool:
    """Whether an operation only looks at its operand in another way."""
    returns = [part.alias_info for part in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returns)


def _broadcasts_to(shape: torch.Size, other: torch.Size) -> bool:
    try:
        return joint_shape(shape, other) == other
    except RuntimeError:
        return False
