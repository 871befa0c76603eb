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
from .parameters import hold, nonnegative


class LennardJones(Energy):
    """4 sum over pairs of (r^-12 - r^-6) + confinement/2 sum over atoms of |x_i|^2.

    Without confinement atoms can leave each other for ever at no cost, and exp(-E/T) has no
    integral at any temperature: such a cluster can be minimised, not sampled. Sampling tells that
    chains run away, not before they do.

    Args:
        num_atoms: n, at least 2; a configuration is [n, 3].
        confinement: the stiffness of a harmonic trap around the origin, not negative.

    Raises:
        TypeError: the number of atoms is no integer; a confinement that is no number.
        ValueError: fewer than two atoms; a confinement that is negative or no single number.
    """

    confinement: Tensor
    pairs: Tensor

    def __init__(self, num_atoms: object, *, confinement: float | Tensor = 0.0) -> None:
        atoms = checked_dim(num_atoms, least=2, name="num_atoms")
        super().__init__((atoms, 3))
        hold(self, {"confinement": nonnegative}, confinement=confinement)
        if self.confinement.dim():
            raise ValueError(
                f"expected confinement to be one number, got shape {tuple(self.confinement.shape)}."
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
        return pairs + 0.5 * self.confinement * x.square().sum((1, 2))
