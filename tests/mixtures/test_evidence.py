"""The evidence of Gaussian mixtures against known values, and how many components it finds."""

import math

import pyro
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm import GaussianMixture, MixturePrior

from .galaxy import CHIB, log_evidences, velocities

CASES = {
    "K1": (1, False),
    "K2_equal": (2, True),
    "K3_equal": (3, True),
    "K2_unequal": (2, False),
    "K4_unequal": (4, False),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(1)


def check(name, num_particles):
    components, equal = CASES[name]
    mixture = GaussianMixture(
        components, prior=CHIB, equal_variance=equal, num_particles=num_particles
    )
    estimate = mixture.log_evidence(velocities())
    known, known_error = log_evidences()[name]
    error = math.hypot(estimate.std_error, known_error)
    assert abs(estimate.log_z - known) < 4 * error or not estimate.reliable
    return estimate, (estimate.log_z - known) / error


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name[:2] in ("K3", "K4"))) for name in CASES],
)
def test_the_evidence_of_galaxies_is_never_wrong_and_reliable(name):
    check(name, 1024)


@pytest.mark.slow
def test_errors_of_the_evidence_are_calibrated():
    scores = []
    for name in CASES:
        for seed in range(8):
            pyro.set_rng_seed(seed)
            estimate, score = check(name, 1024)
            if estimate.reliable:
                assert estimate.std_error <= 0.1
                scores.append(score)
    # Three of equal variance are reached through a phase transition, and seldom reliable.
    assert len(scores) >= 24
    assert 0.6 < torch.tensor(scores).square().mean().sqrt() < 1.3


def conjugate(rows, prior):
    """log evidence of one component by quadrature over its variance; its mean is integrated out."""
    n, center = len(rows), rows.mean()
    log_variance = 2.0 * math.log(prior.mean_scale) + torch.linspace(-12.0, 12.0, 4001)
    variance = log_variance.exp()
    of_variance = torch.distributions.InverseGamma(prior.variance_shape, prior.variance_scale)
    square = (rows - center).square().sum()
    whole = prior.mean_scale**2 + variance / n
    value = (
        -0.5 * n * (2 * math.pi * variance).log()
        - 0.5 * square / variance
        + 0.5 * (2 * math.pi * variance / n).log()
        - 0.5 * (2 * math.pi * whole).log()
        - 0.5 * (center - prior.mean_loc).square() / whole
        + of_variance.log_prob(variance)
        + log_variance
    )
    return float(torch.trapezoid(value.exp(), log_variance).log())


@pytest.mark.parametrize("scale", [0.01, 300.0])
def test_the_evidence_follows_the_units_of_the_data(scale):
    """One component, against quadrature, in units far from those of the data's own."""
    rows = scale * (5.0 + torch.randn(20))
    prior = MixturePrior(4.0 * scale, 2.0 * scale, 2.0, scale**2)
    estimate = GaussianMixture(1, prior=prior, num_particles=1024).log_evidence(rows)
    assert abs(estimate.log_z - conjugate(rows, prior)) < 4 * estimate.std_error


def two_rows(prior, rows, components):
    """Of two rows: a sum over who belongs with whom, of closed-form evidences of one component."""
    together, first, second = (conjugate(part, prior) for part in (rows, rows[:1], rows[1:]))
    same = 2.0 / (components + 1.0)  # Weights uniform over the simplex.
    return math.log(same * math.exp(together) + (1 - same) * math.exp(first + second))


@pytest.mark.parametrize("components", [2, 3])
def test_every_labelling_counts(components):
    prior = MixturePrior(0.0, 2.0, 3.0, 1.0)
    rows = torch.tensor([-1.0, 2.0])
    estimate = GaussianMixture(components, prior=prior, num_particles=1024).log_evidence(rows)
    assert abs(estimate.log_z - two_rows(prior, rows, components)) < 4 * estimate.std_error


def test_full_covariances_in_one_dimension_are_variances():
    rows = torch.randn(30)
    scalar = MixturePrior(0.0, 2.0, 3.0, 1.0)
    full = MixturePrior(0.0, 2.0, 3.0, torch.eye(1))
    one, other = (
        GaussianMixture(2, prior=p, num_particles=1024).log_evidence(x)
        for p, x in ((scalar, rows), (full, rows[:, None]))
    )
    assert abs(one.log_z - other.log_z) < 4 * math.hypot(one.std_error, other.std_error)


def wishart_evidence(rows, prior):
    """One full covariance, its mean known to be nought: closed form."""
    n, d = rows.shape
    degrees, scale = 2 * prior.variance_shape + d - 1, 2 * prior.variance_scale
    log_gamma = torch.special.multigammaln
    return float(
        -0.5 * n * d * math.log(math.pi)
        + log_gamma(torch.tensor(0.5 * (degrees + n)), d)
        - log_gamma(torch.tensor(0.5 * degrees), d)
        + 0.5 * degrees * torch.logdet(scale)
        - 0.5 * (degrees + n) * torch.logdet(scale + rows.T @ rows)
    )


@pytest.mark.parametrize("equal", [False, True])
def test_a_full_covariance_has_its_closed_form(equal):
    rows = torch.randn(25, 3) @ torch.tensor([[1.0, 0, 0], [0.8, 0.5, 0], [0.1, -0.4, 2.0]]).T
    scale = torch.tensor([[1.0, 0.3, 0], [0.3, 1, 0], [0, 0, 2]])
    prior = MixturePrior(0.0, 1e-5, 3.0, scale)
    mixture = GaussianMixture(1, prior=prior, equal_variance=equal, num_particles=1024)
    estimate = mixture.log_evidence(rows)
    assert abs(estimate.log_z - wishart_evidence(rows, prior)) < 4 * estimate.std_error


@pytest.mark.slow
def test_as_many_components_are_found_as_there_are():
    loc, scale = torch.tensor([-4.0, 0.0, 5.0]), torch.tensor([0.8, 1.0, 1.2])
    which = torch.randint(3, (200,))
    found = GaussianMixture.select(
        loc[which] + scale[which] * torch.randn(200), range(1, 6), num_particles=1024
    )
    assert found.most_probable == 3
    assert found.lowest_bic == 3


@pytest.mark.slow
@pytest.mark.parametrize("diagonal", [False, True])
def test_the_pyro_model_has_the_same_evidence(diagonal):
    loc = torch.tensor([[-3.0, 0.0], [3.0, 1.0]])
    rows = (loc[:, None] + torch.randn(2, 15, 2)).flatten(0, 1)
    mixture = GaussianMixture(2, prior=MixturePrior.of(rows, diagonal=diagonal))
    ours, general = mixture.log_evidence(rows), ebm.AIS(mixture.model).run(rows)
    assert abs(ours.log_z - general.log_z) < 4 * math.hypot(ours.std_error, general.std_error)
