"""The maximum mean discrepancy is unbiased, and its test is exact."""

import math

import numpy as np
import pytest
import torch

from pyro_ebm.learning import maximum_mean_discrepancy

DOUBLE = torch.float64


def plain(x, y, widths):
    """The unbiased estimate, pair by pair."""

    def kernel(a, b):
        squares = (a[:, None] - b).square().reshape(len(a), len(b), -1).sum(-1)
        return sum((-squares / (2 * s**2)).exp() for s in widths) / len(widths)

    n, m = len(x), len(y)
    within, beyond = kernel(x, x).sum() - n, kernel(y, y).sum() - m
    return within / (n * (n - 1)) + beyond / (m * (m - 1)) - 2 * kernel(x, y).mean()


@pytest.mark.parametrize("block_size", [3, 1000])
def test_blocks_give_the_sum_over_all_pairs(block_size):
    x, y = torch.randn(7, 2, 2, dtype=DOUBLE), 1 + torch.randn(10, 2, 2, dtype=DOUBLE)
    found = maximum_mean_discrepancy(
        x, y.numpy(), bandwidths=[0.7, 2.0], num_permutations=2, block_size=block_size
    )
    assert found.squared == pytest.approx(float(plain(x, y, [0.7, 2.0])))
    assert found.bandwidths == (0.7, 2.0)


def test_relabelled_values_are_those_of_rows_dealt_again():
    # Of four rows dealt in two pairs there are three ways.
    rows = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=DOUBLE)
    found = maximum_mean_discrepancy(rows[:2], rows[2:], bandwidths=1.5, num_permutations=100)
    ways = [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    known = sorted(float(plain(rows[a], rows[b], [1.5])) for a, b in ways)
    np.testing.assert_allclose(sorted({round(float(v), 10) for v in found.relabelled}), known)
    assert found.squared == pytest.approx(known[-1])
    assert found.p_value == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 100))


def test_of_gaussians_the_mean_is_the_closed_form():
    d, s, shift, spread = 2, 1.3, 0.8, 1.4

    def expected(variance, apart):
        total = s**2 + variance
        return (s**2 / total) ** (d / 2) * math.exp(-(apart**2) * d / (2 * total))

    exact = expected(2, 0) + expected(2 * spread**2, 0) - 2 * expected(1 + spread**2, shift)
    values = torch.tensor(
        [
            maximum_mean_discrepancy(
                torch.randn(30, d, dtype=DOUBLE),
                shift + spread * torch.randn(20, d, dtype=DOUBLE),
                bandwidths=s,
                num_permutations=1,
            ).squared
            for _ in range(400)
        ]
    )
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / 20


def test_of_equal_distributions_p_values_are_uniform():
    values = [
        maximum_mean_discrepancy(
            torch.randn(20, 2), torch.randn(30, 2), num_permutations=99
        ).p_value
        for _ in range(300)
    ]
    mean, error = float(np.mean(values)), math.sqrt(1 / 12 / 300)
    assert abs(mean - 0.505) < 4 * error
    assert abs(np.mean(np.array(values) <= 0.1) - 0.1) < 4 * math.sqrt(0.09 / 300)


def test_a_shift_and_a_missing_mode_are_seen():
    x = torch.randn(200, 3)
    assert maximum_mean_discrepancy(x + 0.6, torch.randn(300, 3)).p_value == 1 / 501
    modes = 10.0 * torch.randint(2, (200, 1)) + 0.1 * torch.randn(200, 1)
    assert maximum_mean_discrepancy(0.1 * torch.randn(200, 1), modes).p_value == 1 / 501


def test_units_do_not_matter_with_the_median():
    x, y = torch.randn(20, 2, dtype=DOUBLE), torch.randn(30, 2, dtype=DOUBLE)
    runs = [
        maximum_mean_discrepancy(
            a, b, num_permutations=20, generator=torch.Generator().manual_seed(5)
        )
        for a, b in [(x, y), (1000 * x + 1e5, 1000 * y + 1e5)]
    ]
    assert runs[0].squared == pytest.approx(runs[1].squared)
    assert runs[0].p_value == runs[1].p_value


def test_equal_rows_have_no_discrepancy():
    found = maximum_mean_discrepancy(torch.ones(5, 2), torch.ones(9, 2))
    assert found.squared == pytest.approx(0.0, abs=1e-12)
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (torch.zeros(1, 2), {}, "at least 2 rows of second"),
        (torch.zeros(4, 3), {}, r"one event shape, got \(2,\) of first, \(3,\) of second"),
        (torch.full((4, 2), math.inf), {}, "second of finite numbers, got 4 of 4"),
        (torch.zeros(4, 2), {"bandwidths": 0.0}, "positive, finite bandwidths"),
        (torch.zeros(4, 2), {"bandwidths": []}, "positive, finite bandwidths"),
        (torch.zeros(4, 2), {"num_permutations": 0}, "num_permutations to be at least 1"),
        (torch.zeros(4, 2), {"block_size": 0}, "block_size to be at least 1"),
        (torch.zeros(0, 2), {}, "with a row at least"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows, options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        maximum_mean_discrepancy(torch.randn(5, 2), rows, **options)
