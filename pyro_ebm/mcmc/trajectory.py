"""U-turn checks inside a growing subtree, without recursion.

A subtree of 2^d leaves, built leaf by leaf, contains smaller balanced subtrees, and each of them
must be checked for a U-turn when its last leaf is reached. An even leaf n opens subtrees: its
momentum and running momentum sum are stored at the level popcount(n >> 1). An odd leaf n closes one
subtree per trailing one of n, whose first leaves lie at the levels from
popcount(n >> 1) - trailing_ones(n) + 1 to popcount(n >> 1).

Source: Phan, Pradhan, Jankowiak (2019), Composable effects for flexible and accelerated
probabilistic programming in NumPyro; the criterion is that of Betancourt (2017), A conceptual
introduction to Hamiltonian Monte Carlo, with half of each end's momentum taken off the sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Checkpoints(NamedTuple):
    """Momenta and momentum sums at the open left edges of subtrees, each [levels, dim, chains]."""

    momentum: Tensor
    momentum_sum: Tensor


class CheckTable(NamedTuple):
    """Per level and leaf: whether the leaf stores there, and whether it is checked against it."""

    store: Tensor
    check: Tensor


def check_table(max_tree_depth: int, device: torch.device) -> CheckTable:
    """The table for subtrees of up to 2^(max_tree_depth - 1) leaves, each [levels, leaves]."""
    num_leaves = 2 ** max(max_tree_depth - 1, 0)
    levels = max(max_tree_depth - 1, 1)
    store = torch.zeros(levels, num_leaves, dtype=torch.bool)
    check = torch.zeros(levels, num_leaves, dtype=torch.bool)
    for leaf in range(num_leaves):
        top = (leaf >> 1).bit_count()
        if leaf % 2 == 0:
            store[top, leaf] = True
        else:
            trailing_ones = (~leaf & (leaf + 1)).bit_length() - 1
            check[top - trailing_ones + 1 : top + 1, leaf] = True
    return CheckTable(store.to(device), check.to(device))


def is_turning(first: Tensor, last: Tensor, momentum_sum: Tensor) -> Tensor:
    """Whether the ends of a trajectory approach each other; the dimensions are the second to last axis.

    :param first: momenta at one end, last: at the other, momentum_sum: over all points between,
        both ends included; all [..., dim, chains].
    """
    middle = momentum_sum - 0.5 * (first + last)
    return ((middle * first).sum(-2) <= 0) | ((middle * last).sum(-2) <= 0)


def extend(
    checkpoints: Checkpoints, table: CheckTable, leaf: Tensor, momentum: Tensor, momentum_sum: Tensor
) -> tuple[Checkpoints, Tensor]:
    """Take the leaf into the checkpoints and tell whether it closes a subtree that turns.

    :param leaf: the number of the leaf in its subtree [chains], from 0.
    :param momentum_sum: over the subtree so far, this leaf included [dim, chains].
    :returns: the new checkpoints, and [chains] booleans.
    """
    check = table.check.index_select(1, leaf)
    between = momentum_sum - checkpoints.momentum_sum + checkpoints.momentum
    turning = is_turning(checkpoints.momentum, momentum, between)
    turned = (turning & check).any(0)
    store = table.store.index_select(1, leaf)[:, None, :]
    stored = Checkpoints(
        torch.where(store, momentum, checkpoints.momentum),
        torch.where(store, momentum_sum, checkpoints.momentum_sum),
    )
    return stored, turned
