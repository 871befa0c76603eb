"""Restricted Boltzmann machines: visible and hidden units, coupled across and not within.

E(v, h) = -b'v - c'h - v'Wh on units 0 and 1. Given the visible units the hidden ones are
independent, and the other way round, so that all of a layer can be drawn at once, and the hidden
layer can be summed out in closed form: sum over h of exp(-E/T) = exp(-F(v)/T) with the free energy

    F(v) = -b'v - T sum_j log(1 + exp((c_j + v'W_j)/T)).

Source: G. Hinton (2012), A practical guide to training restricted Boltzmann machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions import constraints

from .augmented import Augmented
from .base import Energy
from .checks import as_temperature
from .couplings import Bonds, numbers, product
from .layers import (
    MAX_SUMMED,
    at_temperature,
    check_layer,
    layer_sizes,
    log_one_plus_exp,
    summed_out,
    units,
)
from .mixture import is_one, where_one
from .parameters import hold, rounded, spread_out


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

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """By the sum over the smaller layer, of about sixteen units at most; else None."""
        if 2 ** min(self.num_visible, self.num_hidden) * sum(self.event_shape) > MAX_SUMMED:
            return None
        return rounded(self.layer_log_normalizer(temperature), self.weights, temperature)

    def layer_log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        """log Z by the sum over all states of the smaller layer, in float64, however long it takes.

        Args:
            temperature: T, a number or a tensor [*batch].

        Raises:
            ValueError: both layers have more than 24 units.
        """
        least = min(self.num_visible, self.num_hidden)
        if least > 24:
            raise ValueError(
                f"expected a layer of at most 24 units, whose states can be listed, got "
                f"{self.num_visible} visible and {self.num_hidden} hidden ones. Estimate log Z "
                "with AIS."
            )
        value = as_temperature(temperature).double().to(self.weights.device)
        step = max(1, MAX_SUMMED // sum(self.event_shape))
        parts = []
        for first in range(0, 2**least, step):
            index = torch.arange(first, min(first + step, 2**least))
            parts.append(
                torch.stack([self._log_shares(index, t).logsumexp(-1) for t in value.reshape(-1)])
            )
        return torch.stack(parts).logsumexp(0).reshape(value.shape)

    def _log_shares(self, index: Tensor, temperature: Tensor) -> Tensor:
        """log of the sum over the larger layer, for states of the smaller one by number."""
        weights, one, other = self.weights.double(), self.hidden_bias, self.visible_bias
        if self.num_visible < self.num_hidden:
            weights, one, other = weights.mT, other, one
        states = units(index, weights.shape[1], weights)
        fields = states @ weights.mT + other.double()
        biased = (states * one.double()).sum(-1) / temperature
        return biased + log_one_plus_exp(fields / temperature).sum(-1)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Exact draws, the smaller layer from the list of its states; None when that is long."""
        least = min(self.num_visible, self.num_hidden)
        if 2**least * sum(self.event_shape) > MAX_SUMMED:
            return None
        with torch.no_grad():
            wanted = spread_out(temperature, shape).to(self.weights.device)
            levels, which = wanted.reshape(-1).unique(return_inverse=True)
            index = torch.zeros_like(which)
            for number, level in enumerate(levels):
                here = which == number
                shares = self._log_shares(torch.arange(2**least), level.double()).softmax(-1)
                index[here] = torch.multinomial(shares, int(here.sum()), True, generator=generator)
            states = units(index, least, self.weights)
            flat = wanted.reshape(-1)
            few_visible = self.num_visible < self.num_hidden
            chances = self.hidden_probabilities if few_visible else self.visible_probabilities
            up = chances(states, flat)
            noise = torch.rand(up.shape, dtype=up.dtype, device=up.device, generator=generator)
            drawn = (noise < up).to(states.dtype)
            layers = [states, drawn] if few_visible else [drawn, states]
            return torch.cat(layers, -1).reshape(*shape, *self.event_shape)

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

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """That of the machine, at the one temperature at which this is its marginal."""
        as_temperature(temperature)
        ratio = temperature / self.temperature
        known = None if is_one(ratio) is False else self.rbm.log_normalizer(self.temperature)
        if known is None:
            return None
        return rounded(where_one(ratio, known, torch.Size()), known, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        if not bool((as_temperature(temperature) == self.temperature).all()):
            return None
        joint = self.rbm.exact_sample(shape, temperature=temperature, generator=generator)
        return None if joint is None else self.rbm.split(joint).visible

    @property
    def augmented(self) -> Augmented | None:
        """The machine itself, whose layers are drawn whole; at a temperature of 1."""
        if self.temperature != 1.0:
            return None
        return Augmented(self.rbm, self._complete, lambda x: self.rbm.split(x).visible)

    def _complete(self, visible: Tensor, generator: torch.Generator | None) -> Tensor:
        up = self.rbm.hidden_probabilities(visible)
        noise = torch.rand(up.shape, dtype=up.dtype, device=up.device, generator=generator)
        return torch.cat([visible.to(up), (noise < up).to(up)], -1)

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
