"""Sums over all pairs of rows, for many signs or memberships of the rows at once.

Tests by relabelling need w' K w for a matrix K of all pairs and many vectors w. K is made block by
block and never held whole; it is symmetric, so that half of its blocks are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

BLOCK = 1024


class PairSums(NamedTuple):
    """Sums over a symmetric matrix K of all pairs of n rows.

    ``forms`` [p] are w'Kw and ``crossed`` [p] are w'K1 for each of p vectors w; ``total`` is 1'K1,
    ``diagonal`` the trace.
    """

    forms: Float[Tensor, " p"]
    crossed: Float[Tensor, " p"]
    total: float
    diagonal: float


def pair_sums(
    block: Callable[[slice, slice], Tensor],
    vectors: Shaped[Tensor, "n p"],
    *,
    block_size: int = BLOCK,
) -> PairSums:
    """Sum over all pairs, in float64.

    :param block: the entries of K for two ranges of rows.
    :param vectors: the w, a column each.
    :param block_size: rows of a block, which bounds the memory.
    """
    n, p = vectors.shape
    parts = [slice(first, min(first + block_size, n)) for first in range(0, n, block_size)]
    forms = torch.zeros(p, dtype=torch.float64, device=vectors.device)
    row_sums = torch.zeros(n, dtype=torch.float64, device=vectors.device)
    diagonal = 0.0
    for place, rows in enumerate(parts):
        left = vectors[rows].double()
        for columns in parts[place:]:
            entries = block(rows, columns).double()
            twice = 1.0 if columns is rows else 2.0
            forms += twice * (left * (entries @ vectors[columns].double())).sum(0)
            row_sums[rows] += entries.sum(1)
            if columns is rows:
                diagonal += float(entries.diagonal().sum())
            else:
                row_sums[columns] += entries.sum(0)
    crossed = torch.stack([vectors[rows].double().mT @ row_sums[rows] for rows in parts]).sum(0)
    return PairSums(forms, crossed, float(row_sums.sum()), diagonal)


def squared_distances(
    first: Float[Tensor, "n size"], second: Float[Tensor, "m size"]
) -> Float[Tensor, "n m"]:
    """Squared distances of rows of two groups, by one product of matrices."""
    squares = first.square().sum(1)[:, None] + second.square().sum(1)
    return torch.addmm(squares, first, second.mT, alpha=-2.0).clamp_(min=0.0)


def p_value(observed: float, relabelled: Float[Tensor, " p"]) -> float:
    """The share of values at least as large as the observed one, itself among them.

    Sums that are equal but for rounding count as equal.
    """
    rounding = 1e-10 * max(abs(observed), float(relabelled.abs().max()))
    return (1 + int((relabelled >= observed - rounding).sum())) / (1 + len(relabelled))
