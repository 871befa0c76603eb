"""The area under the mean slope is log Z: bracketed, of fourth order, with a calibrated error."""

import math

import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm import ThermodynamicIntegration
from pyro_ebm.annealing.area import integrate
from pyro_ebm.annealing.integration import climb
from pyro_ebm.annealing.moves import HMCMoves, Mover
from pyro_ebm.annealing.path import geometric
from pyro_ebm.annealing.schedule import InverseTemperatures, Linear
from pyro_ebm.target import Target
from tests.models.normalisers import normaliser

from .paths import constant_tuning, normal_base

REPEATS = 40
# From N(0, 1) to exp(-x^2 / (2 * WIDTH^2)) with Z = WIDTH sqrt(2 pi).
WIDTH = 0.2
LOG_Z = math.log(WIDTH) + 0.5 * math.log(2 * math.pi)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)


def slope(x):
    return -0.5 * (x / WIDTH).square() + 0.5 * x.square() + 0.5 * math.log(2 * math.pi)


def at(betas, standard):
    """Slopes at draws of every density between, from standard normal ones [t, n]."""
    betas = torch.tensor(betas)
    scale = (1 - betas + betas / WIDTH**2).rsqrt()
    return slope(scale[:, None] * standard)


def spaced(steps):
    """Inverse temperatures at equal barriers: precisions that grow by equal factors."""
    precision = WIDTH ** (-2 * torch.linspace(0, 1, steps + 1))
    betas = ((precision - 1) / (WIDTH**-2 - 1)).tolist()
    return [0.0, *betas[1:-1], 1.0]


def exact_area(steps):
    """The area with means that are exact but for rounding."""
    betas = spaced(steps)
    levels = (torch.arange(20_000) + 0.5) / 20_000
    standard = torch.special.ndtri(levels)
    # The outermost levels stand for the tail beyond them: their squares are set right.
    standard = standard / standard.square().mean().sqrt()
    slopes = at(betas, standard.expand(len(betas), -1))
    return integrate(betas, slopes, torch.zeros_like(slopes))


def test_the_sums_bracket_log_z_and_the_correction_comes_closer():
    area = exact_area(12)
    assert area.lower < LOG_Z < area.upper
    assert area.lower < area.trapezoid < area.upper
    assert abs(area.log_z - LOG_Z) < 0.1 * abs(area.trapezoid - LOG_Z)


def test_the_mean_slope_rises_and_its_slope_is_its_variance():
    area = exact_area(200)
    betas = torch.tensor(spaced(200))
    assert (area.mean.diff() > 0).all()
    derivative = area.mean.diff() / betas.diff()
    middle = 0.5 * (area.variance[1:] + area.variance[:-1])
    torch.testing.assert_close(derivative, middle, rtol=0.02, atol=0.0)


def test_halving_the_steps_divides_the_errors_by_four_and_by_sixteen():
    coarse, fine = exact_area(16), exact_area(32)
    plain = (coarse.trapezoid - LOG_Z) / (fine.trapezoid - LOG_Z)
    corrected = (coarse.log_z - LOG_Z) / (fine.log_z - LOG_Z)
    assert 3 < plain < 5
    assert corrected > 10


def test_the_discretisation_bounds_what_the_steps_leave_wrong():
    for steps in (8, 9, 16, 33):
        area = exact_area(steps)
        assert abs(area.log_z - LOG_Z) < area.discretisation


def test_a_base_that_is_the_target_leaves_its_constant_without_error():
    area = integrate([0.0, 0.3, 1.0], torch.full((3, 10), -4.25), torch.zeros(3, 10))
    assert area.log_z == area.lower == area.upper == pytest.approx(-4.25)
    assert area.error == pytest.approx(0.0, abs=1e-12)


def test_particles_without_density_count_as_lost():
    # A uniform density on half of the base: Z = 1/2.
    slopes = torch.zeros(3, 1000)
    slopes[0, ::2] = -math.inf
    weights = torch.zeros(3, 1000)
    weights[1:, ::2] = -math.inf
    area = integrate([0.0, 0.5, 1.0], slopes, weights)
    assert area.log_z == pytest.approx(-math.log(2.0))
    assert area.error == pytest.approx(1 / math.sqrt(1000), rel=0.01)


