"""log Z of fixed constants, computed outside of whatever records or vectorises.

A normaliser may cost a quadrature. Where nothing it depends on moves it is one number, and a
recording of the density should hold that number, not the quadrature. It then does not follow
constants that are changed in place later; no chain can tell, since log Z is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.ops.provenance import ProvenanceTensor
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import is_fake
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from pyro_ebm.energies import values_visible
from pyro_ebm.recording import moving


def fixed_or_recorded(function: Callable[[], Tensor | None]) -> Tensor | None:
    """What a function of constants gives, as a plain tensor if nothing that moves enters.

    Whether it gives None is decided by values where these are fixed, trainable ones included.

    Args:
        function: computes log Z from what it captures.
    """
    if values_visible() or torch.compiler.is_compiling() or torch._C._is_tracing():
        return function()
    watch = _Watch(moving())
    try:
        with (
            temporarily_clear_interpreter_stack(),
            _disable_current_modes(),
            torch.no_grad(),
            watch,
        ):
            value = function()
    except _MovesError:
        return function()
    return function() if value is not None and watch.trainable else value


class _MovesError(Exception):
    """An operand is mapped, traced or tracked: it has no number of its own."""


class _Watch(TorchFunctionMode):
    """Stop at an operand that moves; remember whether one can be trained."""

    def __init__(self, recorded: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.recorded = recorded
        self.trainable = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for operand in pytree.tree_leaves((args, kwargs)):
            if isinstance(operand, Tensor):
                if self._moves(operand):
                    raise _MovesError
                self.trainable |= operand.requires_grad
        return func(*args, **(kwargs or {}))

    def _moves(self, tensor: Tensor) -> bool:
        if (
            isinstance(tensor, ProvenanceTensor)
            or is_functorch_wrapped_tensor(tensor)
            or is_fake(tensor)
        ):
            return True
        return self.recorded(tensor)
