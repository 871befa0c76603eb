"""Networks whose outputs are a function of a few sums over their weights: perceptrons, committees.

A hidden unit k sees the field h_k = w_k . x / sqrt(N), and the output is a function of the fields.
When one weight changes, one field moves along one column of the inputs: nothing has to be computed
anew. Samplers that change one weight at a time ask a network for its fields.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FieldNetwork(nn.Module):
    """A network of N inputs and K hidden units, whose weights are [K, N], and [N] for one.

    Args:
        num_inputs: N.
        num_hidden: K.

    Raises:
        ValueError: less than one of either.
    """

    differentiable = True

    def __init__(self, num_inputs: int, num_hidden: int) -> None:
        super().__init__()
        if num_inputs < 1 or num_hidden < 1:
            raise ValueError(
                f"expected at least one input and one hidden unit, got {num_inputs} and "
                f"{num_hidden}."
            )
        self.num_inputs, self.num_hidden = num_inputs, num_hidden
        self.weight = nn.Parameter(torch.randn(num_hidden * num_inputs))

    def forward(self, x: Float[Tensor, "*examples inputs"]) -> Float[Tensor, "*examples"]:
        """The outputs for inputs [*examples, N]."""
        return self.output(self.fields(self.weight, x))

    def fields(self, weights: Tensor, x: Tensor) -> Tensor:
        """The fields [*batch, P, K] of flat weights [*batch, K N] at inputs [*batch, P, N]."""
        return self.sums(weights, x) / math.sqrt(self.num_inputs)

    def sums(self, weights: Tensor, x: Tensor) -> Tensor:
        """The fields times sqrt(N): whole numbers where weights and inputs are, so that a field of
        exactly 0 stays one whatever is added and taken away."""
        rows = weights.reshape(*weights.shape[:-1], self.num_hidden, self.num_inputs)
        return torch.einsum("...kn,...pn->...pk", rows, x)

    def output_of_sums(self, sums: Tensor) -> Tensor:
        """Outputs [*batch] as a function of sums [*batch, K]."""
        return self.output(sums / math.sqrt(self.num_inputs))

    @abstractmethod
    def output(self, fields: Tensor) -> Tensor:
        """Outputs [*batch] as a function of fields [*batch, K]."""

    def extra_repr(self) -> str:
        return f"{self.num_inputs} inputs, {self.num_hidden} hidden"


class Perceptron(FieldNetwork):
    """w . x / sqrt(N): one unit. Its sign is what a loss of margins looks at.

    Args:
        num_inputs: N, the number of inputs and weights.
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__(num_inputs, 1)

    def output(self, fields: Tensor) -> Tensor:
        return fields.squeeze(-1)


class CommitteeMachine(FieldNetwork):
    """The vote of K perceptrons that see all inputs: sum of sign(h_k), over sqrt(K).

    Flat in its weights, and sampled by kernels that need no gradient.

    Args:
        num_inputs: N of each perceptron; the weights are K N.
        num_hidden: K, odd, so that no vote is a draw.

    Raises:
        ValueError: an even K.
    """

    differentiable = False

    def __init__(self, num_inputs: int, num_hidden: int) -> None:
        super().__init__(num_inputs, num_hidden)
        if num_hidden % 2 == 0:
            raise ValueError(f"expected an odd number of voters, got num_hidden={num_hidden}.")

    def output(self, fields: Tensor) -> Tensor:
        return fields.sign().sum(-1) / math.sqrt(self.num_hidden)
