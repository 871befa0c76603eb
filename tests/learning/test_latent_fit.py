"""Learning a latent-variable model ends with a good one, or says why not; rows are checked."""

import math

import numpy as np
import pandas
import pytest
import torch
from torch import nn

import pyro_ebm as ebm
from pyro_ebm.learning import latent_fit
from pyro_ebm.learning.latent_watch import LatentLook, Spread, is_best, loss_of_all
from tests.learning.test_latents import linear_model


def one_factor(*, amortised=True):
    """Rows with one latent factor, and a model that learns it."""
    weight = torch.tensor([[1.0, -2.0, 0.5, 1.0, 0.0]])
    rows = torch.randn(200, 1) @ weight + 0.3 * torch.randn(200, 5)
    encoder = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2)) if amortised else None
    return rows, ebm.LatentEnergyModel(nn.Linear(1, 5), latent_dim=1, encoder=encoder)


def looks_of(scores):
    return [LatentLook(i, score, 0.0, 1.0, 0.1, score) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("amortised", "lr"), [(True, 1.0), (True, 100.0), (True, 1e30), (False, 1.0), (False, 1e30)]
)
def test_a_learning_rate_that_loses_all_ends_early_with_the_best_parameters(amortised, lr):
    rows, model = one_factor(amortised=amortised)
    with pytest.warns(ebm.DivergedWarning, match="Learning diverged at step"):
        fitted = model.fit(
            rows,
            num_steps=100,
            optimizer=lambda p: torch.optim.Adam(p, lr=lr),
            disable_progbar=True,
        )
    assert fitted.diverged
    assert "Take a learning rate ten times smaller" in fitted.why
    made = int(fitted.why.removeprefix("learning diverged at step ").partition(":")[0])
    assert max(1, fitted.history["step"][-1]) <= made < 50
    assert len(fitted.history["step"]) < 50
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert model.prior.negatives.values.isfinite().all()
    assert fitted.latents is None or fitted.latents.isfinite().all()
    assert model.sample(5).values.isfinite().all()


def test_an_interrupt_says_how_far_learning_went(monkeypatch):
    rows, model = one_factor()
    whole, calls = latent_fit._infer, []

    def interrupted(*given, **options):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*given, **options)

    monkeypatch.setattr(latent_fit, "_infer", interrupted)
    fitted = model.fit(rows, num_steps=9, disable_progbar=True)
    assert fitted.why == "it was interrupted after 3 of 9 steps"
    assert not fitted.diverged


def test_what_is_put_back_is_as_it_was():
    """With parameters that are no number after the first step the start is put back, chains too."""
    rows, model = one_factor()
    before = [p.detach().clone() for p in model.parameters()]
    chains = model.prior.negatives.values.clone()
    with pytest.warns(ebm.DivergedWarning, match="are those of the start"):
        model.fit(rows, optimizer=lambda p: torch.optim.SGD(p, lr=math.inf), disable_progbar=True)
    assert all(map(torch.equal, model.parameters(), before))
    assert torch.equal(model.prior.negatives.values, chains)


@pytest.mark.parametrize("amortised", [False, True])
def test_learning_that_gains_is_not_called_diverged(amortised):
    rows, model = one_factor(amortised=amortised)
    fitted = model.fit(
        rows,
        num_steps=60,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02),
        disable_progbar=True,
    )
    assert (fitted.diverged, fitted.why) == (False, "all 60 steps were made")
    score = fitted.history["score"]
    assert score[-10:].mean() > score[0]
    assert fitted.history["step"].tolist() == list(range(61))
    again = model.fit(rows, num_steps=20, disable_progbar=True)
    assert not again.diverged


