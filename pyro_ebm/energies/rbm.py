"""Restricted Boltzmann machines: visible and hidden units, coupled across and not within.

E(v, h) = -b'v - c'h - v'Wh on units 0 and 1. Given the visible units the hidden ones are
independent, and the other way round, so that all of a layer can be drawn at once, and the hidden
layer can be summed out in closed form: sum over h of exp(-E/T) = exp(-F(v)/T) with the free energy

    F(v) = -b'v - T sum_j log(1 + exp((c_j + v'W_j)/T)).

Source: G. Hinton (2012), A practical guide to training restricted Boltzmann machines.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from .base import Energy
from .checks import as_temperature
from .couplings import Bonds, numbers, product
from .parameters import hold


class Layers(NamedTuple):
    """The two layers of a joint configuration.

    Attributes:
        visible: v, [*batch, num_visible].
        hidden: h, [*batch, num_hidden].
    """

    visible: Tensor
    hidden: Tensor


class RBM(Energy):
    """-b'v - c'h - v'Wh on units 0 and 1.

    A configuration is the visible units and then the hidden ones, one axis of
    num_visible + num_hidden; `split` takes it apart, `marginal` sums the hidden ones out.

    Args:
        weights: W, [num_visible, num_hidden].
        visible_bias: b, a number or [num_visible].
        hidden_bias: c, a number or [num_hidden].

    Raises:
        TypeError: not real numbers or tensors.
        ValueError: weights that are no matrix, or not finite; biases of another shape.
    """

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor

    def __init__(
        self,
        weights: Tensor,
        visible_bias: float | Tensor = 0.0,
        hidden_bias: float | Tensor = 0.0,
    ) -> None:
        rows, columns = layer_sizes(weights)
        super().__init__((rows + columns,), support=constraints.boolean)
        hold(self, {}, weights=weights, visible_bias=visible_bias, hidden_bias=hidden_bias)
        check_layer(rows, visible_bias=self.visible_bias)
        check_layer(columns, hidden_bias=self.hidden_bias)
        self.num_visible, self.num_hidden = rows, columns

    def split(self, x: Tensor) -> Layers:
        """The visible and the hidden units of joint configurations [*batch, visible + hidden]."""
        return Layers(*x.split([self.num_visible, self.num_hidden], -1))

    def visible_fields(self, hidden: Shaped[Tensor, "*batch hidden"]) -> Tensor:
        """b + W h, [*batch, num_visible]: what acts on each visible unit."""
        return product(numbers(hidden, self.weights), self.weights.mT) + self.visible_bias

    def hidden_fields(self, visible: Shaped[Tensor, "*batch visible"]) -> Tensor:
        """c + W'v, [*batch, num_hidden]: what acts on each hidden unit."""
        return product(numbers(visible, self.weights), self.weights) + self.hidden_bias

    def visible_probabilities(
        self, hidden: Shaped[Tensor, "*batch hidden"], temperature: float | Tensor = 1.0
    ) -> Float[Tensor, "*batch visible"]:
        """p(v_i = 1 | h) at temperature T."""
        return at_temperature(self.visible_fields(hidden), temperature).sigmoid()

    def hidden_probabilities(
        self, visible: Shaped[Tensor, "*batch visible"], temperature: float | Tensor = 1.0
    ) -> Float[Tensor, "*batch hidden"]:
        """p(h_j = 1 | v) at temperature T."""
        return at_temperature(self.hidden_fields(visible), temperature).sigmoid()

    def free_energy(
        self, visible: Shaped[Tensor, "*batch visible"], temperature: float | Tensor = 1.0
    ) -> Float[Tensor, "*batch"]:
        """F(v): the marginal of the visible units at temperature T is exp(-F(v)/T)/Z.

        Args:
            visible: v.
            temperature: T, a number or a tensor that broadcasts to the batch.
        """
        inputs = self.hidden_fields(visible)
        entropic = summed_out(inputs, temperature)
        return -(numbers(visible, self.weights) * self.visible_bias).sum(-1) - entropic

    def marginal(self, temperature: float = 1.0) -> RBMMarginal:
        """The free energy as an energy of the visible units alone.

        Args:
            temperature: at which the hidden units are summed out; the energy is then the exact
                marginal at this temperature and at no other.
        """
        return RBMMarginal(self, temperature)

    def forward(self, x: Shaped[Tensor, "n units"]) -> Float[Tensor, " n"]:
        visible, hidden = self.split(numbers(x, self.weights))
        across = (visible * self.visible_fields(hidden)).sum(-1)
        return -across - (hidden * self.hidden_bias).sum(-1)

    def energy_changes(self, x: Shaped[Tensor, "n units"]) -> Float[Tensor, "n units 2"]:
        values = numbers(x, self.weights)
        visible, hidden = self.split(values)
        local = torch.cat([self.visible_fields(hidden), self.hidden_fields(visible)], -1)
        return -torch.stack([-values, 1 - values], -1) * local.unsqueeze(-1)

    @property
    def interactions(self) -> Int[Tensor, "m 2"]:
        rows, columns = torch.arange(self.num_visible), torch.arange(self.num_hidden)
        pairs = torch.cartesian_prod(rows, columns + self.num_visible)
        return pairs.to(self.weights.device)

    @property
    def bonds(self) -> Bonds:
        """The terms of the energy, one a pair of units in different layers and one a unit."""
        biases = torch.cat(
            [
                self.visible_bias.expand(self.num_visible),
                self.hidden_bias.expand(self.num_hidden),
            ]
        )
        return Bonds(self.interactions, self.weights.reshape(-1), biases)


class RBMMarginal(Energy):
    """The free energy of an RBM, an energy of its visible units: made by `RBM.marginal`.

    Args:
        rbm: the machine.
        temperature: at which its hidden units are summed out.
    """

    def __init__(self, rbm: RBM, temperature: float) -> None:
        super().__init__((rbm.num_visible,), support=constraints.boolean)
        self.rbm = rbm
        self.temperature = float(as_temperature(temperature))

    def forward(self, x: Shaped[Tensor, "n visible"]) -> Float[Tensor, " n"]:
        return self.rbm.free_energy(x, self.temperature)

    def energy_changes(self, x: Shaped[Tensor, "n visible"]) -> Float[Tensor, "n visible 2"]:
        rbm = self.rbm
        values = numbers(x, rbm.weights)
        fields = rbm.hidden_fields(values)
        before = summed_out(fields, self.temperature).unsqueeze(-1)
        changes = []
        for state in (0.0, 1.0):
            moves = state - values
            after = fields.unsqueeze(-2) + moves.unsqueeze(-1) * rbm.weights
            gained = summed_out(after, self.temperature) - before
            changes.append(-moves * rbm.visible_bias - gained)
        return torch.stack(changes, -1)


def at_temperature(fields: Tensor, temperature: float | Tensor) -> Tensor:
    """Fields [*batch, n] divided by a temperature that broadcasts to the batch."""
    value = as_temperature(temperature)
    return fields / (value.unsqueeze(-1).to(fields) if value.dim() else value)


def summed_out(
    fields: Float[Tensor, "*batch hidden"], temperature: float | Tensor
) -> Float[Tensor, "*batch"]:
    """T sum_j log(1 + exp(field_j/T)): minus the free energy of units that are summed out."""
    value = as_temperature(temperature)
    total = softplus(at_temperature(fields, value)).sum(-1)
    return total * (value.to(total) if value.dim() else value)


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
    return weights.shape[0], weights.shape[1]


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
