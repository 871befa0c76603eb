"""Bennett's ratio is right between known normalisers, its error is calibrated, and bugs show."""

import math

import pytest
import torch

from pyro_ebm.annealing.bennett import bennett

REPEATS = 200


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def works(log_z, sd, n, m):
    """Gaussian works of both directions that obey Crooks: p_F(w) exp(w) = p_R(w) Z."""
    shift = 0.5 * sd**2
    return log_z - shift + sd * normal(n), log_z + shift + sd * normal(m)


def z_scores(once, truth):
    return torch.tensor([(estimate - truth) / error for estimate, error in once])


@pytest.mark.parametrize(("sd", "n", "m"), [(0.5, 200, 200), (2.0, 400, 400), (1.0, 600, 100)])
def test_the_error_is_calibrated_on_gaussian_works(sd, n, m):
    scores = z_scores((bennett(*works(-7.0, sd, n, m)) for _ in range(REPEATS)), -7.0)
    assert abs(scores.mean()) < 4 / math.sqrt(REPEATS)
    assert 0.8 < scores.std() < 1.2


def test_weights_between_two_known_normalisers_give_their_ratio():
    def log_weight(x):  # exp(-(x - 1)^2 / 8), Z = sqrt(8 pi), from N(0, 1.5^2)
        base = -0.5 * (x / 1.5).square() - math.log(1.5 * math.sqrt(2 * math.pi))
        return -(x - 1.0).square() / 8 - base

    def once():
        return bennett(log_weight(1.5 * normal(300)), log_weight(1.0 + 2.0 * normal(300)))

    scores = z_scores((once() for _ in range(REPEATS)), 0.5 * math.log(8 * math.pi))
    assert abs(scores.mean()) < 4 / math.sqrt(REPEATS)
    assert 0.8 < scores.std() < 1.2


def test_both_ends_exchanged_give_the_inverse():
    forward, backward = works(3.0, 1.0, 500, 300)
    log_z, error = bennett(forward, backward)
    inverse, same = bennett(-backward, -forward)
    assert inverse == pytest.approx(-log_z, abs=1e-8)
    assert same == pytest.approx(error, rel=1e-6)


def test_equal_weights_give_their_value_without_error():
    log_z, error = bennett(torch.full((50,), -4.0), torch.full((70,), -4.0))
    assert log_z == pytest.approx(-4.0, abs=1e-6)
    assert error == pytest.approx(0.0, abs=1e-6)


def test_a_wrong_sign_of_the_backward_works_is_far_off():
    forward, backward = works(3.0, 1.0, 500, 500)
    log_z, error = bennett(forward, -backward)
    assert abs(log_z - 3.0) > 10 * error


def correlated(length, correlation):
    values, kept = normal(1)[0], []
    for noise in normal(length):
        values = correlation * values + math.sqrt(1 - correlation**2) * noise
        kept.append(values)
    return torch.stack(kept)


def test_correlated_draws_count_as_many_as_they_are_worth():
    length, correlation, sd = 400, 0.8, 1.0
    worth = length * (1 - correlation) / (1 + correlation)

    def once(independent):
        forward, _ = works(0.0, sd, length, 2)
        backward = 0.5 * sd**2 + sd * correlated(length, correlation)
        return bennett(forward, backward, num_backward_independent=independent)

    honest = z_scores((once(worth) for _ in range(REPEATS)), 0.0)
    naive = z_scores((once(None) for _ in range(REPEATS)), 0.0)
    assert 0.8 < honest.std() < 1.2
    assert naive.std() > 1.3


def test_forward_weights_that_are_all_zero_give_no_number():
    log_z, error = bennett(torch.full((10,), -math.inf), normal(10))
    assert log_z == -math.inf
    assert error == math.inf