def test_noise_about_the_start_is_no_loss_and_a_few_bad_looks_are_none():
    noise = np.random.default_rng(0).normal(-50.0, 1.0, 100)
    spread = Spread(10.0, 1.0)
    risen = np.linspace(-50.0, -5.0, 100)
    dented = risen.copy()
    dented[50:52] = -1e6
    for scores in (noise, risen, dented):
        looks = looks_of(scores)
        assert all(loss_of_all(looks[:n], spread) is None for n in range(1, 101))
    lost = [*risen, *[-60.0] * 5]
    assert loss_of_all(looks_of(lost[:-3]), spread) is None
    assert "fell to -60, below the -50 of the start" in str(loss_of_all(looks_of(lost), spread))
    assert loss_of_all(looks_of([-50.0, *[math.nan] * 5]), spread) is not None
    assert is_best(looks_of(risen))
    assert not is_best(looks_of(lost))


def test_rows_in_any_form_of_numbers_are_learned_alike():
    rows = torch.randn(20, 5)
    found = []
    for given in (rows, rows.double(), rows.double().numpy(), pandas.DataFrame(rows.numpy())):
        torch.manual_seed(1)
        model = linear_model(encoder=nn.Linear(5, 4))
        model.fit(given, num_steps=2, batch_size=10, disable_progbar=True)
        found.append(model.decoder.weight.detach())
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_an_optimiser_may_be_given_or_made():
    model = linear_model(encoder=nn.Linear(5, 4))
    optimizer = torch.optim.SGD(model.decoder.parameters(), lr=0.01)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.fit(torch.randn(20, 5), num_steps=1, optimizer=optimizer, disable_progbar=True)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if name.startswith("decoder")}
    with pytest.raises(TypeError, match="expected optimizer"):
        model.fit(torch.randn(20, 5), num_steps=1, optimizer=0.1)


def test_what_is_not_observed_may_be_nan_and_does_not_matter():
    model = linear_model()
    rows = torch.randn(3, 5)
    seen = torch.ones(3, 5, dtype=torch.bool)
    seen[0, 1] = seen[2, 4] = False
    options = {"num_samples": 5, "warmup_steps": 5, "num_chains": 2}
    found = []
    for given, mask in (
        (torch.where(seen, rows, torch.nan), seen),
        (torch.where(seen, rows, 1e9).numpy(), seen.numpy()),
    ):
        torch.manual_seed(3)
        model.prior.negatives.generator.manual_seed(3)
        found.append(model.reconstruct(given, observed=mask, **options))
    assert found[0].isfinite().all()
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("data", "observed", "error", "said"),
    [
        (
            torch.randn(4, 3),
            None,
            ValueError,
            r"expected data \[n, \*\(5,\)\].* got shape \(4, 3\)",
        ),
        (torch.randn(5), None, ValueError, "got shape"),
        (torch.randn(4, 5) / 0, None, ValueError, "finite numbers"),
        ([["red"] * 5], None, TypeError, "real numbers"),
        (torch.randn(4, 5), torch.ones(5), TypeError, "booleans, got torch.float32"),
        (torch.randn(4, 5), np.ones(3, bool), ValueError, r"shape \(5,\) or \(4, 5\), got \(3,\)"),
        (torch.full((4, 5), torch.nan), np.arange(5) > 0, ValueError, "finite numbers"),
    ],
)
def test_rows_that_the_decoder_does_not_make_are_refused(data, observed, error, said):
    with pytest.raises(error, match=said):
        linear_model().latents(data, observed=observed)


def test_data_outside_of_the_likelihoods_support_are_refused():
    model = ebm.LatentEnergyModel(
        nn.Linear(2, 4), latent_dim=2, likelihood=ebm.BernoulliLikelihood()
    )
    rows = torch.ones(6, 4)
    rows[3:] = 0.5
    for verb in (model.fit, model.latents, model.likelihood_bound):
        with pytest.raises(ValueError, match=r"Likelihood, got 3 of 6 rows .* first row 3"):
            verb(rows)
    assert not model.fit(rows[:3].bool(), num_steps=1, disable_progbar=True).diverged
