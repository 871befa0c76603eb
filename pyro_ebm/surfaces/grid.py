"""The states of a pool: params on a grid of the box, times s from near 0 to 1.

State (s, theta) has the density exp(-s E(x; theta)/T). All states meet in the uniform law at s = 0,
whose log Z is known, so that a sparse phase and a dense one are both reached without a jump, from
the side where each of them grows. Neighbours along s and along every param swap their replicas.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Points of each param to begin with, for one to four of them.
_POINTS = (7, 4, 3, 3)
_MOST_STATES = 512
# Where neighbours accept fewer swaps another state is put between them.
_FEW, _FEW_OF_PARAMS = 0.25, 0.1


class Grid(NamedTuple):
    """``scales`` [rungs] of s, ascending to 1, and of every param its points, ascending."""

    scales: Float[Tensor, " rungs"]
    axes: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rungs, and points of every param."""
        return (len(self.scales), *(len(axis) for axis in self.axes))

    @property
    def nodes(self) -> Float[Tensor, "nodes d"]:
        """All points of the box."""
        return torch.cartesian_prod(*self.axes).reshape(-1, len(self.axes))

    @property
    def params(self) -> Float[Tensor, "states d"]:
        """Of every state, the rungs slowest."""
        return self.nodes.repeat(len(self.scales), 1)

    @property
    def scale(self) -> Float[Tensor, " states"]:
        """s of every state."""
        return self.scales.repeat_interleave(len(self.nodes))

    def refined(self, accepted: list[Tensor]) -> Grid | None:
        """With new states where replicas do not get on; None where there are none.

        :param accepted: along s, from 0 on, and along every param the rates of swaps, of the shape
            of the grid but for one less along that param.
        """
        reach = reachable(accepted)
        below = torch.cat([torch.ones_like(reach[:1]), reach[:-1]])
        # A jump along s needs no states where replicas come from the sides.
        wanting = (reach < _FEW) & (below >= _FEW)
        from_zero = torch.cat([torch.zeros_like(self.scales[:1]), self.scales])
        scales = _halved(from_zero, wanting.flatten(1).any(1))[1:]
        axes = tuple(
            _halved(
                points,
                rates[-1].movedim(axis, 0).reshape(len(points) - 1, -1).mean(1) < _FEW_OF_PARAMS,
            )
            for axis, (points, rates) in enumerate(zip(self.axes, accepted[1:], strict=True))
        )
        found = Grid(scales, axes)
        if math.prod(found.shape) > _MOST_STATES:
            found = Grid(scales, self.axes)
        too_many = math.prod(found.shape) > _MOST_STATES
        return None if too_many or found.shape == self.shape else found


def reachable(accepted: list[Tensor]) -> Float[Tensor, "*shape"]:
    """Of every state the least rate of swaps on the best way from s = 0."""
    reach = torch.zeros_like(accepted[0])
    for _ in range(sum(reach.shape)):
        reach[0] = torch.maximum(reach[0], accepted[0][0])
        for axis, rates in enumerate([accepted[0][1:], *accepted[1:]]):
            length = reach.shape[axis]
            lower, upper = reach.narrow(axis, 0, length - 1), reach.narrow(axis, 1, length - 1)
            upper.copy_(torch.maximum(upper, torch.minimum(lower, rates)))
            lower.copy_(torch.maximum(lower, torch.minimum(upper, rates)))
    return reach


def first_grid(low: Tensor, high: Tensor, spread: float) -> Grid:
    """A grid of a box, for energies over T that spread by so much under the uniform law."""
    points = _POINTS[len(low) - 1]
    axes = tuple(
        torch.linspace(float(a), float(b), points, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    )
    lowest = min(0.5, 1.0 / max(spread, 1e-9))
    rungs = 1 + math.ceil(math.log2(1 / lowest))
    scales = torch.logspace(math.log2(lowest), 0.0, rungs, base=2.0, dtype=torch.float64)
    return Grid(scales, axes)


def _halved(points: Tensor, where: Tensor) -> Tensor:
    middle = 0.5 * (points[1:] + points[:-1])
    return torch.cat([points, middle[where]]).sort().values
