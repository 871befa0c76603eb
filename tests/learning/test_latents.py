"""Planted latent factors are found; where all is known posteriors and bounds are exact."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch import nn

import pyro_ebm as ebm


class Flat(ebm.Energy):
    """Zero everywhere, and log Z of its tilted prior is that of the base: a learned shift of it."""

    def __init__(self, dim):
        super().__init__((dim,))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, z):
        return -(self.shift * z).sum(-1)


def linear_model(**options):
    """z ~ N(0, 1) in two dimensions, x = Wz + b + 0.5 noise in five."""
    decoder = nn.Linear(2, 5)
    likelihood = ebm.GaussianLikelihood(0.5)
    return ebm.LatentEnergyModel(decoder, Flat(2), latent_dim=2, likelihood=likelihood, **options)


def marginal(model):
    weight, bias = model.decoder.weight.detach(), model.decoder.bias.detach()
    return dist.MultivariateNormal(bias, weight @ weight.T + 0.25 * torch.eye(5))


def test_posterior_draws_are_those_of_a_linear_gaussian_model():
    model = linear_model()
    rows = marginal(model).sample((3,))
    weight, bias = model.decoder.weight.detach(), model.decoder.bias.detach()
    seen = torch.tensor([True, True, True, False, False])
    for observed, w, r in ((None, weight, rows - bias), (seen, weight[:3], (rows - bias)[:, :3])):
        covariance = torch.linalg.inv(torch.eye(2) + w.T @ w / 0.25)
        mean = r @ w @ covariance / 0.25
        found = model.latents(rows, observed=observed, num_samples=100, num_chains=8)
        ess = torch.as_tensor(found.ess)
        assert ess.min() > 100
        assert ((found.mean - mean).abs() < 4 * (covariance.diagonal() / ess).sqrt()).all()
        spread = found.draws.var((0, 1))
        assert ((spread / covariance.diagonal()).log().abs() < 4 * (4 / ess).sqrt()).all()
    assert found.to_arviz().posterior["z"].shape == (8, 100, 3, 2)
    filled = model.reconstruct(rows, observed=seen, num_samples=10, warmup_steps=10)
    assert filled.shape == rows.shape


@pytest.mark.parametrize("amortised", [False, True])
def test_the_bound_of_a_linear_gaussian_model_is_its_likelihood(amortised):
    model = linear_model(encoder=nn.Linear(5, 4) if amortised else None)
    weight, bias = model.decoder.weight.detach(), model.decoder.bias.detach()
    covariance = torch.linalg.inv(torch.eye(2) + weight.T @ weight / 0.25)
    if amortised:  # the exact posterior mean, and scales that are a little wide
        gain = covariance @ weight.T / 0.25
        scale = 1.5 * covariance.diagonal().sqrt()
        model.encoder.weight.data = torch.cat([gain, torch.zeros(2, 5)])
        model.encoder.bias.data = torch.cat([-gain @ bias, scale.log()])
    law = marginal(model)
    rows = law.sample((40,))
    bound = model.likelihood_bound(rows, num_particles=400)
    assert bound.reliable
    off = bound.log_likelihoods - law.log_prob(rows)
    assert abs(float(off.mean())) < 4 * float(off.std()) / 40**0.5 + 4 * bound.log_z_error
    assert float(off.std()) < 0.2
    assert not amortised or model.likelihood_bound(rows, num_particles=1).mean < bound.mean


@pytest.mark.slow
def test_a_linear_gaussian_model_is_learned_to_its_likelihood():
    """What is learned is likelier than the model that the rows were drawn from."""
    truth = linear_model()
    rows = marginal(truth).sample((400,))
    model = linear_model()
    fitted = model.fit(
        rows,
        num_steps=200,
        batch_size=400,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.03),
        disable_progbar=True,
    )
    assert not fitted.diverged
    scale = float(model.likelihood.log_scale.detach().exp())
    weight, shift = model.decoder.weight.detach(), model.energy.energy.shift.detach()
    mean = model.decoder.bias.detach() + weight @ shift
    found = dist.MultivariateNormal(mean, weight @ weight.T + scale**2 * torch.eye(5))
    at_truth = marginal(truth).log_prob(rows).sum()
    assert float(found.log_prob(rows).sum()) > float(at_truth)


@pytest.mark.slow
def test_svi_learns_what_fit_learns():
    truth = linear_model()
    rows = marginal(truth).sample((200,))
    model = linear_model(encoder=nn.Linear(5, 4))
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO())
    losses = [svi.step(rows) for _ in range(150)]
    assert sum(losses[-10:]) < sum(losses[:10])
    elbo = model.likelihood_bound(rows, num_particles=1).mean
    assert elbo > float(marginal(truth).log_prob(rows).mean()) - 0.5
    new = model.sample(50)
    assert new.values.shape == (50, 5)
    assert not new.values.requires_grad


def explained(latents, factors):
    """R^2 of a linear map from latents to each factor."""
    design = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    left = factors - design @ torch.linalg.lstsq(design, factors).solution
    return 1.0 - left.square().sum(0) / (factors - factors.mean(0)).square().sum(0)


def clustered(number, generator):
    """Four clusters in the plane, seen through a nonlinear map with noise: x, z and labels."""
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    label = torch.randint(4, (number,), generator=generator)
    z = centres[label] + 0.35 * torch.randn(number, 2, generator=generator)
    first, bias = torch.randn(2, 16, generator=generator), torch.randn(16, generator=generator)
    second = torch.randn(16, 20, generator=generator) / 4
    noise = 0.1 * torch.randn(number, 20, generator=generator)
    return (z @ first + bias).tanh() @ second + noise, z, label


@pytest.mark.slow
@pytest.mark.parametrize("amortised", [False, True])
def test_planted_clusters_and_factors_are_found_behind_a_nonlinear_decoder(amortised):
    x, z, label = clustered(1200, torch.Generator().manual_seed(1))
    decoder = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 20))
    encoder = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 4))
    model = ebm.LatentEnergyModel(decoder, latent_dim=2, encoder=encoder if amortised else None)
    model.fit(
        x[:1000],
        num_steps=1200,
        optimizer=lambda p: torch.optim.Adam(p, lr=5e-3),
        disable_progbar=True,
    )
    found = model.latents(x, num_samples=50, warmup_steps=50, num_chains=2).mean
    groups = GaussianMixture(4, n_init=5, random_state=0).fit_predict(found.numpy())
    rand, share = adjusted_rand_score(label.numpy(), groups), explained(found, z)
    assert rand > 0.9
    assert (share > 0.9).all()
