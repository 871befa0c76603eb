"""The evidence of Gaussian mixtures against known values, and how many components it finds."""

import math

import pyro
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm import GaussianMixture, MixturePrior
from pyro_ebm.annealing.bennett import bennett
from pyro_ebm.mixtures.evidence import Bridge, problems_of

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


def estimate_of(name):
    """The evidence of a case, and how many errors it lies from what is known."""
    components, equal = CASES[name]
    mixture = GaussianMixture(components, prior=CHIB, equal_variance=equal)
    estimate = mixture.log_evidence(velocities())
    known, known_error = log_evidences()[name]
    return estimate, (estimate.log_z - known) / math.hypot(estimate.std_error, known_error)


@pytest.mark.parametrize("name", CASES)
def test_the_evidence_of_galaxies(name):
    estimate, score = estimate_of(name)
    assert estimate.reliable, estimate.why
    assert estimate.std_error < 0.1
    assert abs(score) < 4


@pytest.mark.slow
def test_errors_of_the_evidence_are_calibrated():
    scores = []
    for name in CASES:
        for seed in range(8):
            pyro.set_rng_seed(seed)
            estimate, score = estimate_of(name)
            assert abs(score) < 4
            assert estimate.reliable, estimate.why
            scores.append(score)
    assert 0.6 < torch.tensor(scores).square().mean().sqrt() < 1.3


def test_single_precision_comes_to_the_same():
    heaps = torch.cat([torch.randn(30, 2), torch.randn(30, 2) + 300.0]) * 1e-3
    prior = MixturePrior(0.15, 0.3, 3.0, 2e-6 * torch.eye(2))
    found = []
    for rows in (heaps, heaps.float()):
        pyro.set_rng_seed(3)
        found.append(GaussianMixture(2, prior=prior).fit(rows))
    assert found[1].mean.dtype == torch.float32
    joint = math.hypot(*(each.evidence.std_error for each in found))
    assert abs(found[0].evidence.log_z - found[1].evidence.log_z) < 4 * joint


def bridge_of(*, apart=0.0):
    """Weights near 1, and those of the chains so much apart."""
    forward, backward = 0.1 * torch.randn(1024), 0.1 * torch.randn(800) + apart
    return Bridge(*bennett(forward, backward), forward, backward, 800.0)


AGAINST = {
    "nothing": ({}, 0.0, 0.0, None),
    "particles that find less": ({}, 0.0, -3.0, None),
    "particles that find more": ({}, 0.0, 3.0, "missed a region"),
    "chains that remember": ({}, 2.0, 0.0, "not arrived"),
    "chains where the proposal finds nothing": ({"apart": -3.0}, 0.0, 0.0, "one of the two"),
    "chains where the proposal is not": ({"apart": 3.0}, 0.0, 0.0, "one of the two"),
}


@pytest.mark.parametrize("name", AGAINST)
def test_what_speaks_against_an_estimate_is_said(name):
    options, shift, more, said = AGAINST[name]
    log_likelihood = torch.randn(64, 50)
    log_likelihood[32:] += shift
    found = problems_of(bridge_of(**options), log_likelihood, (more, 0.3))
    assert [said in problem for problem in found] == ([] if said is None else [True])


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
    estimate = GaussianMixture(1, prior=prior).log_evidence(rows)
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
    estimate = GaussianMixture(components, prior=prior).log_evidence(rows)
    assert abs(estimate.log_z - two_rows(prior, rows, components)) < 4 * estimate.std_error


def test_full_covariances_in_one_dimension_are_variances():
    rows = torch.randn(30)
    scalar = MixturePrior(0.0, 2.0, 3.0, 1.0)
    full = MixturePrior(0.0, 2.0, 3.0, torch.eye(1))
    one, other = (
        GaussianMixture(2, prior=p).log_evidence(x)
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
    mixture = GaussianMixture(1, prior=prior, equal_variance=equal)
    estimate = mixture.log_evidence(rows)
    assert abs(estimate.log_z - wishart_evidence(rows, prior)) < 4 * estimate.std_error


@pytest.mark.slow
def test_as_many_components_are_found_as_there_are():
    loc, scale = torch.tensor([-4.0, 0.0, 5.0]), torch.tensor([0.8, 1.0, 1.2])
    which = torch.randint(3, (200,))
    found = GaussianMixture.select(loc[which] + scale[which] * torch.randn(200), range(1, 6))
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
