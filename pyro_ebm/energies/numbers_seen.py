"""What a tensor holds while torch maps, differentiates or records.

Which closed form holds is a question about constants (are the fields all zero?), and its answer
must not change because something else is mapped over, differentiated or recorded. A constant keeps
its numbers then, under whatever wraps it; what has none of its own is a tensor that differs between
the elements of a mapped axis, or between the runs of a recording, or whose values are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import (
    get_unwrapped,
    is_functorch_wrapped_tensor,
    is_gradtrackingtensor,
    maybe_get_bdim,
)
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import _disable_current_modes

from pyro_ebm.recording import hangs_on_inputs

from .checks import unrecorded


@contextmanager
def at_rest() -> Iterator[None]:
    """Plain arithmetic: nothing is mapped, differentiated by `torch.func` or recorded."""
    with temporarily_clear_interpreter_stack(), _disable_current_modes(), unrecorded():
        yield


def holds_at_all(condition: Callable[[Tensor], Tensor], value: Tensor) -> bool | None:
    """Whether a condition holds at all elements; None of a tensor that has no numbers of its own.

    Args:
        condition: from a tensor to booleans of its shape.
        value: what is asked about.
    """
    if overrides_functions(value) or torch.compiler.is_compiling():
        return None
    bare = value
    while is_functorch_wrapped_tensor(bare):
        if not is_gradtrackingtensor(bare):
            return None
        bare = get_unwrapped(bare)
    if is_fake(bare) or hangs_on_inputs(bare):
        return None
    with at_rest():
        return bool(condition(bare.detach()).all())


def undifferentiated(tensor: Tensor) -> Tensor | None:
    """What lies under the wrappers of `torch.func`; None where `torch.func.grad` differentiates the
    tensor, so that it hangs on what that is taken by."""
    while is_functorch_wrapped_tensor(tensor):
        if is_gradtrackingtensor(tensor) and tensor.requires_grad:
            return None
        tensor = get_unwrapped(tensor)
    return tensor


def first_of(tensor: Tensor, event_dim: int) -> Tensor | None:
    """The first configuration of a batch [*batch, *event], as a constant; None where there is none
    to look at.

    Args:
        tensor: the batch, mapped, differentiated or recorded.
        event_dim: how many dimensions one configuration has.
    """
    if torch.compiler.is_compiling():
        return None
    with at_rest():
        while is_functorch_wrapped_tensor(tensor):
            axis = maybe_get_bdim(tensor)
            tensor = get_unwrapped(tensor)
            tensor = tensor if axis < 0 else tensor.select(axis, 0)
        if is_fake(tensor) or not tensor.numel():
            return None
        event = tensor.shape[tensor.dim() - event_dim :]
        return tensor.detach().reshape(-1, *event)[0].clone()


def overrides_functions(tensor: Tensor) -> bool:
    """Whether a tensor's class intercepts torch functions (not Parameter, nor fake tensors)."""
    override: Any = type(tensor).__torch_function__
    inherited = getattr(override, "__func__", override)
    return inherited not in (
        torch._C._disabled_torch_function_impl,
        Tensor.__torch_function__.__func__,
    )
