"""What is said of how learning went."""

import numpy as np
import pytest

from pyro_ebm.learning.watch import still_gaining

STEPS = np.arange(100.0)
NOISE = np.random.default_rng(0).normal(size=100)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_loss_that_still_falls_is_told(noise: float):
    gain = still_gaining(list(30.0 - 0.1 * STEPS + noise * NOISE))
    assert gain == pytest.approx(2.5, abs=0.5)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_loss_that_has_come_to_rest_is_not(noise: float):
    assert still_gaining(list(30.0 - 10.0 * (1 - np.exp(-STEPS / 10)) + noise * NOISE)) is None


def test_noise_alone_and_rising_losses_are_not():
    assert still_gaining(list(NOISE)) is None
    assert still_gaining(list(0.1 * STEPS)) is None
    assert still_gaining([3.0, 2.0, 1.0]) is None
