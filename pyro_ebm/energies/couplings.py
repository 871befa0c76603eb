"""Couplings between the sites of a discrete energy: a dense matrix, or the bonds of a lattice.

An energy of pairs is E(x) = -sum over bonds of J_ij f(x_i, x_j) + site terms. All that it needs of
its couplings is the product (J y)_i = sum_j J_ij y_j, where each bond counts in both directions:
one matrix product for a dense J, shifts of the whole lattice for nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .checks import sizes_of, values_visible
from .numbers_seen import holds_at_all
from .parameters import hold
from .supports import as_sizes


class Bonds(NamedTuple):
    """The terms of an energy of pairs, each pair once.

    E(x) = -sum_b strengths_b f(x_i, x_j) - sum_i field_i(x_i), with f(a, b) = a b on the supports
    spin and boolean (Ising, Hopfield, Boltzmann machines), and f(a, b) = [a = b] on
    integer_interval (Potts).

    Attributes:
        pairs: sites (i, j) of each bond, places in the flattened event, [m, 2].
        strengths: J of each bond, [m]; zeros may be among them.
        fields: h of each site, [n], with field_i(x_i) = h_i x_i; for Potts [n, q], with
            field_i(x_i) = h_i[x_i].
    """

    pairs: Int[Tensor, "m 2"]
    strengths: Float[Tensor, " m"]
    fields: Float[Tensor, "n ..."]


def scaled_bonds(energy: nn.Module, factor: float | Tensor) -> Bonds | None:
    """The bonds of a multiple of an energy; None where it is not one of pairs."""
    bonds = getattr(energy, "bonds", None)
    if not isinstance(bonds, Bonds):
        return None
    return Bonds(bonds.pairs, factor * bonds.strengths, factor * bonds.fields)


class DenseCouplings(nn.Module):
    """A symmetric matrix J [n, n] with zeros on its diagonal.

    An `nn.Parameter` counts through its symmetric part without the diagonal, so that steps of
    training cannot leave the symmetric matrices.

    Args:
        matrix: J.
        name: what the matrix is called in an error.

    Raises:
        TypeError: not a real tensor.
        ValueError: not a square, finite, symmetric matrix with a zero diagonal.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, *, name: str = "couplings") -> None:
        super().__init__()
        hold(self, {}, {"matrix": name}, matrix=matrix)
        shape = tuple(sizes_of(self.matrix))
        if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
            raise ValueError(
                f"expected {name} to be a square matrix [n, n], one row for each site, "
                f"got shape {shape}."
            )
        if values_visible():
            _check_symmetric(self.matrix.detach(), name)
        self.event_shape = torch.Size(shape[:1])

    def current(self) -> Tensor:
        """J [n, n] as it counts now."""
        if not isinstance(self.matrix, nn.Parameter):
            return self.matrix
        symmetric = 0.5 * (self.matrix + self.matrix.mT)
        return symmetric - torch.diag_embed(symmetric.diagonal())

    def vanish(self) -> bool:
        """Whether all are zero: couplings that move may be any."""
        return bool(holds_at_all(lambda strength: strength == 0, self._own()))

    def _own(self) -> Tensor:
        return self.current() if isinstance(self.matrix, nn.Parameter) else self.matrix

    def forward(self, values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """(J y)_i, over the last axis."""
        return product(values, self.current())

    def pairs(self) -> Int[Tensor, "m 2"]:
        """The pairs of sites whose J is not zero."""
        return self.current().detach().triu(1).nonzero()

    def strengths(self) -> Float[Tensor, " m"]:
        """J of each of `pairs`."""
        first, second = self.pairs().unbind(-1)
        return self.current()[first, second]


class LatticeCouplings(nn.Module):
    """Nearest neighbours of a hypercubic lattice.

    Each pair of neighbours is bound once: a periodic length of 2 has one bond a row, not two, and
    a length of 1 none.

    Args:
        shape: the lengths of the lattice.
        strength: J, a number, one for each axis [d], or one for each bond [d, *shape]: that of a
            site to the next along each axis; what a boundary leaves out is not looked at.
        periodic: whether the last site of each row is bound to the first.

    Raises:
        TypeError: the shape is no sequence of sizes; the strength no real number or tensor.
        ValueError: an empty lattice; a strength of another shape, or not finite.
    """

    strength: Tensor
    present: Tensor

    def __init__(
        self, shape: Sequence[int], strength: float | Tensor, *, periodic: bool = True
    ) -> None:
        super().__init__()
        lengths = as_sizes(shape)
        if lengths is None:
            raise TypeError(
                "expected shape to be a sequence of the lengths of a lattice, such as (16, 16) or "
                f"(16,) for a ring, got {shape!r}."
            )
        if not lengths or 0 in lengths:
            raise ValueError(
                f"expected the lengths of a lattice, such as (16, 16), got {tuple(lengths)}."
            )
        hold(self, {}, strength=strength)
        legal = ((), (len(lengths),), (len(lengths), *lengths))
        if tuple(self.strength.shape) not in legal:
            raise ValueError(
                f"expected a coupling that is one number, one for each axis {legal[1]}, or one for "
                f"each bond {legal[2]}, got shape {tuple(self.strength.shape)}."
            )
        present = torch.ones(len(lengths), *lengths, dtype=torch.bool)
        for axis, length in enumerate(lengths):
            if length < 3 or not periodic:
                present[axis].select(axis, length - 1).zero_()
        self.register_buffer("present", present)
        self.event_shape = lengths
        self.periodic = periodic

    def current(self) -> Float[Tensor, "d ..."]:
        """J of each site's bond to the next along each axis, 0 where there is none."""
        strength = self.strength
        if strength.dim() == 1:
            strength = strength.reshape(-1, *(1 for _ in self.event_shape))
        return torch.where(self.present, strength, 0.0)

    def vanish(self) -> bool:
        """Whether all are zero: couplings that move may be any."""
        return bool(holds_at_all(lambda strength: strength == 0, self.current()))

    def forward(self, values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """(J y)_i, over the last axis."""
        field = values.unflatten(-1, self.event_shape)
        total = torch.zeros_like(field)
        for axis, strength in enumerate(self.current()):
            along = axis - len(self.event_shape)
            total = total + strength * field.roll(-1, along) + (strength * field).roll(1, along)
        return total.flatten(-len(self.event_shape))

    def pairs(self) -> Int[Tensor, "m 2"]:
        """All neighbours, axis by axis, a site before the next along the axis."""
        device = self.present.device
        here = torch.arange(self.event_shape.numel(), device=device).reshape(self.event_shape)
        found = [
            torch.stack([here[bound], here.roll(-1, axis)[bound]], -1)
            for axis, bound in enumerate(self.present)
        ]
        return torch.cat(found)

    def strengths(self) -> Float[Tensor, " m"]:
        """J of each of `pairs`."""
        return self.current()[self.present]


def numbers(x: Tensor, like: Tensor) -> Tensor:
    """Configurations as floating-point numbers: integers and booleans in the dtype of `like`."""
    return x if x.is_floating_point() else x.to(like.dtype)


def product(values: Tensor, matrix: Tensor) -> Tensor:
    """values @ matrix, in the wider of their dtypes."""
    dtype = torch.promote_types(values.dtype, matrix.dtype)
    return values.to(dtype) @ matrix.to(dtype)


def _check_symmetric(matrix: Tensor, name: str) -> None:
    skew = float((matrix - matrix.mT).abs().max())
    if skew > 8 * torch.finfo(matrix.dtype).eps * float(matrix.abs().max()):
        raise ValueError(
            f"expected {name} to be symmetric, got a matrix that differs from its transpose by up "
            f"to {skew:.3g}. Write 0.5 * ({name} + {name}.mT); of an upper triangle in which each "
            f"bond stands once, {name} + {name}.mT."
        )
    diagonal = float(matrix.diagonal().abs().max())
    if diagonal > 0:
        raise ValueError(
            f"expected {name} with zeros on the diagonal, because no site is bound to itself, got "
            f"up to {diagonal:.3g} there. Write {name} - {name}.diagonal().diag()."
        )
