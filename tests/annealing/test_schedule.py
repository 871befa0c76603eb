"""Schedules: equal barriers from what was measured, and refusals."""

from itertools import pairwise

import numpy as np
import pytest

from pyro_ebm.annealing.schedule import InverseTemperatures, Linear, equal_barriers, fixed_betas


def test_equal_barriers_are_equal_in_the_barrier_that_was_measured():
    betas = np.linspace(0, 1, 101) ** 3
    barriers = np.diff(np.sqrt(betas))
    found = equal_barriers(betas.tolist(), barriers.tolist(), 10)
    assert np.sqrt(found) == pytest.approx(np.linspace(0, 1, 11), abs=2e-3)


def test_equal_barriers_begin_and_end_where_they_must_and_rise():
    found = equal_barriers([0.0, 1e-6, 0.1, 1.0], [5.0, 0.0, 1e-9], 64)
    assert found[0] == 0.0
    assert found[-1] == 1.0
    assert all(a < b for a, b in pairwise(found))


def test_one_step_gives_a_straight_line():
    assert equal_barriers([0.0, 1.0], [2.0], 4) == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_an_infinite_barrier_does_not_spoil_the_rest():
    found = equal_barriers([0.0, 0.5, 1.0], [np.inf, 1.0], 8)
    assert np.isfinite(found).all()


def test_linear_temperatures_are_even():
    assert fixed_betas(Linear(4)) == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


WRONG = [[0.0], [0.1, 1.0], [0.0, 0.5], [0.0, 0.7, 0.3, 1.0]]


@pytest.mark.parametrize("schedule", [Linear(0), *map(InverseTemperatures, WRONG)])
def test_temperatures_that_do_not_rise_from_zero_to_one_are_refused(schedule):
    with pytest.raises(ValueError, match="expected"):
        fixed_betas(schedule)
