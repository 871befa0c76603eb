"""A normaliser that the user gives: a number, a tensor, an estimate, or a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

LogNormalizer = float | Tensor | Callable[..., Any]


def as_log_normalizer(given: Any, batch_shape: torch.Size) -> LogNormalizer | None:
    """log Z as a number, a tensor or a function; an object with `log_z` gives that.

    Raises:
        TypeError: none of these.
        ValueError: a number that is not finite; a tensor that does not fit the batch.
    """
    value = getattr(given, "log_z", given)
    if value is None or isinstance(value, Tensor):
        return None if value is None else _fitting(value, batch_shape)
    if isinstance(value, Real) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"expected a finite log_normalizer, got {value}.")
        return float(value)
    if callable(value):
        return value
    raise TypeError(
        "expected log_normalizer to be a number, a tensor, an object with log_z, or a function "
        f"f(*params, temperature), got {type(given).__name__}."
    )


def log_normalizer_at(
    given: LogNormalizer,
    params: tuple[Tensor | float, ...],
    temperature: float | Tensor,
    batch_shape: torch.Size,
) -> float | Tensor:
    """log Z at the present params and temperature.

    Raises:
        TypeError: the function returns neither a number nor a tensor.
        ValueError: what it returns does not fit the batch.
    """
    if not callable(given):
        return given
    value = given(*params, temperature)
    if isinstance(value, Tensor):
        return _fitting(value, batch_shape)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise TypeError(
        "expected log_normalizer(*params, temperature) to return a number or a tensor, got "
        f"{type(value).__name__}."
    )


def _fitting(value: Tensor, batch_shape: torch.Size) -> Tensor:
    if not value.is_floating_point():
        raise TypeError(f"expected a log_normalizer of real numbers, got {value.dtype}.")
    try:
        fits = torch.broadcast_shapes(value.shape, batch_shape) == batch_shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"expected a log_normalizer that broadcasts to the batch shape {tuple(batch_shape)}, "
            f"got shape {tuple(value.shape)}: one log Z per element of the batch."
        )
    return value
