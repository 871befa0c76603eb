"""U-turn checks inside a growing tree, without recursion.

A trajectory turns when its ends approach each other: when the sum of its momenta, the ends counted
half, points against the momentum at either end. The new half of a tree, built leaf by leaf,
contains smaller balanced subtrees, and none of them may turn. An even leaf n opens subtrees: it is
remembered at the level popcount(n >> 1). An odd leaf n closes one subtree per trailing one of n,
whose first leaves lie at the levels from popcount(n >> 1) - trailing_ones(n) + 1 to
popcount(n >> 1).

Each tree and subtree is checked from end to end, and besides from either end to the far side of its
middle. Without the latter a trajectory that has just closed a full circle looks straight, and NUTS
runs in circles on a well-scaled Gaussian. A leaf at one level opens the right half of the subtree
at the level above. So the stretch from the beginning of that subtree to this leaf is checked when
the leaf comes, as the subtree is lost if it turns; and the leaf before it is remembered, as the
beginning of the stretch over the middle to the end.

All stretches that end at the present leaf are thus checked alike, and differ in where they begin.
The beginnings that are remembered fill the rows of a table, two a level.

Source: Phan, Pradhan, Jankowiak (2019), Composable effects for flexible and accelerated
probabilistic programming in NumPyro, for the iteration; Betancourt (2017), A conceptual
introduction to Hamiltonian Monte Carlo, for the criterion; the checks across the middle are those
of Stan since 2.21.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# The first row takes what is not to be kept. Then come the beginning of the whole tree, and by
# level that of a subtree and the leaf before it, with which the stretch over a middle begins.
_NOWHERE, TREE, _FIRST = 0, 1, 2
TREE_ACROSS = _FIRST + 1


class Checkpoints(NamedTuple):
    """Where stretches begin: the momentum there, and the sum of momenta up to it, itself counted
    half, relative to the sum at the beginning of the new half; each [rows, dim, chains]."""

    momentum: Tensor
    momentum_sum: Tensor


class CheckTable(NamedTuple):
    """By leaf: ``rows`` [3, leaves], in which it is kept as the beginning of a tree, of a subtree
    and of a stretch over a middle; ``checked`` [rows, leaves], which stretches it must not turn."""

    rows: Tensor
    checked: Tensor


def num_rows(num_levels: int) -> int:
    """The rows for subtrees that begin at so many levels."""
    return _FIRST + 2 * num_levels


def check_table(max_tree_depth: int) -> CheckTable:
    """The table for halves of up to 2^(max_tree_depth - 1) leaves."""
    num_leaves = 2 ** (max_tree_depth - 1)
    rows = torch.full((3, num_leaves), _NOWHERE)
    checked = torch.zeros(num_rows(max(max_tree_depth - 1, 1)), num_leaves, dtype=torch.bool)
    rows[0, 0] = TREE
    for leaf in range(num_leaves):
        top = _FIRST + 2 * (leaf >> 1).bit_count()
        if leaf % 2 == 0:
            rows[1:, leaf] = torch.tensor([top, top + 1])
            closing = [top - 2] if leaf > 0 else []
        else:
            whole = range(top, top - 2 * _trailing_ones(leaf), -2)
            across = (row + 1 for row in whole[:-1])
            closing = [*whole, *across]
        checked[closing, leaf] = True
    return CheckTable(rows, checked)


def _trailing_ones(leaf: int) -> int:
    return (~leaf & (leaf + 1)).bit_length() - 1


def is_turning(first: Tensor, last: Tensor, momentum_sum: Tensor) -> Tensor:
    """Whether the ends of a trajectory approach each other, over the second to last axis.

    :param first: momenta at one end, last: at the other, momentum_sum: over all points from one end
        to the other, the ends counted half; all [..., dim, chains].
    """
    return ((momentum_sum * first).sum(-2) <= 0) | ((momentum_sum * last).sum(-2) <= 0)


def extend(
    checkpoints: Checkpoints,
    rows: Tensor,
    *,
    tree: tuple[Tensor, Tensor],
    before: Tensor,
    momentum: Tensor,
    momentum_sum: Tensor,
) -> tuple[Checkpoints, Tensor]:
    """Remember a leaf, and tell which stretches turn that end at it.

    :param rows: where it is kept, [3, chains], from the table.
    :param tree: the momentum at the far end of the tree so far, and the sum over that tree.
    :param before: the momentum of the point before the leaf [dim, chains].
    :param momentum_sum: over the new half so far, this leaf included [dim, chains].
    :returns: the new checkpoints, and booleans [rows, chains].
    """
    sum_to_leaf = momentum_sum - 0.5 * momentum
    sum_to_before = momentum_sum - momentum - 0.5 * before
    begin, tree_sum = tree
    row = rows[:, None].expand(3, *momentum.shape)
    new = (
        torch.stack([begin, momentum, before]),
        torch.stack([0.5 * begin - tree_sum, sum_to_leaf, sum_to_before]),
    )
    kept = Checkpoints(*(a.scatter(0, row, b) for a, b in zip(checkpoints, new, strict=True)))
    return kept, is_turning(kept.momentum, momentum, sum_to_leaf - kept.momentum_sum)
