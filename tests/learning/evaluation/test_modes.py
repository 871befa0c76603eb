"""Modes are counted, missed, and weighed as they should be."""

import math

import numpy as np
import pytest
import torch

from pyro_ebm import GaussianMixtureEnergy
from pyro_ebm.learning import mode_coverage

DOUBLE = torch.float64
RING = torch.stack(
    [torch.tensor([math.cos(t), math.sin(t)]) for t in torch.arange(8) * math.pi / 4]
).double()


def test_samples_are_counted_at_their_nearest_mode():
    modes = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    samples = torch.tensor([[0.0, 0.5], [0.9, 0.0], [9.5, 0.0], [10.0, 1.0], [5.0, 0.0]])
    found = mode_coverage(samples.numpy(), modes, radius=1.0)
    assert found.counts.tolist() == [2, 2, 0]
    assert found.shares.tolist() == [0.5, 0.5, 0.0]
    assert found.missing == (2,)
    assert found.high_quality == pytest.approx(4 / 5)
    assert found.kl == pytest.approx(math.log(1.5))
    assert repr(found).startswith("2 of 3 modes, high quality 0.800")


def test_the_radius_of_a_mode_is_its_own():
    modes, samples = torch.tensor([0.0, 10.0]), torch.tensor([4.0, 6.0, 9.5])
    found = mode_coverage(samples, modes, radius=[8.0, 1.0])
    assert found.counts.tolist() == [2, 1]
    assert mode_coverage(samples, modes, radius=np.array([1.0, 1.0])).counts.tolist() == [0, 1]


def test_of_exact_draws_all_modes_are_there_in_their_shares():
    log_weights = torch.arange(8, dtype=DOUBLE) / 8
    energy = GaussianMixtureEnergy(4 * RING, 0.1, log_weights=log_weights)
    n = 4000
    samples = energy.exact_sample((n,))
    found = mode_coverage(samples, 4 * RING, radius=0.3, weights=log_weights.exp())
    assert found.missing == ()
    expected = log_weights.softmax(0)
    error = (expected * (1 - expected) / n).sqrt()
    assert bool(((found.shares - expected).abs() < 4 * error).all())
    inside = 1 - math.exp(-4.5)
    assert abs(found.high_quality - inside) < 4 * math.sqrt(inside * (1 - inside) / n)
    # 2 n KL is chi-squared with 7 degrees of freedom: mean 7, variance 14.
    assert abs(2 * n * found.kl - 7) < 4 * math.sqrt(14)
    unlike = mode_coverage(samples, 4 * RING, radius=0.3)
    assert unlike.kl > found.kl


def test_chunks_change_nothing():
    samples = torch.randn(100, 2)
    whole, parts = (mode_coverage(samples, RING, radius=0.5, chunk_size=c) for c in (1000, 7))
    assert torch.equal(whole.counts, parts.counts)


def test_few_samples_are_a_missing_mode_and_none_have_no_shares():
    samples = torch.cat([RING, RING[:5]])
    assert mode_coverage(samples, RING, radius=0.1, min_samples=2).missing == (5, 6, 7)
    nowhere = mode_coverage(samples + 50.0, RING, radius=0.1)
    assert nowhere.missing == tuple(range(8))
    assert (nowhere.high_quality, nowhere.kl) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"radius": 0.0}, "radius to be positive"),
        ({"radius": [1.0, 2.0]}, "one for each of 8 modes"),
        ({"radius": 1.0, "weights": [1.0] * 7}, "one for each of 8 modes"),
        ({"radius": 1.0, "weights": [0.0] * 8}, "weights to be positive"),
        ({"radius": 1.0, "min_samples": 0}, "min_samples"),
        ({"radius": math.inf}, "radius to be positive"),
    ],
)
def test_modes_without_a_size_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        mode_coverage(torch.randn(5, 2), RING, **options)


def test_modes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="one event shape"):
        mode_coverage(torch.randn(5, 3), RING, radius=1.0)
