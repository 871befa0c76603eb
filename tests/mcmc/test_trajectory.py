"""The iterative U-turn checks look at exactly the balanced subtrees that a recursion would."""

import pytest
import torch

from pyro_ebm.mcmc.trajectory import (
    TREE,
    TREE_ACROSS,
    Checkpoints,
    check_table,
    extend,
    is_turning,
)

from .plain_nuts import closing_sizes, is_lost, subtree_turns


def balanced(first: int, size: int) -> list[tuple[int, int]]:
    """All balanced subtrees, first leaf and size, of one that starts at ``first``."""
    if size == 1:
        return []
    half = size // 2
    return [(first, size), *balanced(first, half), *balanced(first + half, half)]


@pytest.mark.parametrize("depth", range(1, 9))
def test_the_table_checks_every_balanced_subtree_and_no_other(depth: int):
    table = check_table(depth)
    leaves = 2 ** (depth - 1)
    begun: dict[int, int] = {}
    checked = []
    for leaf in range(leaves):
        _, whole, across = table.rows[:, leaf].tolist()
        begins = {whole: leaf, across: leaf - 1}
        for row in table.checked[:, leaf].nonzero()[:, 0].tolist():
            assert row not in begins, "a stretch is checked before its beginning is overwritten"
            checked.append((begun[row], leaf))
        if leaf % 2 == 0:
            begun |= begins
    expected = []
    for first, size in balanced(0, leaves):
        middle, last = first + size // 2, first + size - 1
        expected += [(first, last)]
        expected += [(first, middle), (middle - 1, last)] if size > 2 else []
    assert sorted(checked) == sorted(expected)


def test_the_tree_begins_anew_with_every_half():
    rows = check_table(6).rows[0]
    assert rows[0] == TREE
    assert not rows[1:].eq(TREE).any()


def test_the_plain_sampler_closes_the_same_subtrees():
    listed = [(leaf + 1 - size, size) for leaf in range(64) for size in closing_sizes(leaf + 1)]
    assert sorted(listed) == sorted(balanced(0, 64))


@pytest.mark.parametrize("drift", [0.0, 0.3, 1.0])
def test_extend_finds_the_turns_that_lists_of_momenta_show(drift: float):
    depth, dim, chains = 6, 2, 200
    leaves = 2 ** (depth - 1)
    # A walk with a drift turns now and then: after a few leaves, or not at all.
    steps = torch.randn(leaves + 2, dim, chains, dtype=torch.float64)
    momenta = 0.4 * steps.cumsum(0) + 3 * drift
    table = check_table(depth)
    empty = torch.zeros(len(table.checked), dim, chains, dtype=torch.float64)
    checkpoints = Checkpoints(empty, empty)
    # The tree so far has two points: its far end, and the one that the new half goes on from.
    far, near = momenta[:2]
    momentum_sum = torch.zeros(dim, chains, dtype=torch.float64)
    turned_somewhere = 0
    lost = torch.zeros(chains, dtype=torch.bool)
    lost_before = [False] * chains
    on_the_way = lost.clone()
    for leaf in range(leaves):
        before, momentum = momenta[leaf + 1], momenta[leaf + 2]
        momentum_sum = momentum_sum + momentum
        numbers = torch.full((chains,), leaf)
        checkpoints, turning = extend(
            checkpoints,
            table.rows[:, numbers],
            tree=(far, far + near),
            before=before,
            momentum=momentum,
            momentum_sum=momentum_sum,
        )
        lost |= (turning & table.checked[:, numbers]).any(0)
        if leaf == 0:
            on_the_way = turning[TREE]
        turned = on_the_way | turning[TREE] | turning[TREE_ACROSS]
        for chain in range(chains):
            row = [momenta[i, :, chain].numpy() for i in range(leaf + 3)]
            lost_before[chain] |= is_lost(row[2:])
            assert bool(lost[chain]) == lost_before[chain]
            if leaf == 1:  # two leaves are as many points as the tree has
                assert bool(turned[chain]) == subtree_turns(row, 2)
        turned_somewhere += int(turned.sum())
    assert lost.any()
    assert turned_somewhere > 0


def test_a_full_circle_is_a_turn_only_across_its_middle():
    # A little more than a circle: the ends point the same way, and along the sum of all momenta.
    angle = torch.linspace(0, 2.1 * torch.pi, 16, dtype=torch.float64)
    momenta = torch.stack([angle.cos(), angle.sin()])[:, :, None]

    def turning(stretch: torch.Tensor) -> bool:
        first, last = stretch[:, 0], stretch[:, -1]
        return bool(is_turning(first, last, stretch.sum(1) - 0.5 * (first + last)))

    assert not turning(momenta)
    assert turning(momenta[:, :9])
    assert turning(momenta[:, 7:])


def test_a_straight_line_never_turns():
    momenta = torch.ones(2, 9, 1)
    first, last = momenta[:, 0], momenta[:, -1]
    assert not bool(is_turning(first, last, momenta.sum(1) - 0.5 * (first + last)))
