"""What a model was called with, as constant data: numbers and tensors by parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn


def constant_data(
    model: Callable, args: tuple, kwargs: Mapping[str, Any], *, observed: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """The numbers, arrays and tensors among a model's arguments that are not observations.

    A container's elements are called ``parameter.key``; further positional arguments ``args.0``.
    """
    found: dict[str, np.ndarray] = {}
    for name, value in by_parameter(model, args, kwargs).items():
        _collect(found, name, value, observed)
    return found


def by_parameter(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names of the model's parameters, defaults included."""
    function = model.forward if isinstance(model, nn.Module) else model
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {"args": args, **kwargs} if args else dict(kwargs)
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def _collect(
    found: dict[str, np.ndarray], name: str, value: Any, observed: Mapping[str, Tensor]
) -> None:
    if isinstance(value, Mapping):
        for key, element in value.items():
            _collect(found, f"{name}.{key}", element, observed)
    elif isinstance(value, list | tuple):
        for key, element in enumerate(value):
            _collect(found, f"{name}.{key}", element, observed)
    elif isinstance(value, Tensor):
        if not any(_same(value, other) for other in observed.values()):
            found[name] = as_array(value)
    elif isinstance(value, bool | int | float | np.number | np.ndarray):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            found[name] = array


def _same(value: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same memory, seen in the same way."""
    if value is other:
        return True
    return (
        value.numel() > 0
        and value.data_ptr() == other.data_ptr()
        and value.shape == other.shape
        and value.stride() == other.stride()
    )


def as_array(value: Tensor) -> np.ndarray:
    """A tensor as an array; NumPy knows no float of 16 bits but its own."""
    value = value.detach().resolve_conj().cpu()
    if value.is_floating_point() and value.element_size() < 4:
        value = value.float()
    return value.numpy()
