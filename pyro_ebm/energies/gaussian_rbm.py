"""The Gaussian restricted Boltzmann machine: real visible units, hidden ones 0 or 1.

E(v, h) = sum_i (v_i - b_i)^2/(2 s_i^2) - c'h - (v/s)'Wh. Given h the visible units are Gaussian
around b + s W h, given v the hidden ones independent; all in all a mixture of 2^num_hidden
Gaussians with one width. As an energy it is the free energy of the visible units,

    F(v) = sum_i (v_i - b_i)^2/(2 s_i^2) - sum_j log(1 + exp(c_j + (v/s)'W_j)).

Source: G. Hinton, R. Salakhutdinov (2006), Reducing the dimensionality of data with neural
networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .base import Energy
from .gaussian import normal_noise
from .mixture import is_one, where_one
from .parameters import hold, positive, rounded, spread_out
from .rbm import MAX_SUMMED, check_layer, layer_sizes, log_one_plus_exp, units


class GaussianRBM(Energy):
    """The free energy F(v) of the visible units, hidden ones summed out at T = 1.

    Up to about sixteen hidden units log Z, moments and exact draws are known, at T = 1.

    Args:
        weights: W, [num_visible, num_hidden].
        visible_bias: b, a number or [num_visible].
        hidden_bias: c, a number or [num_hidden].
        scale: s, positive, a number or [num_visible].

    Raises:
        TypeError: not real numbers or tensors.
        ValueError: weights that are no matrix, or not finite; biases or scales of another shape; a
            scale that is not positive.
    """

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    scale: Tensor

    def __init__(
        self,
        weights: Tensor,
        visible_bias: float | Tensor = 0.0,
        hidden_bias: float | Tensor = 0.0,
        *,
        scale: float | Tensor = 1.0,
    ) -> None:
        rows, columns = layer_sizes(weights)
        super().__init__((rows,))
        hold(
            self,
            {"scale": positive},
            weights=weights,
            visible_bias=visible_bias,
            hidden_bias=hidden_bias,
            scale=scale,
        )
        check_layer(rows, visible_bias=self.visible_bias, scale=self.scale)
        check_layer(columns, hidden_bias=self.hidden_bias)
        self.num_visible, self.num_hidden = rows, columns

    def hidden_fields(self, visible: Float[Tensor, "*batch visible"]) -> Tensor:
        """c + W'(v/s), [*batch, num_hidden]: what acts on each hidden unit."""
        scaled = visible / self.scale
        return scaled @ self.weights.to(scaled.dtype) + self.hidden_bias

    def hidden_probabilities(
        self, visible: Float[Tensor, "*batch visible"]
    ) -> Float[Tensor, "*batch hidden"]:
        """p(h_j = 1 | v)."""
        return self.hidden_fields(visible).sigmoid()

    def visible_means(self, hidden: Shaped[Tensor, "*batch hidden"]) -> Tensor:
        """b + s W h, [*batch, num_visible]: given h the visible units are N(this, s^2)."""
        return self.visible_bias + self.scale * (hidden.to(self.weights) @ self.weights.mT)

    def joint_energy(self, visible: Tensor, hidden: Tensor) -> Float[Tensor, "*batch"]:
        """E(v, h) of [*batch, num_visible] and [*batch, num_hidden], which may broadcast."""
        fields = self.hidden_fields(visible)
        return self._parabola(visible) - (hidden.to(fields) * fields).sum(-1)

    def _parabola(self, visible: Tensor) -> Tensor:
        return 0.5 * ((visible - self.visible_bias) / self.scale).square().sum(-1)

    def forward(self, x: Float[Tensor, "n visible"]) -> Float[Tensor, " n"]:
        return self._parabola(x) - log_one_plus_exp(self.hidden_fields(x)).sum(-1)

    def _shares(self) -> tuple[Tensor, Tensor] | None:
        """W h [2^hidden, visible] and log of the integral over v of exp(-E(v, h)), of all h; in
        float64. None when there are too many."""
        if 2**self.num_hidden * max(self.num_visible, self.num_hidden) > MAX_SUMMED:
            return None
        hidden = units(torch.arange(2**self.num_hidden), self.num_hidden, self.weights).double()
        reach = hidden @ self.weights.double().mT
        width = self.scale.double().expand(self.num_visible)
        start = self.visible_bias.double() / width
        volume = width.log().sum() + 0.5 * self.num_visible * math.log(2 * math.pi)
        biases = self.hidden_bias.double().expand(self.num_hidden)
        return reach, hidden @ biases + (reach * (start + 0.5 * reach)).sum(-1) + volume

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        shares = None if is_one(temperature) is False else self._shares()
        if shares is None:
            return None
        known = where_one(temperature, shares[1].logsumexp(-1), torch.Size())
        return rounded(known, self.weights, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._moment(temperature, second=False)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._moment(temperature, second=True)

    def _moment(self, temperature: float | Tensor, *, second: bool) -> Tensor | None:
        shares = None if is_one(temperature) is False else self._shares()
        if shares is None:
            return None
        reach, weights = shares[0], shares[1].softmax(-1)
        centre = weights @ reach
        if second:
            known = self.scale.double().square() * (1 + weights @ (reach - centre).square())
        else:
            known = self.visible_bias + self.scale * centre
        return rounded(where_one(temperature, known, self.event_shape), self.weights, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Exact draws of the mixture at T = 1, where its components can be listed."""
        shares = self._shares() if is_one(spread_out(temperature, shape)) else None
        if shares is None:
            return None
        size = torch.Size(shape)
        noise = normal_noise((size.numel(), self.num_visible), self.weights, generator)
        if size.numel():
            chances = shares[1].detach().softmax(-1)
            chosen = torch.multinomial(chances, size.numel(), True, generator=generator)
            noise = noise + shares[0].detach()[chosen].to(noise)
        return (self.visible_bias + self.scale * noise).detach().reshape(size + self.event_shape)