def test_the_error_of_the_area_is_calibrated():
    betas = spaced(24)
    scores = []
    for _ in range(300):
        slopes = at(betas, torch.randn(len(betas), 100))
        area = integrate(betas, slopes, torch.zeros_like(slopes))
        assert area.lower - 4 * area.sums_error < LOG_Z < area.upper + 4 * area.sums_error
        scores.append((area.log_z - LOG_Z) / area.error)
    scores = torch.tensor(scores)
    assert abs(scores.mean()) < 4 / math.sqrt(300)
    assert 0.85 < scores.std() < 1.15


def path():
    target = Target.from_energy(lambda x: 0.5 * (x / WIDTH).square().sum(), event_shape=(1,))
    return geometric(target, normal_base(1))


def climbed_scores(step_size, *, weighted=True):
    mover, betas = Mover(path(), HMCMoves()), spaced(24)
    tuning, scores = constant_tuning(1, step_size), []
    for seed in range(REPEATS):
        generator = torch.Generator().manual_seed(seed)
        found = climb(mover, betas, tuning, 300, generator)
        weights = found.log_weights if weighted else torch.zeros_like(found.log_weights)
        area = integrate(betas, found.slopes, weights)
        scores.append((area.log_z - LOG_Z) / area.error)
    return torch.tensor(scores)


@pytest.mark.parametrize("step_size", [pytest.param(0.15, marks=pytest.mark.slow), 0.03])
def test_particles_on_a_path_are_calibrated_however_slowly_they_move(step_size):
    scores = climbed_scores(step_size)
    assert abs(scores.mean()) < 4 * scores.std() / math.sqrt(REPEATS)
    assert 0.75 < scores.std() < 1.3


def test_slow_particles_whose_weights_are_forgotten_lag_behind():
    assert climbed_scores(0.03, weighted=False).mean() < -4


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("double_well_0.5_1.0", marks=pytest.mark.slow),
        "student_t_2",
        pytest.param("eight_schools", marks=pytest.mark.slow),
        pytest.param("gaussian_20d", marks=pytest.mark.slow),
        pytest.param("mueller_brown_25", marks=pytest.mark.slow),
    ],
)
def test_log_z_of_a_known_target_is_right_and_bracketed(name):
    case = normaliser(name)
    estimate = ThermodynamicIntegration(case.model, disable_progbar=True).run(*case.args)
    assert estimate.reliable, estimate.why
    assert abs(estimate.log_z - case.log_z) < 4 * estimate.std_error
    assert estimate.std_error < 0.05
    margin = 4 * estimate.details["sums_error"]
    assert estimate.details["lower_sum"] - margin < case.log_z
    assert case.log_z < estimate.details["upper_sum"] + margin


def estimate_of(seed, **options):
    torch.manual_seed(seed)
    normal = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    energy = ebm.EnergyDistribution(lambda x: 0.5 * (x / 0.5).square().sum(), (2,))
    options = {"base": torch.distributions.Independent(normal, 1), "num_particles": 256, **options}
    return ThermodynamicIntegration(energy, disable_progbar=True, **options).run()


def test_a_seed_repeats_it_and_another_does_not():
    options = {"schedule": Linear(20), "reverse": False}
    first, again, other = (estimate_of(seed, **options) for seed in (1, 1, 2))
    assert first.log_z == again.log_z != other.log_z
    assert not first.reliable
    assert first.why.startswith("Not contradicted")
    for name in ("beta", "mean_slope", "mean_slope_error", "slope_variance"):
        assert len(first.path[name]) == 21
    for name in ("barrier", "acceptance", "ess"):
        assert len(first.path[name]) == 20
    assert all(0.3 < rate <= 1.0 for rate in first.path["acceptance"])


def test_too_few_steps_are_not_reliable():
    schedule = InverseTemperatures([0.0, 0.001, 0.01, 1.0])
    estimate = estimate_of(1, schedule=schedule, num_particles=2000, reverse=False)
    assert not estimate.reliable
    assert "3 steps are too few" in estimate.why


def test_an_energy_that_cannot_be_normalised_gives_no_number():
    flat = ebm.EnergyDistribution(lambda x: 0.0 * x.sum(), (2,))
    estimate = ThermodynamicIntegration(flat, disable_progbar=True).run()
    assert math.isnan(estimate.log_z)
    assert not estimate.reliable
