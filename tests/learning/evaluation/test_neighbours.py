"""Half of the nearest rows are training rows, unless these were learned by heart."""

import itertools
import math

import numpy as np
import pytest
import torch

from pyro_ebm.learning import nearest_neighbour_share

DOUBLE = torch.float64


def test_without_memory_the_share_is_one_half_within_its_error():
    found = [
        nearest_neighbour_share(torch.randn(400, 2), torch.randn(50, 2), torch.randn(90, 2))
        for _ in range(200)
    ]
    shares = np.array([each.share for each in found])
    errors = np.array([each.std_error for each in found])
    assert abs(shares.mean() - 0.5) < 4 * shares.std() / math.sqrt(200)
    # The squared error is the variance; its own error is that of 200 squared deviations.
    squares = ((shares - 0.5) / errors) ** 2
    assert abs(squares.mean() - 1) < 4 * squares.std() / math.sqrt(200)
    assert found[0].num_rows == 50


def test_the_error_is_that_of_all_ways_to_deal_training_and_held_out_rows():
    fake, real = torch.randn(7, 2, dtype=DOUBLE), torch.randn(6, 2, dtype=DOUBLE)
    shares = []
    for training in itertools.combinations(range(6), 3):
        chosen = torch.tensor([i in training for i in range(6)])
        found = nearest_neighbour_share(fake, real[chosen], real[~chosen])
        shares.append(found.share)
    assert np.mean(shares) == pytest.approx(0.5)
    assert np.std(shares) == pytest.approx(found.std_error)


def test_rows_learned_by_heart_are_nearest_to_training_rows():
    training, held_out = torch.randn(60, 3), torch.randn(60, 3)
    copied = training[torch.randint(60, (200,))]
    assert nearest_neighbour_share(copied, training, held_out).share == 1.0
    assert nearest_neighbour_share(copied.numpy(), held_out, training).share == 0.0
    half = torch.cat([copied, held_out[torch.randint(60, (200,))]])
    assert nearest_neighbour_share(half, training, held_out).share == pytest.approx(0.5)


def test_a_row_that_is_as_near_to_both_counts_for_each():
    training = torch.tensor([[0, 1], [1, 1]])
    held_out = torch.tensor([[0, 1], [0, 0]])
    fake = torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]])
    found = nearest_neighbour_share(fake, training, held_out, standardized=False)
    assert found.share == pytest.approx((0.5 + 1 + 0 + 0.5) / 4)


def test_standard_deviations_make_columns_comparable():
    real = torch.tensor([[0.0, 0.0], [1.0, 2000.0], [1.0, 0.0], [0.0, 2000.0]])
    fake = torch.tensor([[0.1, 900.0]])
    # By the plain distance the second column alone counts; standardised, the first does too.
    plain = nearest_neighbour_share(fake, real[[0, 1]], real[[2, 3]], standardized=False)
    alike = nearest_neighbour_share(fake, real[[0, 3]], real[[1, 2]])
    scaled = nearest_neighbour_share(1e4 * fake, 1e4 * real[[0, 3]], 1e4 * real[[1, 2]])
    assert plain.share == 1.0
    assert alike.share == scaled.share == 1.0


def test_blocks_change_nothing():
    rows = [torch.randn(n, 2, 3) for n in (30, 20, 20)]
    # Equal numbers: nothing is left to chance but the order.
    whole, parts = (nearest_neighbour_share(*rows, block_size=size) for size in (100, 7))
    assert whole.share == pytest.approx(parts.share)
    assert whole.std_error == pytest.approx(parts.std_error)


def test_a_constant_column_is_no_hindrance():
    rows = [torch.cat([torch.randn(9, 1), torch.ones(9, 1)], 1) for _ in range(3)]
    assert 0.0 <= nearest_neighbour_share(*rows).share <= 1.0


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (torch.zeros(0, 2), {}, "training .* with a row at least"),
        (torch.zeros(4, 3), {}, "one event shape"),
        (torch.zeros(4, 2), {"block_size": 0}, "block_size"),
        (torch.full((4, 2), math.nan), {}, "training of finite numbers"),
        (torch.zeros(4, 2, dtype=torch.complex64), {}, "real numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows, options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        nearest_neighbour_share(torch.randn(5, 2), rows, torch.randn(5, 2), **options)
