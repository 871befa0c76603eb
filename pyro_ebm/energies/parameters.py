"""The constants of the standard energies: numbers and tensors become buffers of one dtype.

Numbers take the dtype of the tensors beside them, or torch's default; an `nn.Parameter` stays one
(the energy can then be trained); a tensor with a graph behind it (a latent site) keeps its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from types import MappingProxyType

import torch
from torch import Tensor, nn

from pyro_ebm.shapes import joint_shape

from .checks import as_temperature, values_visible

Condition = tuple[str, Callable[[Tensor], Tensor]]

positive: Condition = ("positive and finite", lambda value: (value > 0) & value.isfinite())
nonnegative: Condition = ("not negative and finite", lambda value: (value >= 0) & value.isfinite())
finite: Condition = ("finite", torch.isfinite)


def hold(
    module: nn.Module,
    conditions: dict[str, Condition],
    names: Mapping[str, str] = MappingProxyType({}),
    /,
    **values: object,
) -> None:
    """Register constants on a module, all of one dtype.

    Args:
        module: the energy.
        conditions: what is required of a constant, by name; finite when not listed.
        names: what a constant is called in an error, where that is another name.
        values: the constants, by name: numbers or tensors.

    Raises:
        TypeError: a value is neither a real number nor a real tensor.
        ValueError: a value breaks its condition (checked when values are visible).
    """
    for name, value in values.items():
        called = names.get(name, name)
        if not isinstance(value, Tensor | Real) or isinstance(value, bool):
            raise TypeError(
                f"expected {called} to be a number or a tensor, got {type(value).__name__}. "
                "Wrap lists in torch.tensor(...)."
            )
        if isinstance(value, Tensor) and (value.is_complex() or value.dtype == torch.bool):
            raise TypeError(f"expected {called} to be real, got a tensor of {value.dtype}.")
    floating = [v for v in values.values() if isinstance(v, Tensor) and v.is_floating_point()]
    dtype = floating[0].dtype if floating else torch.get_default_dtype()
    for other in floating[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    device = floating[0].device if floating else None
    for name, value in values.items():
        tensor = torch.as_tensor(value, dtype=dtype, device=device)
        if isinstance(value, nn.Parameter):
            tensor = value
        keep(module, name, tensor)
        said, condition = conditions.get(name, finite)
        if values_visible() and not bool(condition(tensor.detach()).all()):
            called = names.get(name, name)
            raise ValueError(f"expected {called} to be {said}, got {tensor.detach()}.")


def keep(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Register a tensor on a module: an `nn.Parameter` as one, any other as a buffer."""
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def broadcast_shape(**values: Tensor) -> torch.Size:
    """The shape that constants broadcast to.

    Raises:
        ValueError: their shapes do not broadcast.
    """
    try:
        return joint_shape(*(value.shape for value in values.values()))
    except RuntimeError as error:
        got = ", ".join(f"{name} {tuple(value.shape)}" for name, value in values.items())
        raise ValueError(f"expected shapes that broadcast, got {got}.") from error


def rounded(value: Tensor, constant: Tensor, temperature: object) -> Tensor:
    """A float64 result in the dtype of what it was made from.

    Args:
        value: the result.
        constant: one of the energy's constants.
        temperature: as the caller gave it: a number has no say in the dtype.
    """
    dtype = constant.dtype
    if isinstance(temperature, Tensor) and temperature.is_floating_point():
        dtype = torch.promote_types(dtype, temperature.dtype)
    return value.to(dtype)


def over_event(temperature: Tensor, event: torch.Size) -> Tensor:
    """A temperature [*batch] with one dimension of size 1 for each of the event's."""
    return temperature.reshape(temperature.shape + (1,) * len(event))


def spread_out(temperature: float | Tensor, shape: Sequence[int]) -> Tensor:
    """A temperature for each of `shape` draws, contiguous, without gradient.

    Raises:
        ValueError: the temperature does not broadcast to `shape`.
    """
    value = as_temperature(temperature).detach()
    try:
        return value.expand(tuple(shape)).contiguous()
    except RuntimeError as error:
        raise ValueError(
            f"expected a temperature that broadcasts to the shape {tuple(shape)} of the draws, got "
            f"{tuple(value.shape)}. The trailing dimensions of the draws are those of T."
        ) from error


def event_sum(values: Tensor, event: torch.Size) -> Tensor:
    """The sum over the trailing event, [*batch, *event] to [*batch]."""
    return values.flatten(values.dim() - len(event)).sum(-1) if event else values
