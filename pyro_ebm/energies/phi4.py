"""Lattice phi^4: a quartic site energy and a spring on every bond.

E(x) = sum_i [h x_i + r x_i^2/2 + u x_i^4/4] + coupling/2 sum over bonds of (x_i - x_j)^2. For r
below a critical value the field orders, and single-site moves have to cross a barrier together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .base import Energy
from .double_well import fits_event
from .parameters import hold, nonnegative
from .quartic import check_confining, quartic_energy


class Phi4(Energy):
    """The phi^4 energy on any graph of sites.

    Args:
        event_shape: the shape of the field.
        bonds: pairs of sites [num_bonds, 2], positions in the flattened field; each once.
        quadratic: r, of either sign; like `quartic` and `tilt` a number or one for each site.
        quartic: u, positive, or 0 where r is positive.
        tilt: h, an external field with a minus sign.
        coupling: the stiffness of the bonds, not negative, a number or [num_bonds].

    Raises:
        ValueError: bonds that are no pairs of different sites; coefficients that do not confine.
    """

    bonds: Tensor
    quadratic: Tensor
    quartic: Tensor
    tilt: Tensor
    coupling: Tensor

    def __init__(
        self,
        event_shape: object,
        bonds: Tensor,
        *,
        quadratic: float | Tensor = 1.0,
        quartic: float | Tensor = 1.0,
        tilt: float | Tensor = 0.0,
        coupling: float | Tensor = 1.0,
    ) -> None:
        super().__init__(event_shape)
        sites = self.event_shape.numel()
        legal = bonds.dim() == 2 and bonds.shape[-1] == 2
        if legal and bonds.numel():
            first, second = bonds.unbind(-1)
            legal = bool(((bonds >= 0) & (bonds < sites)).all() & (first != second).all())
        if not legal:
            raise ValueError(
                f"expected bonds of shape [num_bonds, 2], pairs of different sites from 0 to "
                f"{sites - 1}, got {bonds}."
            )
        hold(
            self,
            {"quartic": nonnegative, "coupling": nonnegative},
            quadratic=quadratic,
            quartic=quartic,
            tilt=tilt,
            coupling=coupling,
        )
        fits_event(self.event_shape, quadratic=self.quadratic, quartic=self.quartic, tilt=self.tilt)
        fits_event(bonds.shape[:1], coupling=self.coupling)
        check_confining(self.quadratic, self.quartic)
        self.register_buffer("bonds", bonds.long())

    @classmethod
    def lattice(
        cls,
        shape: Sequence[int],
        *,
        quadratic: float | Tensor = 1.0,
        quartic: float | Tensor = 1.0,
        tilt: float | Tensor = 0.0,
        coupling: float | Tensor = 1.0,
        periodic: bool = True,
    ) -> Phi4:
        """The field on a hypercubic lattice; `(n,)` is a ring, or a chain when not periodic.

        Args:
            shape: the lengths of the lattice, which is the event shape.
            quadratic: r.
            quartic: u.
            tilt: h.
            coupling: the stiffness of all bonds.
            periodic: whether the last site of each row is bound to the first. Each pair of
                neighbours is bound once, also along a length of 2.
        """
        return cls(
            tuple(shape),
            lattice_bonds(shape, periodic=periodic),
            quadratic=quadratic,
            quartic=quartic,
            tilt=tilt,
            coupling=coupling,
        )

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        sites = quartic_energy(x, self.quadratic, self.quartic, tilt=self.tilt)
        field = x.reshape(len(x), self.event_shape.numel())
        first, second = self.bonds.unbind(-1)
        stretch = field.index_select(-1, first) - field.index_select(-1, second)
        return sites + 0.5 * (self.coupling * stretch.square()).sum(-1)


def lattice_bonds(shape: Sequence[int], *, periodic: bool) -> Int[Tensor, "num_bonds 2"]:
    """The nearest neighbours of a hypercubic lattice, each pair once.

    Args:
        shape: the lengths of the lattice.
        periodic: whether rows close on themselves.

    Returns:
        Pairs of positions in the flattened lattice.
    """
    index = torch.arange(torch.Size(shape).numel()).reshape(tuple(shape))
    pairs = set()
    for dim, size in enumerate(shape):
        neighbour = index.roll(-1, dim)
        if not periodic:
            keep = torch.arange(size - 1)
            here, there = index.index_select(dim, keep), neighbour.index_select(dim, keep)
        else:
            here, there = index, neighbour
        pairs.update(zip(here.flatten().tolist(), there.flatten().tolist(), strict=True))
    once = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    return torch.tensor(list(itertools.chain.from_iterable(once))).long().reshape(-1, 2)
