"""A call that a model cannot take, told before anything is run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn


def check_arguments(model: Any, args: tuple, kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that a model does not take, and what is no model.

    :raises TypeError: with both ways out, as an energy is often meant.
    """
    if not callable(model):
        raise TypeError(
            "expected a Pyro model, a distribution, an Energy or a Target, got "
            f"{type(model).__name__}."
        )
    called = model.forward if isinstance(model, nn.Module) else model
    try:
        signature = inspect.signature(called)
    except ValueError:  # a builtin shows none
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"expected arguments that the model takes, {signature}: {error}. A net or a function "
            "that is itself an energy is given as as_energy(it, event_shape=...)."
        ) from error
