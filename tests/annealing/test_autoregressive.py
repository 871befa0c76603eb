"""The fitted base: a density that integrates to one, draws from itself, and follows its draws."""

import math

import pytest
import torch

from pyro_ebm.annealing.autoregressive import autoregressive_base, fit_autoregression
from pyro_ebm.annealing.families import Draws, Grouping, independent, joined


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def funnel(n, dim=4):
    v = 2.0 * torch.randn(n)
    return torch.cat([(v / 2).exp() * torch.randn(dim - 1, n), v[None]])


def two_wells(n):
    side = torch.where(torch.rand(2, n) < torch.tensor([[0.2], [0.7]]), -2.0, 2.0)
    return side + 0.3 * torch.randn(2, n)


def bent(n):
    x = torch.randn(n)
    return torch.stack([x, x.square() + 0.3 * torch.randn(n)])


def heavy(n):
    return torch.distributions.StudentT(2.0).sample((2, n))


DRAWS = {"funnel": funnel, "two wells": two_wells, "bent": bent, "heavy": heavy}


def base_of(name, n=4000, **options):
    return autoregressive_base(
        fit_autoregression(independent(DRAWS[name](n)), **options), widen=1.15, description=""
    )


@pytest.mark.parametrize("name", DRAWS)
def test_the_gradient_is_that_of_the_density(name):
    base = base_of(name)
    z = base.sample(50, generator()).requires_grad_()
    value, gradient = base.log_density_and_gradient(z)
    (expected,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["two wells", "bent"])
def test_the_density_integrates_to_one(name):
    base = base_of(name)
    axis = torch.linspace(-30.0, 30.0, 1201)
    value, _ = base.log_density_and_gradient(torch.cartesian_prod(axis, axis).T)
    assert float(value.exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_the_density(name):
    """E q'/q = 1 for any other normalised density q': a base of another fit."""
    base, other = base_of(name), base_of(name, n=1000)
    z = base.sample(100_000, generator(1))
    ratio = (other.log_density_and_gradient(z)[0] - base.log_density_and_gradient(z)[0]).exp()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean()) - 1.0) < 4 * error


def test_a_gaussian_is_fitted_with_little_loss():
    factor = torch.tensor([[1.0, 0.0, 0.0], [5.0, 0.1, 0.0], [-1.0, 2.0, 3.0]])
    x = factor @ torch.randn(3, 8000)
    fit = fit_autoregression(independent(x))
    assert not bool(fit.slope.any())
    assert not bool(fit.square.any())
    base = autoregressive_base(fit, widen=1.0, description="")
    target = torch.distributions.MultivariateNormal(torch.zeros(3), scale_tril=factor)
    fresh = target.sample((4000,))
    loss = target.log_prob(fresh) - base.log_density_and_gradient(fresh.T)[0]
    # A Student-t with ten degrees of freedom loses 0.02 nats a coordinate to a Gaussian.
    assert 0.0 < float(loss.mean()) < 0.1


def test_a_funnel_is_followed_beyond_its_draws():
    """Draws that never came to the neck tell how it narrows: the scale of x is exp(v / 2) there."""
    x = funnel(8000)
    fit = fit_autoregression(independent(x[:, x[-1] > -1.5]))
    assert int(fit.order[0]) == 3
    base = autoregressive_base(fit, widen=1.0, description="")
    neck = torch.cat([math.exp(-2.5) * torch.randn(3, 2000), torch.full((1, 2000), -5.0)])
    value, _ = base.log_density_and_gradient(neck)
    conditional = torch.distributions.Normal(0.0, math.exp(-2.5)).log_prob(neck[:3]).sum(0)
    # Up to the density of v itself, which is a constant here.
    assert float((value - conditional).std()) < 1.0


def test_two_wells_on_each_axis_keep_their_shares():
    z = base_of("two wells").sample(20_000, generator())
    shares = (z < 0).double().mean(1)
    assert shares.tolist() == pytest.approx([0.2, 0.7], abs=0.03)


def test_one_part_covers_two_wells_without_believing_their_shares():
    z = base_of("two wells", one_part=True).sample(20_000, generator())
    assert float((z.abs() < 1.0).double().mean()) > 0.1


def test_tails_without_variance_are_met_by_tails_as_heavy():
    fit = fit_autoregression(independent(heavy(8000)))
    assert float(fit.dof.max()) <= 3.0


def terms(fit):
    """How many coefficients a fit has."""
    return int(sum((part != 0).sum() for part in (fit.linear, fit.slope, fit.bend, fit.square)))


def test_what_a_family_shares_is_not_taken_for_a_law():
    """Thirty draws of independent coordinates, each a hundred times, seem to go together."""
    x = torch.randn(6, 30).repeat(1, 100)
    families = torch.arange(30).repeat(100)
    assert terms(fit_autoregression(Draws(x, families))) < 5
    assert terms(fit_autoregression(independent(x))) > 15


def test_families_that_have_forgotten_their_ancestor_cost_nothing():
    x = torch.randn(3, 3000)
    x[1] += 0.3 * x[0]
    x[2] += 0.3 * x[1]
    families = torch.arange(30).repeat(100)
    together = fit_autoregression(Draws(x, families))
    alone = fit_autoregression(independent(x))
    assert bool(((together.linear != 0) == (alone.linear != 0)).all())


def test_more_coefficients_than_families_can_tell_are_not_fitted():
    x = torch.randn(40, 12).repeat(1, 50) + 0.1 * torch.randn(40, 600)
    x[1:] += 3.0 * x[0]
    fit = fit_autoregression(Draws(x, torch.arange(12).repeat(50)))
    assert int((fit.linear != 0).sum(1).max()) <= 12 / 4 + 1
    assert bool((fit.linear[1:] != 0).any(1).all())


def test_sums_over_families_scatter_as_their_draws_do():
    scores = torch.randn(2, 6)
    grouping = Grouping(torch.tensor([5, 5, 1, 1, 1, 9]))
    parts = [scores[:, :2].sum(1), scores[:, 2:5].sum(1), scores[:, 5]]
    expected = sum(part.square() for part in parts)
    torch.testing.assert_close(grouping.square_of_sums(scores), expected)
    assert grouping.number == pytest.approx(36 / 14)


def test_families_of_different_sets_stay_apart():
    one, other = (
        independent(torch.randn(2, 3)),
        Draws(torch.randn(2, 4), torch.tensor([7, 7, 0, 0])),
    )
    both = joined([one, other])
    assert both.positions.shape == (2, 7)
    assert Grouping(both.families).number == pytest.approx(49 / (3 + 4 + 4))


def test_tails_are_not_multiplied_from_coordinate_to_coordinate():
    fit = fit_autoregression(independent(funnel(4000)))
    base = autoregressive_base(fit, widen=1.15, description="")
    far = torch.tensor([1.0, 1.0, 1.0, 1e4])[:, None].requires_grad_()
    value, gradient = base.log_density_and_gradient(far)
    (expected,) = torch.autograd.grad(value.sum(), far)
    torch.testing.assert_close(gradient, expected)
    assert float(base.sample(200_000, generator()).abs().max()) < 1e5
