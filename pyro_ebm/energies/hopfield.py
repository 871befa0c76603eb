"""The Hopfield network: an Ising model that remembers patterns.

Hebb's rule J_ij = 1/n sum over patterns of xi_i xi_j makes each pattern a minimum of the energy, as
long as there are few: up to about 0.138 n random ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .checks import values_visible
from .couplings import DenseCouplings, numbers, product
from .pairwise import PairwiseEnergy
from .states import spin


class Hopfield(PairwiseEnergy):
    """-1/2 s'Js on spins -1 and +1, with Hebb's J = (xi'xi)/n without its diagonal.

    Args:
        patterns: xi, one pattern a row, [num_patterns, n], of -1 and +1.
        fields: h, a number or one for each spin.

    Raises:
        TypeError: patterns that are no tensor.
        ValueError: patterns of another shape or with other numbers than -1 and +1.

    Source: J. J. Hopfield (1982), Neural networks and physical systems with emergent collective
    computational abilities.
    """

    fields: Tensor
    patterns: Tensor

    def __init__(self, patterns: Tensor, fields: float | Tensor = 0.0) -> None:
        if not isinstance(patterns, Tensor):
            raise TypeError(
                f"expected patterns to be a tensor [num_patterns, n], got "
                f"{type(patterns).__name__}. Wrap lists in torch.tensor(...)."
            )
        if patterns.dim() != 2 or not patterns.numel():
            raise ValueError(
                f"expected patterns of shape [num_patterns, n], got {tuple(patterns.shape)}."
            )
        if values_visible() and not bool(spin.check(patterns).all()):
            raise ValueError(
                "expected patterns of -1 and +1, got other numbers. Of zeros and ones write "
                "2 * patterns - 1."
            )
        rows = patterns if patterns.is_floating_point() else patterns.to(torch.get_default_dtype())
        hebb = rows.mT @ rows / rows.shape[-1]
        super().__init__(DenseCouplings(hebb - torch.diag(hebb.diagonal())), fields, support=spin)
        self.register_buffer("patterns", rows)

    def overlaps(self, x: Tensor) -> Float[Tensor, "*batch num_patterns"]:
        """How well configurations [*batch, n] agree with each pattern, from -1 to 1."""
        return product(numbers(x, self.patterns), self.patterns.mT) / self.event_shape.numel()
