"""Each known normaliser is computed a second time, by another way than it came from."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln
from torch import Tensor

from pyro_ebm import DiagonalGaussian, DoubleWell, Funnel, Quartic, StudentT, Target
from tests.oracles import moments, whole_line

from .laplace import Estimate, estimate, laplace_draws, laplace_importance_sampling
from .normalisers import NORMALISERS, Case, normaliser

pytestmark = pytest.mark.usefixtures("float64")
NUM_DRAWS = 20_000

# What the package's own energies say, for the plain functions that do not know.
CLASSES = {
    "gaussian_20d": lambda: DiagonalGaussian(0.0, torch.logspace(-2, 0, 20)),
    "funnel_10d": Funnel,
    "many_well_32d": lambda: Quartic(
        torch.tensor([-12.0, 1.0]).repeat(16),
        torch.tensor([4.0, 0.0]).repeat(16),
        tilt=torch.tensor([-0.5, 0.0]).repeat(16),
    ),
    **{f"student_t_{df}": lambda df=df: StudentT(float(df)) for df in (1, 2, 3, 5, 10)},
    **{
        f"double_well_{tilt}_{beta}": lambda tilt=tilt: DoubleWell(tilt=tilt)
        for tilt in (0.0, 0.5, 1.0, 2.0)
        for beta in (1.0, 3.0)
    },
}
ONE_DIMENSIONAL = [name for name in CLASSES if name.startswith(("student", "double"))]
# Windows of unconstrained coordinates out of which there is no mass, with a number of points.
TWO_DIMENSIONAL = {
    "mixture_40_box": (((-6.0, 6.0), (-6.0, 6.0)), 700),
    "mixture_40_plane": (((-50.0, 50.0), (-50.0, 50.0)), 300),
    **{
        f"mueller_brown_{kt}": (((-25.0, 25.0), (-25.0, 25.0)), 900)
        for kt in ("10", "15", "25", "50")
    },
    "galaxy_k1": (((15.0, 27.0), (1.0, 6.0)), 200),
}
REGRESSIONS = (
    "radiata_pine_m1",
    "radiata_pine_m2",
    "pima_indian_m1",
    "diabetes",
    "gp_regr",
    "german_credit",
    "german_credit_wide",
)


@pytest.fixture
def float64() -> None:
    torch.set_default_dtype(torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))


def log_density(target: Target) -> Callable[[Tensor], Tensor]:
    """log density of positions [n, dim], as [n]."""
    return lambda positions: target.evaluate(positions).log_density


def agrees(found: Estimate, case: Case) -> bool:
    return abs(found.log_z - case.log_z) < 4 * math.hypot(found.std_error, case.log_z_error)


def on_a_grid(target: Target, windows: tuple[tuple[float, float], ...], n: int) -> float:
    """log of the trapezoidal sum, which converges exponentially where the density vanishes at the
    borders."""
    axes = [torch.linspace(low, high, n) for low, high in windows]
    points = torch.cartesian_prod(*axes)
    terms = torch.cat([log_density(target)(part) for part in points.split(100_000)])
    return float(terms.logsumexp(0)) + sum(math.log(axis[1] - axis[0]) for axis in axes)


@pytest.mark.parametrize("name", NORMALISERS)
def test_a_case_is_float64_and_its_own(name):
    case = normaliser(name)
    assert case.name == name
    assert case.target.dtype == torch.float64
    assert case.target.vectorized
    assert math.isfinite(case.log_z)
    assert 0 <= case.log_z_error < 0.1 * case.most_error


@pytest.mark.parametrize("name", CLASSES)
def test_an_energy_has_the_normaliser_of_its_class(name):
    case, energy = normaliser(name), CLASSES[name]()
    points = torch.randn(5, *energy.event_shape)
    temperature = case.model.temperature
    found = case.model.unnormalized_log_prob(points.reshape(5, *case.model.event_shape))
    torch.testing.assert_close(found, -energy(points) / temperature)
    # The energies leave nothing out but what the truth leaves out too; it has nine digits at least.
    assert float(energy.log_normalizer(temperature)) == pytest.approx(case.log_z, abs=1e-6)


@pytest.mark.parametrize("name", ONE_DIMENSIONAL)
def test_quadrature_over_the_line_gives_log_z(name):
    case = normaliser(name)
    found = moments(log_density(case.target), [whole_line], n=400)
    assert float(found.log_z) == pytest.approx(case.log_z, abs=1e-6 + float(found.log_z_error))
    assert float(found.log_z_error) < 1e-6


@pytest.mark.parametrize("name", TWO_DIMENSIONAL)
def test_quadrature_over_the_plane_gives_log_z(name):
    case = normaliser(name)
    assert on_a_grid(case.target, *TWO_DIMENSIONAL[name]) == pytest.approx(case.log_z, abs=1e-5)


@pytest.mark.parametrize("name", ["gaussian_20d", "many_well_32d"])
def test_independent_coordinates_multiply_to_log_z(name):
    case = normaliser(name)
    target = case.target
    value = log_density(target)

    def alone(i: int) -> Callable[[Tensor], Tensor]:
        return lambda x: value(x * torch.nn.functional.one_hot(torch.tensor(i), target.dim))

    positions = 0.3 * torch.randn(4, target.dim)
    parts = [alone(i)(positions[:, i : i + 1]) for i in range(target.dim)]
    torch.testing.assert_close(torch.stack(parts).sum(0), value(positions))
    found = sum(float(moments(alone(i), [whole_line], n=1_500).log_z) for i in range(target.dim))
    assert found == pytest.approx(case.log_z, abs=1e-6)


def test_the_ring_has_the_trace_of_its_transfer_matrix():
    case = normaliser("phi4_ring_16")
    x = torch.linspace(-5, 5, 401)
    site = -x.square() + 0.25 * x.pow(4)
    bond = -0.5 * (x - x[:, None]).square() - 0.5 * (site + site[:, None])
    eigenvalues = torch.linalg.eigvalsh(bond.exp() * (x[1] - x[0]))
    assert float(eigenvalues.pow(16).sum().log()) == pytest.approx(case.log_z, abs=1e-6)
    field = torch.randn(3, 16)
    expected = (field.square() - 0.25 * field.pow(4)).sum(-1)
    expected -= 0.5 * (field - field.roll(1, -1)).square().sum(-1)
    torch.testing.assert_close(log_density(case.target)(field), expected)


def test_eight_schools_have_the_evidence_of_two_dimensions():
    case = normaliser("eight_schools")
    sigma, y = case.args

    def marginal(grid: Tensor) -> Tensor:
        mu, log_tau = grid.unsqueeze(-1).unbind(1)
        tau = log_tau.exp()
        prior = -0.5 * (mu / 5).square() - math.log(5 * math.sqrt(2 * math.pi))
        prior = prior + log_tau - torch.log1p((tau / 5).square()) + math.log(2 / (math.pi * 5))
        variance = tau.square() + sigma.square()
        likelihood = -0.5 * ((y - mu).square() / variance + (2 * math.pi * variance).log())
        return prior[:, 0] + likelihood.sum(-1)

    axes = torch.linspace(-40, 50, 600), torch.linspace(-30, 12, 600)
    terms = marginal(torch.cartesian_prod(*axes))
    found = float(terms.logsumexp(0)) + sum(math.log(axis[1] - axis[0]) for axis in axes)
    assert found == pytest.approx(case.log_z, abs=1e-5)


def test_centring_changes_variables_and_not_the_evidence():
    plain, centred = normaliser("eight_schools"), normaliser("eight_schools_centred")
    assert plain.log_z == centred.log_z
    mu, log_tau, standard = torch.randn(5), torch.randn(5), torch.randn(5, 8)
    theta = mu[:, None] + log_tau.exp()[:, None] * standard
    sites = {"mu": mu, "tau": log_tau}
    here = plain.target.unconstrain(sites | {"theta_trans": standard})
    there = centred.target.unconstrain(sites | {"theta": theta})
    torch.testing.assert_close(
        log_density(plain.target)(here), log_density(centred.target)(there) + 8 * log_tau
    )


def test_brownian_motion_has_the_evidence_of_two_scales():
    case = normaliser("brownian_motion_unknown_scales")
    observed, y = case.args
    times = observed.double() + 1
    # The walk's covariance and the noise's have their principal axes in common.
    variances, axes = torch.linalg.eigh(torch.minimum(times, times[:, None]))
    axis = torch.linspace(-20, 12, 400)
    log_scales = torch.cartesian_prod(axis, axis)
    walk, noise = log_scales.mul(2).exp().unsqueeze(-1).unbind(1)
    total = walk * variances + noise
    terms = -0.5 * ((y @ axes).square() / total + (2 * math.pi * total).log()).sum(-1)
    terms = terms + torch.distributions.Normal(0.0, 2.0).log_prob(log_scales).sum(-1)
    found = float(terms.logsumexp(0)) + 2 * math.log(axis[1] - axis[0])
    assert found == pytest.approx(case.log_z, abs=1e-5)


@pytest.mark.parametrize("name", ["radiata_pine_m1", "radiata_pine_m2"])
def test_radiata_pine_has_the_evidence_of_a_conjugate_regression(name):
    case = normaliser(name)
    x, y = (column.numpy() for column in case.args)
    design = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    prior, at = np.diag([0.06, 6.0]), np.array([3000.0, 185.0])
    posterior = design.T @ design + prior
    mean = np.linalg.solve(posterior, design.T @ y + prior @ at)
    shape, rate = (
        3 + len(y) / 2,
        2 * 300**2 + (y @ y + at @ prior @ at - mean @ posterior @ mean) / 2,
    )
    found = 0.5 * (np.linalg.slogdet(prior)[1] - np.linalg.slogdet(posterior)[1])
    found += 3 * np.log(2 * 300**2) - gammaln(3) + gammaln(shape) - shape * np.log(rate)
    assert found - len(y) / 2 * np.log(2 * np.pi) == pytest.approx(case.log_z, abs=1e-8)


def test_diabetes_has_the_evidence_of_a_gaussian():
    case = normaliser("diabetes")
    features, y = (column.numpy() for column in case.args)
    design = np.column_stack([np.ones(len(y)), features])
    covariance = design @ design.T + 0.5 * np.eye(len(y))
    found = stats.multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)
    assert found == pytest.approx(case.log_z, abs=1e-8)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_importance_sampling_at_the_mode_gives_the_evidence(name):
    case = normaliser(name)
    found = laplace_importance_sampling(case.target, NUM_DRAWS, generator())
    assert found.std_error < 0.02
    assert agrees(found, case)


@pytest.mark.parametrize(
    ("name", "site"),
    [("galaxy_k2_equal", "mean"), ("galaxy_k3_equal", "mean"), ("galaxy_k2_unequal", "variance")],
)
def test_one_labelling_has_its_share_of_the_evidence(name, site):
    """Z = K! times the integral over one order of the components."""
    case = normaliser(name)
    target = case.target
    positions, log_weights = laplace_draws(target, NUM_DRAWS, generator())
    order = target.constrain(positions)[site].argsort(-1)
    ours = (order == order.mode(0).values).all(-1)
    found = estimate(log_weights.masked_fill(~ours, -math.inf))
    labellings = math.lgamma(1 + order.shape[-1])
    assert agrees(found._replace(log_z=found.log_z + labellings), case)


def test_an_unknown_normaliser_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Expected one of .*'funnel_10d'.* got 'tunnel'"):
        normaliser("tunnel")
