"""Mixtures as bases: fitted to draws, and searched for."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import pyro_ebm as ebm
from pyro_ebm.annealing.dispersed import find_modes
from pyro_ebm.annealing.families import independent
from pyro_ebm.annealing.freeze import as_target
from pyro_ebm.annealing.mixture_base import Components, mixture_base, refined


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def components(locs, scale=1.0):
    k, dim = locs.shape
    factors = scale * torch.eye(dim).expand(k, dim, dim)
    return Components(torch.full((k,), 1 / k).log(), locs, factors)


def test_a_component_grows_over_what_its_curvature_has_hidden():
    """Two normals 1.8 sd apart have one mode, narrower than both together."""
    locs = torch.tensor([[0.0, 0.0], [20.0, 0.0]])
    hidden = torch.tensor([[0.0, 0.0], [0.0, 4.0], [20.0, 0.0]])
    draws = hidden[torch.arange(3000) % 3].T + torch.randn(2, 3000)
    fit = refined(components(locs), independent(draws), dof=8.0)
    assert fit.log_weights.exp().tolist() == pytest.approx([2 / 3, 1 / 3], abs=0.03)
    assert fit.locs[0].tolist() == pytest.approx([0.0, 2.0], abs=0.2)
    assert float(fit.factors[0, 1, 1]) > 1.5
    assert float(fit.factors[1].diagonal().max()) < 1.1


def test_a_component_without_draws_stays_as_it_is():
    locs = torch.tensor([[0.0], [50.0]])
    fit = refined(components(locs, 2.0), independent(0.5 * torch.randn(1, 400)), dof=8.0)
    assert float(fit.locs[1]) == pytest.approx(50.0, abs=1e-6)
    assert float(fit.factors[1]) == pytest.approx(2.0, abs=1e-6)
    assert 0.0 < float(fit.log_weights[1].exp()) < 0.02


def test_the_likelihood_of_draws_rises():
    torch.manual_seed(2)
    start = components(4.0 * torch.randn(5, 3))
    draws = independent((4.0 * torch.randn(5, 3))[torch.arange(2000) % 5].T + torch.randn(3, 2000))

    def score(fit):
        base = mixture_base(fit, dof=8.0, description="")
        return float(base.log_density_and_gradient(draws.positions)[0].mean())

    assert score(refined(start, draws, dof=8.0)) > score(start) + 0.5


def test_searches_go_on_until_hardly_a_mode_is_missing():
    torch.manual_seed(1)
    locs = 3.0 * torch.cartesian_prod(torch.arange(6.0), torch.arange(5.0)) - 7.0
    mixture = MixtureSameFamily(
        Categorical(torch.rand(30) + 0.2), Independent(Normal(locs, torch.tensor(0.4)), 1)
    )
    target = as_target(ebm.EnergyDistribution(lambda x: -mixture.log_prob(x), (2,)), (), {})
    generator = torch.Generator().manual_seed(0)
    starts = target.initial_positions(64, generator=generator)
    assert find_modes(target, starts, generator).shape[1] >= 29
