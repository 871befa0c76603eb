"""Objectives that are consistent find the parameters that data were drawn with, within the error
that the data leave; those that are not find the limit that is stated of them."""

import pytest
import torch
from scipy.stats import chi2
from torch.distributions import Independent, Normal

import pyro_ebm as ebm

from .families import FAMILIES, gaussian
from .sandwich import estimated

CONSISTENT = {
    "exact-gaussian": ("gaussian", ebm.ExactLikelihood()),
    "exact-mixture": ("mixture", ebm.ExactLikelihood()),
    "exact-ising": ("ising_4x4", ebm.ExactLikelihood()),
    "exact-rbm": ("rbm_8x4", ebm.ExactLikelihood()),
    "score-gaussian": ("gaussian", ebm.ScoreMatching()),
    "score-mixture": ("mixture", ebm.ScoreMatching()),
    "sliced-gaussian": ("gaussian", ebm.SlicedScoreMatching()),
    "noise-gaussian": (
        "gaussian",
        ebm.NoiseContrastive(
            Independent(Normal(torch.zeros(3, dtype=torch.double), 1.5), 1), ratio=2
        ),
    ),
    "pseudo-ising": ("ising_4x4", ebm.PseudoLikelihood()),
    "pseudo-rbm": ("rbm_8x4", ebm.PseudoLikelihood()),
}


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)


# An RBM's parameters are hardly told apart by a few thousand rows: its errors are normal from
# some ten thousand on.
NUMBERS = {"rbm_8x4": (50_000, 200_000)}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(
            name,
            number,
            id=f"{name}-{number}",
            marks=[pytest.mark.slow] if "rbm" in name else [],
        )
        for name, (family, _) in CONSISTENT.items()
        for number in NUMBERS.get(family, (400, 1600))
    ],
)
def test_known_parameters_are_found_within_their_errors(name, number):
    family, objective = CONSISTENT[name]
    case = FAMILIES[family](number, torch.Generator().manual_seed(3))
    rows = {"rbm_8x4": 2000, "ising_4x4": 60}.get(family, 400)
    found = estimated(objective, case, num_rows=rows)
    degrees = len(found.off)
    assert 1e-4 < chi2.cdf(found.score, degrees) < 1 - 1e-4


def test_denoising_learns_the_precision_of_noisy_data():
    case = gaussian(20_000, torch.Generator().manual_seed(4))
    covariance = case.data.T.cov()
    errors = []
    for scale in (1.0, 0.5):
        energy = case.energy
        ebm_fit(energy, case.data, ebm.DenoisingScoreMatching(scale))
        root = energy.root.detach().tril()
        limit = torch.linalg.inv(covariance + scale**2 * torch.eye(3))
        torch.testing.assert_close(root @ root.T, limit, atol=0.02, rtol=0.05)
        errors.append(float((root @ root.T - torch.linalg.inv(covariance)).abs().max()))
    assert errors[1] < errors[0]


def ebm_fit(energy, data, objective):
    torch.manual_seed(5)
    ebm.fit(
        energy,
        data,
        objective,
        num_steps=600,
        batch_size=2000,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
        scheduler=lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.01, 600),
        held_out=None,
        disable_progbar=True,
    )
