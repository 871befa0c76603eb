"""What the user gives beside an energy: temperature, params, a support, a normaliser."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.energies.checks import as_temperature, joint_sizes, sizes_of, values_visible

LogNormalizer = float | Tensor | Callable[..., Any]


def as_log_normalizer(given: Any, batch_shape: torch.Size) -> LogNormalizer | None:
    """log Z as a number, a tensor or a function; an object with `log_z` gives that.

    Raises:
        TypeError: none of these.
        ValueError: numbers that are not finite; a tensor that does not fit the batch.
    """
    value = getattr(given, "log_z", given)
    if value is None:
        return None
    if isinstance(value, Tensor):
        if values_visible() and not bool(value.isfinite().all()):
            raise ValueError(f"expected a finite log_normalizer, got {value.detach()}.")
        return _fitting(value, batch_shape)
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
        TypeError: the function takes other arguments, or returns neither a number nor a tensor.
        ValueError: what it returns does not fit the batch.
    """
    if not callable(given):
        return given
    try:
        value = given(*params, temperature)
    except TypeError as error:
        _check_takes(given, len(params), error)
        raise
    if isinstance(value, Tensor):
        return _fitting(value, batch_shape)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise TypeError(
        "expected log_normalizer(*params, temperature) to return a number or a tensor, got "
        f"{type(value).__name__}."
    )


def _check_takes(given: Callable, num_params: int, error: TypeError) -> None:
    """Say what a normaliser is called with, where that is what it cannot take."""
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # A builtin shows none.
        return
    try:
        signature.bind(*[None] * (num_params + 1))
    except TypeError:
        before = "" if num_params == 0 else f"{num_params} param{'s' * (num_params > 1)} and "
        raise TypeError(
            f"expected log_normalizer to be a function of {before}the temperature, "
            f"f(*params, temperature), got one that takes {signature}. The temperature comes last, "
            "also where it is always one."
        ) from error


def _fitting(value: Tensor, batch_shape: torch.Size) -> Tensor:
    if not value.is_floating_point():
        raise TypeError(f"expected a log_normalizer of real numbers, got {value.dtype}.")
    if not broadcasts_to(shape_of(value), batch_shape):
        raise ValueError(
            f"expected a log_normalizer that broadcasts to the batch shape {tuple(batch_shape)}, "
            f"got shape {tuple(value.shape)}: one log Z per element of the batch."
        )
    return value


def broadcasts_to(shape: torch.Size, wanted: torch.Size) -> bool:
    """Whether a shape broadcasts to another without widening it."""
    if len(shape) > len(wanted):
        return False
    right = wanted[len(wanted) - len(shape) :]
    return all(size in (1, other) for size, other in zip(shape, right, strict=True))


def checked_temperature(temperature: object, *, values: bool) -> float | Tensor:
    """A temperature as a number or a tensor; the values of a tensor are checked if asked.

    A temperature that is sampled may overflow on a trajectory that will be rejected.
    """
    if isinstance(temperature, Tensor):
        as_temperature(temperature if values else torch.ones_like(temperature))
        return temperature
    return float(as_temperature(temperature))


def tensors_in(support: object) -> list[Tensor]:
    """The tensors that a constraint is made of: its bounds, however deeply it wraps them."""
    if isinstance(support, Tensor):
        return [support]
    if isinstance(support, constraints.Constraint):
        return [tensor for part in vars(support).values() for tensor in tensors_in(part)]
    if isinstance(support, list | tuple):
        return [tensor for part in support for tensor in tensors_in(part)]
    return []


def as_params(params: object) -> tuple[Tensor | float, ...]:
    """Params as a tuple of tensors and numbers.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(params, list | tuple) or not all(
        isinstance(param, Tensor | Real) for param in params
    ):
        raise TypeError(
            f"expected params to be a tuple of tensors or numbers, got {params!r}. "
            "One param alone is written (param,)."
        )
    return tuple(params)


def shape_of(value: Tensor | float) -> torch.Size:
    """The shape of a tensor, or of a number."""
    return sizes_of(value) if isinstance(value, Tensor) else torch.Size()


def joint_shape(values: Sequence[Tensor | float], drop: int = 0) -> torch.Size:
    """The shape that some tensors broadcast to, without their `drop` rightmost dimensions."""
    shapes = [shape_of(value) for value in values]
    return joint_sizes(*(shape[: max(len(shape) - drop, 0)] for shape in shapes))


def joint_batch_shape(**shapes: torch.Size) -> torch.Size:
    """The batch shape that named shapes broadcast to.

    Raises:
        ValueError: they do not.
    """
    try:
        return joint_sizes(*shapes.values())
    except RuntimeError:
        said = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(
            f"expected shapes that broadcast to one batch shape, got {said}. Every param, the "
            "temperature and the bounds of the support have one element per element of the batch."
        ) from None
