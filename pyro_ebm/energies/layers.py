"""Layers of units 0 and 1 that are independent of each other given the rest: parts of RBMs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from .checks import as_temperature, sizes_of

# The most numbers in a sum over the states of a layer that is done without being asked for.
MAX_SUMMED = 2**22


def at_temperature(fields: Tensor, temperature: float | Tensor) -> Tensor:
    """Fields [*batch, n] divided by a temperature that broadcasts to the batch."""
    value = as_temperature(temperature)
    return fields / (value.unsqueeze(-1).to(fields) if value.dim() else value)


def summed_out(
    fields: Float[Tensor, "*batch hidden"], temperature: float | Tensor
) -> Float[Tensor, "*batch"]:
    """T sum_j log(1 + exp(field_j/T)): minus the free energy of units that are summed out."""
    value = as_temperature(temperature)
    total = log_one_plus_exp(at_temperature(fields, value)).sum(-1)
    return total * (value.to(total) if value.dim() else value)


def units(index: Tensor, count: int, like: Tensor) -> Float[Tensor, "n units"]:
    """States of `count` units by number: the first unit is the most significant digit."""
    places = torch.arange(count - 1, -1, -1, device=like.device)
    return (index.to(like.device).unsqueeze(-1) >> places & 1).to(like.dtype)


def log_one_plus_exp(value: Tensor) -> Tensor:
    """log(1 + exp x), right to the last digit of float64 (torch's own stops at x = 20)."""
    return softplus(value, threshold=40.0)


def layer_sizes(weights: object) -> tuple[int, int]:
    """The numbers of visible and of hidden units.

    Raises:
        TypeError: weights that are no tensor.
        ValueError: weights that are no matrix.
    """
    if not isinstance(weights, Tensor):
        raise TypeError(
            f"expected weights to be a tensor [num_visible, num_hidden], got "
            f"{type(weights).__name__}. Wrap lists in torch.tensor(...)."
        )
    if weights.dim() != 2 or not weights.numel():
        raise ValueError(
            f"expected weights of shape [num_visible, num_hidden], got {tuple(weights.shape)}."
        )
    rows, columns = sizes_of(weights)
    return rows, columns


def check_layer(size: int, **values: Tensor) -> None:
    """Refuse constants that are neither one number nor one for each unit of a layer.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if tuple(value.shape) not in ((), (1,), (size,)):
            raise ValueError(
                f"expected {name} to be a number or of shape ({size},), one for each unit, got "
                f"shape {tuple(value.shape)}."
            )
