"""A small machine learns binary digits as well as it can, and its log Z is found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pyro_ebm as ebm

DATA = Path(__file__).parent.parent / "data" / "learning" / "digits_binary_split.npz"


@pytest.fixture
def digits():
    with np.load(DATA) as arrays:
        return tuple(torch.as_tensor(arrays[k]).float() for k in ("train", "test"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "steps", "batch_size"),
    [
        (ebm.PersistentContrastiveDivergence(num_chains=200, steps=2), 4000, 100),
        (ebm.ExactLikelihood(), 1000, 500),
    ],
)
def test_twelve_hidden_units_reach_what_exact_likelihood_allows(
    digits, objective, steps, batch_size
):
    training, test = digits
    torch.manual_seed(0)
    often = training.mean(0).clamp(0.01, 0.99)
    machine = ebm.RBM(
        nn.Parameter(0.05 * torch.randn(64, 12)),
        nn.Parameter((often / (1 - often)).log()),
        nn.Parameter(torch.zeros(12)),
    )
    energy = machine.marginal()
    ebm.fit(
        energy,
        training,
        objective,
        num_steps=steps,
        batch_size=batch_size,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.03),
        scheduler=lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.01, steps),
        held_out=test,
        disable_progbar=True,
    )
    assert ebm.held_out_log_likelihood(energy, test).mean > -18.9
    estimate = ebm.AIS(ebm.EnergyDistribution(machine), disable_progbar=True).run()
    exact = float(machine.layer_log_normalizer().detach())
    assert abs(estimate.log_z - exact) < 4 * estimate.std_error
