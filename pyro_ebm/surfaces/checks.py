"""What a surface or a list is asked for, looked at before anything is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ebm.energies.wrappers import FunctionEnergy


def check_takes(energy: Any, num_params: int) -> None:
    """Refuse an energy that cannot be called with so many params.

    :raises TypeError: saying what it takes.
    """
    called: Callable = energy.forward if isinstance(energy, nn.Module) else energy
    if isinstance(energy, FunctionEnergy):
        called = energy.function
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # A builtin shows none.
        return
    try:
        signature.bind(None, *[None] * num_params)
    except TypeError as error:
        raise TypeError(
            f"expected an energy of a configuration and {num_params} "
            f"param{'' if num_params == 1 else 's'}, got {type(energy).__name__} that takes "
            f"{signature}: {error}."
        ) from error


def number(name: str, given: Any) -> float:
    """A number, however it is held.

    :raises TypeError: it is none.
    """
    try:
        return float(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected {name} to be a number, got {given!r}.") from error


def bounds(name: str, given: Any) -> Tensor:
    """The bounds of all params as a tensor [d], in float64.

    :raises TypeError: they are no numbers.
    """
    try:
        return torch.as_tensor(given, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected {name} to be a number for each param, such as [0.0, -1.0], got {given!r}."
        ) from error
