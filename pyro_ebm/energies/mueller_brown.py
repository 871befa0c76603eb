"""The Müller-Brown surface: three minima and a curved path between them, in the plane.

A sum of four Gaussians that chemists use to try out methods for rare events. The minima are
-146.70 at (-0.558, 1.442), -108.17 at (0.623, 0.028) and -80.77 at (-0.050, 0.467); temperatures
of 10 to 50, in the same units, make the crossings rare to common.

Source: Müller and Brown (1979), Location of saddle points and minimum energy paths by a
constrained simplex optimization procedure.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from .base import Energy
from .parameters import keep

# (height, a, b, c, x0, y0) of height exp(a (x - x0)^2 + b (x - x0)(y - y0) + c (y - y0)^2).
BUMPS = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)


class MuellerBrown(Energy):
    """sum_k A_k exp(a_k dx_k^2 + b_k dx_k dy_k + c_k dy_k^2), on a box.

    The fourth bump grows without bound, and the others fade: only a bounded box makes the low wells
    all there is. The customary one is the default.

    Args:
        lower: the least (x, y), a tensor [2].
        upper: the greatest (x, y), a tensor [2].

    Raises:
        TypeError: bounds that are no tensors.
        ValueError: bounds of another shape, or not in order.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        *,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
    ) -> None:
        super().__init__((2,))
        lower = torch.tensor([-2.25, -1.3]) if lower is None else lower
        upper = torch.tensor([1.75, 3.1]) if upper is None else upper
        for name, bound in (("lower", lower), ("upper", upper)):
            if not isinstance(bound, Tensor):
                raise TypeError(
                    f"expected {name} to be a tensor [2], got {type(bound).__name__}. "
                    "Wrap lists in torch.tensor(...)."
                )
        if lower.shape != (2,) or upper.shape != (2,) or not bool((lower < upper).all()):
            raise ValueError(
                f"expected lower and upper of shape (2,), lower < upper, got {lower} and {upper}."
            )
        keep(self, "lower", lower)
        keep(self, "upper", upper)

    @property
    def support(self) -> Constraint:
        """The box, in the dtype and on the device of its bounds."""
        return constraints.independent(constraints.interval(self.lower, self.upper), 1)

    def forward(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        first, second = x.unbind(-1)
        total = torch.zeros_like(first)
        for height, a, b, c, x0, y0 in BUMPS:
            dx, dy = first - x0, second - y0
            total = total + height * torch.exp(a * dx * dx + b * dx * dy + c * dy * dy)
        return total
