"""The Boltzmann machine: E(x) = -1/2 x'Wx - b'x on units 0 and 1, any pair of them coupled.

The same distributions as those of an Ising model, with x = (1 + s)/2: W = 4 J, b = 2 (h - J 1).
Source: D. Ackley, G. Hinton, T. Sejnowski (1985), A learning algorithm for Boltzmann machines.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributions import constraints

from .couplings import DenseCouplings
from .pairwise import PairwiseEnergy


class BoltzmannMachine(PairwiseEnergy):
    """-1/2 x'Wx - b'x on units 0 and 1.

    Args:
        weights: W, a symmetric matrix [n, n] with a zero diagonal.
        biases: b, a number or one for each unit.

    Raises:
        TypeError: not real numbers or tensors.
        ValueError: weights that are not symmetric, have a diagonal or are not finite; biases of
            another shape.
    """

    biases: Tensor

    def __init__(self, weights: Tensor, biases: float | Tensor = 0.0) -> None:
        super().__init__(
            DenseCouplings(weights, name="weights"),
            biases,
            support=constraints.boolean,
            name="biases",
        )
