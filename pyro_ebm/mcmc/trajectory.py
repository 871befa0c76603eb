"""U-turn checks inside a growing subtree, without recursion.

A subtree of 2^d leaves, built leaf by leaf, contains smaller balanced subtrees, and each of them
must be checked for a U-turn when its last leaf is reached. An even leaf n opens subtrees: its
momentum and running momentum sum are stored at the level popcount(n >> 1). An odd leaf n closes one
subtree per trailing one of n, whose first leaves lie at the levels from
popcount(n >> 1) - trailing_ones(n) + 1 to popcount(n >> 1).

A subtree is checked from end to end, and besides from either end to the far side of its middle.
Without the latter a trajectory that has just closed a full circle looks straight, and NUTS runs in
circles on a well-scaled Gaussian. The right half of the subtree at one level is the subtree at the
next, so that its first leaf, and the leaf before it, are at hand.

Source: Phan, Pradhan, Jankowiak (2019), Composable effects for flexible and accelerated
probabilistic programming in NumPyro, for the iteration; Betancourt (2017), A conceptual
introduction to Hamiltonian Monte Carlo, for the criterion; the checks across the middle are those
of Stan since 2.21.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Checkpoints(NamedTuple):
    """First leaves of open subtrees, by level: their momentum, the running momentum sum up to and
    with them, and the momentum of the point before them; each [levels, dim, chains]."""

    momentum: Tensor
    momentum_sum: Tensor
    before: Tensor


class CheckTable(NamedTuple):
    """Per level and leaf: whether the leaf stores there, whether it closes a subtree that starts
    there, and whether that subtree has a middle (more than two leaves)."""

    store: Tensor
    close: Tensor
    has_middle: Tensor


def check_table(max_tree_depth: int) -> CheckTable:
    """The table for subtrees of up to 2^(max_tree_depth - 1) leaves, each [levels, leaves]."""
    levels = max(max_tree_depth - 1, 1)
    leaves = range(2 ** (max_tree_depth - 1))
    store = [[leaf % 2 == 0 and level == _top(leaf) for leaf in leaves] for level in range(levels)]
    close = [
        [
            leaf % 2 == 1 and _top(leaf) - _trailing_ones(leaf) < level <= _top(leaf)
            for leaf in leaves
        ]
        for level in range(levels)
    ]
    has_middle = [
        [closed and level < _top(leaf) for leaf, closed in zip(leaves, row, strict=True)]
        for level, row in enumerate(close)
    ]
    return CheckTable(torch.tensor(store), torch.tensor(close), torch.tensor(has_middle))


def _top(leaf: int) -> int:
    return (leaf >> 1).bit_count()


def _trailing_ones(leaf: int) -> int:
    return (~leaf & (leaf + 1)).bit_length() - 1


def is_turning(first: Tensor, last: Tensor, momentum_sum: Tensor) -> Tensor:
    """Whether the ends of a trajectory approach each other, over the second to last axis.

    :param first: momenta at one end, last: at the other, momentum_sum: over all points between,
        both ends included; all [..., dim, chains].
    """
    middle = momentum_sum - 0.5 * (first + last)
    return ((middle * first).sum(-2) <= 0) | ((middle * last).sum(-2) <= 0)


def crosses_middle(
    first: Tensor, sum_left: Tensor, before: Tensor, after: Tensor, sum_right: Tensor, last: Tensor
) -> Tensor:
    """Whether a trajectory of two halves turns between an end and the far side of its middle.

    :param first, last: momenta at its ends; before, after: at the last point of the left half and
        the first of the right; sum_left, sum_right: momentum sums of the halves.
    """
    return is_turning(first, after, sum_left + after) | is_turning(before, last, before + sum_right)


def extend(
    checkpoints: Checkpoints,
    table: CheckTable,
    leaf: Tensor,
    before: Tensor,
    momentum: Tensor,
    momentum_sum: Tensor,
) -> tuple[Checkpoints, Tensor]:
    """Take a leaf into the checkpoints and tell whether it closes a subtree that turns.

    :param leaf: the number of the leaf in its subtree [chains], from 0.
    :param before: the momentum of the point before the leaf [dim, chains].
    :param momentum_sum: over the subtree so far, this leaf included [dim, chains].
    :returns: the new checkpoints, and [chains] booleans.
    """
    first, sum_to, _ = checkpoints
    close = table.close.index_select(1, leaf)
    turned = (is_turning(first, momentum, momentum_sum - sum_to + first) & close).any(0)
    if first.shape[0] > 1:
        sum_before_right = sum_to[1:] - first[1:]
        across = crosses_middle(
            first[:-1],
            sum_before_right - sum_to[:-1] + first[:-1],
            checkpoints.before[1:],
            first[1:],
            momentum_sum - sum_before_right,
            momentum,
        )
        has_middle = table.has_middle.index_select(1, leaf)[:-1]
        turned = turned | (across & has_middle).any(0)
    store = table.store.index_select(1, leaf)[:, None, :]
    stored = (momentum, momentum_sum, before)
    return (
        Checkpoints(
            *(torch.where(store, new, old) for new, old in zip(stored, checkpoints, strict=True))
        ),
        turned,
    )
