"""Lennard-Jones clusters: atoms that attract each other from afar and repel at close range.

E = 4 sum over pairs of (r^-12 - r^-6), in reduced units: depth and diameter of the pair potential
are 1, a pair rests at r = 2^(1/6) with energy -1. The minima are many and funnels few, which made
the clusters a standard of global optimisation (13 atoms: -44.3268, 38 atoms: -173.9284).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy
from .double_well import checked_dim
from .parameters import hold, positive


class LennardJones(Energy):
    """4 sum over pairs of (r^-12 - r^-6), and beyond a radius a wall, stiffness/2 (|x_i| - R)^2.

    Without a wall atoms can leave each other for ever at no cost, and exp(-E/T) has no integral at
    any temperature: such a cluster can be minimised, not sampled. Sampling tells that chains run
    away, not before they do. A wall that holds all atoms of a minimum changes nothing there.

    Args:
        num_atoms: n, at least 2; a configuration is [n, 3].
        radius: R, positive; of a sphere around the origin. None for no wall.
        stiffness: of the wall, positive.

    Raises:
        TypeError: the number of atoms is no integer; a radius or stiffness that is no number.
        ValueError: fewer than two atoms; a radius or stiffness that is not positive, or no single
            number.
    """

    radius: Tensor | None
    stiffness: Tensor
    pairs: Tensor

    def __init__(
        self,
        num_atoms: object,
        *,
        radius: float | Tensor | None = None,
        stiffness: float | Tensor = 100.0,
    ) -> None:
        atoms = checked_dim(num_atoms, least=2, name="num_atoms")
        super().__init__((atoms, 3))
        given = (
            {"stiffness": stiffness}
            if radius is None
            else {"stiffness": stiffness, "radius": radius}
        )
        hold(self, dict.fromkeys(given, positive), **given)
        if radius is None:
            self.register_buffer("radius", None)
        for name in given:
            if getattr(self, name).dim():
                raise ValueError(
                    f"expected {name} to be one number, got shape "
                    f"{tuple(getattr(self, name).shape)}."
                )
        self.register_buffer("pairs", torch.triu_indices(atoms, atoms, 1))

    def invariants(self, x: Float[Tensor, "n atoms 3"]) -> Float[Tensor, "n pairs"]:
        """The distances of all pairs, in order: moving, turning and mirroring the cluster and
        exchanging atoms leave them as they are."""
        first, second = (x.index_select(1, place) for place in self.pairs)
        return (first - second).norm(dim=-1).sort(-1).values

    def forward(self, x: Float[Tensor, "n atoms 3"]) -> Float[Tensor, " n"]:
        first, second = (x.index_select(1, place) for place in self.pairs)
        square = (first - second).square().sum(-1)
        attraction = square.reciprocal().pow(3)
        # As a product: where atoms coincide it is inf, not inf - inf.
        pairs = 4.0 * (attraction * (attraction - 1.0)).sum(-1)
        if self.radius is None:
            return pairs
        beyond = (x.norm(dim=-1) - self.radius).clamp(min=0.0)
        return pairs + 0.5 * self.stiffness * beyond.square().sum(1)
