"""Theories of perceptrons, against tables of their own equations made elsewhere."""

import math

import pytest
import torch

from pyro_ebm import (
    binary_perceptron_theory,
    high_temperature_theory,
    linear_perceptron_theory,
    perceptron_theory,
)

# Solutions of the replica-symmetric equations by an independent program: alpha, overlap,
# generalisation error, entropy.
SPHERICAL = [
    (0.1, 0.0621745597604, 0.480196449939, -0.0683037424536),
    (1.0, 0.4862636370160772, 0.3383594684214859, -0.5964412556889218),
    (2.0, 0.7282981739706731, 0.24031159407268787, -1.0310381559103345),
    (5.0, 0.9320642456641218, 0.11800603329773968, -1.815365960343064),
    (20.0, 0.9952269195667638, 0.03111267815848215, -3.1703465566895384),
]
# alpha, overlap, generalisation error and entropy (counting) of the poor state.
BINARY = [
    (0.05, 0.03148087130510587, 0.48997767154264765, 0.6587429455065986),
    (0.60, 0.3477081205406336, 0.38696001419753706, 0.31425739549393955),
    (1.20, 0.66866137986671, 0.26686759252019804, 0.017965008628899493),
    (1.25, 0.6967890969856275, 0.2546113493318396, -0.0020907083501250368),
    (1.45, 0.8287571787423593, 0.18904843843905786, -0.07207673658877045),
]
# T, variance of the noise, alpha, generalisation error, log Z over N.
LINEAR = [
    (0.01, 0.0, 0.1, 0.900555465089, -0.277674109616),
    (1.0, 0.0, 1.0, 0.532623792125, -0.48121182506),
    (1.0, 1.0, 5.0, 0.192582403567, -3.36020938226),
    (1.0, 0.25, 1.0, 0.553976341281, -0.558466073653),
]


@pytest.mark.parametrize(("alpha", "overlap", "error", "entropy"), SPHERICAL)
def test_a_perceptron_of_real_weights(alpha, overlap, error, entropy):
    found = perceptron_theory([alpha]).isel(alpha=0)
    assert float(found.overlap) == pytest.approx(overlap, abs=1e-9)
    assert float(found.generalisation_error) == pytest.approx(error, abs=1e-9)
    assert float(found.entropy) == pytest.approx(entropy, abs=1e-9)


def test_the_last_errors_of_a_perceptron_fall_as_one_over_alpha():
    found = perceptron_theory([1e3, 1e5, 1e8, 1e12])
    product = (found.alpha * found.generalisation_error).values
    assert product == pytest.approx(0.625, abs=1e-3)
    assert product[2:] == pytest.approx(product[1], rel=1e-4)
    assert perceptron_theory([1e-9]).overlap.item() == pytest.approx(2e-9 / math.pi, rel=1e-6)


@pytest.mark.parametrize(("alpha", "overlap", "error", "entropy"), BINARY)
def test_the_poor_state_of_binary_weights(alpha, overlap, error, entropy):
    found = binary_perceptron_theory([alpha]).isel(alpha=0)
    assert float(found.poor_overlap) == pytest.approx(overlap, abs=1e-9)
    assert float(found.poor_generalisation_error) == pytest.approx(error, abs=1e-9)
    assert float(found.poor_entropy) + math.log(2) == pytest.approx(entropy, abs=1e-9)


def test_binary_weights_learn_all_at_once():
    # The transition lies at alpha = 1.2446839899, the spinodal at 1.4926318182.
    found = binary_perceptron_theory([1.2446, 1.2447, 1.4926, 1.4927])
    assert found.generalisation_error.values[0] == pytest.approx(0.255953, abs=1e-4)
    assert found.generalisation_error.values[1:].tolist() == [0.0, 0.0, 0.0]
    assert found.poor_overlap.isnull().values.tolist() == [False, False, False, True]
    assert found.entropy.values[-1] == pytest.approx(-math.log(2))


@pytest.mark.parametrize(("temperature", "variance", "alpha", "error", "log_z"), LINEAR)
def test_a_linear_perceptron(temperature, variance, alpha, error, log_z):
    found = linear_perceptron_theory([alpha], temperature, noise=math.sqrt(variance))
    found = found.isel(alpha=0)
    assert float(found.generalisation_error) == pytest.approx(error, abs=1e-9)
    assert float(found.free_energy) == pytest.approx(-temperature * log_z, abs=1e-8)
    energy = float(found.free_energy + temperature * found.entropy)
    assert float(found.training_error) == pytest.approx(energy / alpha)


def test_the_training_error_of_a_linear_perceptron_is_that_of_large_ones():
    """One student of 600 weights: <E>/P by linear algebra, within some of its fluctuations."""
    torch.manual_seed(0)
    n, p, temperature, noise, deviation = 600, 900, 0.3, 0.4, 2.0
    x = torch.randn(p, n, dtype=torch.float64) / math.sqrt(n)
    teacher = torch.randn(n, dtype=torch.float64)
    y = x @ teacher + noise * torch.randn(p, dtype=torch.float64)
    precision = torch.eye(n, dtype=torch.float64) / deviation**2 + x.T @ x / temperature
    covariance = torch.linalg.inv(precision)
    mean = covariance @ x.T @ y / temperature
    energy = 0.5 * (y - x @ mean).square().sum() + 0.5 * (x.T @ x * covariance).sum()
    found = linear_perceptron_theory(
        [p / n], temperature, noise=noise, prior_deviation=deviation
    ).isel(alpha=0)
    error = 0.5 * (mean - teacher).square().mean() + 0.5 * covariance.trace() / n
    assert float(found.training_error) == pytest.approx(float(energy / p), rel=0.05)
    assert float(found.generalisation_error) == pytest.approx(float(error), rel=0.1)


def test_at_high_temperature_one_number_says_all():
    # alpha/T = 0.2: R = 0.063533361911, error 0.479763072846.
    found = high_temperature_theory([0.2]).isel(alpha=0)
    assert float(found.overlap) == pytest.approx(0.063533361911, abs=1e-10)
    assert float(found.generalisation_error) == pytest.approx(0.479763072846, abs=1e-10)


@pytest.mark.parametrize(
    "theory", [perceptron_theory, binary_perceptron_theory, high_temperature_theory]
)
def test_without_examples_nothing_is_known(theory):
    found = theory([0.0, 0.5])
    nothing = found.isel(alpha=0)
    assert float(nothing.overlap) == pytest.approx(0.0, abs=1e-12)
    assert float(nothing.generalisation_error) == pytest.approx(0.5, abs=1e-12)
    if "entropy" in found:
        assert float(nothing.entropy) == pytest.approx(0.0, abs=1e-12)
    assert float(found.overlap[1]) == float(theory([0.5]).overlap[0])


def test_a_linear_perceptron_without_examples_has_its_prior():
    nothing = linear_perceptron_theory([0.0], 1.0).isel(alpha=0)
    # Half of the variance of the student's answer and of the teacher's.
    assert float(nothing.generalisation_error) == pytest.approx(1.0, abs=1e-12)
    assert float(nothing.entropy) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(float(nothing.training_error))


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        perceptron_theory([-1.0])
    for alpha in (1e-20, 1e30):
        with pytest.raises(ValueError, match="from"):
            perceptron_theory([alpha])
    with pytest.raises(ValueError, match="temperature"):
        linear_perceptron_theory([1.0], 0.0)
