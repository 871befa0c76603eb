"""Networks as functions of one flat vector of their weights, and what examples cost them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from .checks import check_layers
from .losses import ExampleLoss
from .perceptron import FieldNetwork

Loss = Callable[[Tensor, Tensor], Tensor]
# Numbers in the table of outputs after every single change, at a time.
_LARGEST_TABLE = 2**24


class Examples(NamedTuple):
    """Inputs [P, *input] and targets [P, ...] of P examples."""

    inputs: Tensor
    targets: Tensor


class FlatNetwork:
    """A network as a function of one flat vector of its parameters, in the order of `parameters()`.

    Args:
        network: any module with parameters.

    Raises:
        TypeError: not an nn.Module.
        ValueError: no parameters; dropout or batch normalisation in train mode.
    """

    def __init__(self, network: Any) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"expected network to be an nn.Module, got {type(network).__name__}. Wrap a "
                "function in a module that holds its weights."
            )
        check_layers(network)
        self.network = network
        self._shapes = {name: value.shape for name, value in network.named_parameters()}
        self.num_weights = sum(shape.numel() for shape in self._shapes.values())
        if self.num_weights == 0:
            raise ValueError(
                f"expected a network with weights, got {type(network).__name__} without parameters."
            )
        first = next(network.parameters())
        self.dtype, self.device = first.dtype, first.device

    def named(self, weights: Tensor) -> dict[str, Tensor]:
        """Flat weights [*batch, weights] as parameters by name, [*batch, *shape]."""
        parts = weights.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        batch = weights.shape[:-1]
        shapes = self._shapes.items()
        return {
            name: part.reshape(*batch, *shape)
            for (name, shape), part in zip(shapes, parts, strict=True)
        }

    def outputs(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """The outputs for one vector of weights."""
        return functional_call(self.network, self.named(weights), (inputs,))


def checked_outputs(flat: FlatNetwork, weights: Tensor, inputs: Tensor) -> Tensor:
    """The outputs of one network.

    Raises:
        ValueError: inputs that the network does not take.
    """
    try:
        return flat.outputs(weights, inputs)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"expected inputs [P, *input] that {type(flat.network).__name__} takes, got "
            f"{inputs.dtype} of shape {tuple(inputs.shape)}: {error}"
        ) from error


def losses_of(flat: FlatNetwork, loss: Loss, weights: Tensor, examples: Examples) -> Tensor:
    """Losses [D, n, P] of networks of weights [D, n, N] on examples of D data sets, or of one."""
    inputs, targets = examples
    floating = inputs.is_floating_point()
    inputs = inputs.to(weights.dtype) if floating else inputs
    if isinstance(flat.network, FieldNetwork) and isinstance(loss, ExampleLoss):
        # One product of matrices for all weights of a data set.
        fields = flat.network.fields(weights, inputs.unsqueeze(1))
        return loss(flat.network.output(fields), targets.unsqueeze(1))

    def one(single: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return loss(flat.outputs(single, x), y)

    if len(inputs) == 1:
        rows = vmap(one, in_dims=(0, None, None))(weights.flatten(0, 1), inputs[0], targets[0])
        return rows.unflatten(0, weights.shape[:2])
    return vmap(vmap(one, in_dims=(0, None, None)))(weights, inputs, targets)


def flip_changes(network: FieldNetwork, loss: Loss, weights: Tensor, examples: Examples) -> Tensor:
    """What turning each weight [n, K N] to its negative adds to the energy, [n, K N]."""
    inputs, targets = examples
    inputs = inputs.to(weights.dtype)
    sums = network.sums(weights, inputs)
    now = loss(network.output_of_sums(sums), targets).sum(-1)
    units, columns = network.num_hidden, network.num_inputs
    size = max(1, _LARGEST_TABLE // max(1, sums.numel()))
    steps = -2.0 * weights.reshape(-1, units, columns)
    found = []
    for unit in range(units):
        for first in range(0, columns, size):
            part = slice(first, first + size)
            shift = steps[:, unit, part, None] * inputs.T[part]
            moved = sums.unsqueeze(1).repeat(1, shift.shape[1], 1, 1)
            moved[..., unit] += shift
            found.append(loss(network.output_of_sums(moved), targets).sum(-1) - now[:, None])
    return torch.cat(found, 1)
