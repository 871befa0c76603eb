"""The iterative U-turn checks look at exactly the balanced subtrees that a recursion would."""

import pytest
import torch

from pyro_ebm.mcmc.trajectory import Checkpoints, check_table, crosses_middle, extend, is_turning

from .plain_nuts import closing_sizes, subtree_turns


def balanced(first: int, size: int) -> list[tuple[int, int]]:
    """All balanced subtrees, first leaf and size, of one that starts at ``first``."""
    if size == 1:
        return []
    half = size // 2
    return [(first, size), *balanced(first, half), *balanced(first + half, half)]


@pytest.mark.parametrize("depth", range(1, 9))
def test_the_table_closes_every_balanced_subtree_and_no_other(depth: int):
    table = check_table(depth)
    leaves = 2 ** (depth - 1)
    stored: dict[int, int] = {}
    closed = []
    for leaf in range(leaves):
        for level in table.close[:, leaf].nonzero()[:, 0].tolist():
            first = stored[level]
            size = leaf + 1 - first
            closed.append((first, size))
            assert bool(table.has_middle[level, leaf]) == (size > 2)
            if size > 2:
                assert stored[level + 1] == first + size // 2, "the right half is one level below"
        for level in table.store[:, leaf].nonzero()[:, 0].tolist():
            stored[level] = leaf
    assert sorted(closed) == sorted(balanced(0, leaves))


def test_the_plain_sampler_closes_the_same_subtrees():
    listed = [(leaf + 1 - size, size) for leaf in range(64) for size in closing_sizes(leaf + 1)]
    assert sorted(listed) == sorted(balanced(0, 64))


@pytest.mark.parametrize("drift", [0.0, 0.3, 1.0])
def test_extend_finds_the_turns_that_lists_of_momenta_show(drift: float):
    depth, dim, chains = 6, 2, 200
    leaves = 2 ** (depth - 1)
    # A walk with a drift turns now and then: after a few leaves, or not at all.
    steps = torch.randn(leaves + 1, dim, chains, dtype=torch.float64)
    momenta = 0.4 * steps.cumsum(0) + 3 * drift
    table = check_table(depth)
    empty = torch.zeros(depth - 1, dim, chains, dtype=torch.float64)
    checkpoints = Checkpoints(empty, empty, empty)
    momentum_sum = torch.zeros(dim, chains, dtype=torch.float64)
    turned_somewhere = 0
    for leaf in range(leaves):
        before, momentum = momenta[leaf], momenta[leaf + 1]
        momentum_sum = momentum_sum + momentum
        numbers = torch.full((chains,), leaf)
        checkpoints, turned = extend(checkpoints, table, numbers, before, momentum, momentum_sum)
        for chain in range(chains):
            row = [momenta[i, :, chain].numpy() for i in range(1, leaf + 2)]
            expected = any(subtree_turns(row[-n:], n // 2) for n in closing_sizes(leaf + 1))
            assert bool(turned[chain]) == expected
            turned_somewhere += expected
    assert turned_somewhere > 0


def test_a_full_circle_is_a_turn_only_across_its_middle():
    # A little more than a circle: the ends point the same way, and along the sum of all momenta.
    angle = torch.linspace(0, 2.1 * torch.pi, 16, dtype=torch.float64)
    momenta = torch.stack([angle.cos(), angle.sin()])[:, :, None]
    left, right = momenta[:, :8], momenta[:, 8:]
    first, last, before, after = momenta[:, 0], momenta[:, -1], left[:, -1], right[:, 0]
    assert not bool(is_turning(first, last, momenta.sum(1)))
    assert bool(crosses_middle(first, left.sum(1), before, after, right.sum(1), last))


def test_a_straight_line_never_turns():
    momenta = torch.ones(2, 9, 1)
    assert not bool(is_turning(momenta[:, 0], momenta[:, -1], momenta.sum(1)))
