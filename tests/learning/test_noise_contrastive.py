"""Noise-contrastive estimation: the log Z that is learned, from noise of any kind."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

import pyro_ebm as ebm

from .families import gaussian


class Lowered(ebm.Energy):
    """An energy less a constant, which is its log Z more."""

    def __init__(self, energy, constant):
        super().__init__(energy.event_shape)
        self.energy, self.constant = energy, constant

    def forward(self, x):
        return self.energy(x) - self.constant


def test_weight_decay_does_not_pull_at_log_z():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    case = gaussian(2000, torch.Generator().manual_seed(3))
    noise = Independent(Normal(torch.zeros(3), 1.5), 1)
    found = ebm.fit(
        Lowered(case.energy, 20.0),
        case.data,
        ebm.NoiseContrastive(noise),
        num_steps=300,
        optimizer=lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        scheduler=lambda adam: torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.01, 300),
        look_every=100,
        disable_progbar=True,
    )
    with torch.no_grad():
        truth = 20.0 + float(case.energy.log_normalizer())
    assert abs(found.log_z - truth) < 0.1


def test_a_flow_is_noise_and_the_log_z_learned_over_it_is_that_of_quadrature():
    """Two bumps on the plane, which a flow of two transforms joins by a bridge."""
    zuko = pytest.importorskip("zuko")
    torch.manual_seed(1)
    bumps = 0.4 * torch.randn(2000, 2)
    bumps[:, 0] += 3.0 * (torch.arange(2000) % 2) - 1.5
    data, unseen = bumps[:1000], bumps[1000:]
    flow = ebm.fit_flow(
        data,
        zuko.flows.RealNVP(2, transforms=2, hidden_features=(16,)),
        epochs=10,
        batch_size=64,
        optimizer=partial(torch.optim.Adam, lr=0.02),
        disable_progbar=True,
    ).distribution
    net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
    energy = ebm.Tilted(net, flow)
    learned = ebm.fit(
        energy,
        data,
        ebm.NoiseContrastive(noise=flow, ratio=4),
        num_steps=300,
        batch_size=250,
        optimizer=partial(torch.optim.Adam, lr=0.01),
        scheduler=lambda adam: torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.01, 300),
        look_every=100,
        disable_progbar=True,
    )
    axis = torch.linspace(-8.0, 8.0, 401)
    with torch.no_grad():
        at = energy(torch.cartesian_prod(axis, axis)).double()
        by_quadrature = float((-at).logsumexp(0)) + 2 * math.log(16.0 / 400)
        # Of the flow itself all is there: the grid is wide and fine enough.
        flat = flow.log_prob(torch.cartesian_prod(axis, axis)).double()
        whole = float(flat.logsumexp(0)) + 2 * math.log(16.0 / 400)
        gain = -net(unseen).squeeze(-1).double() - by_quadrature
    assert abs(whole) < 1e-3
    assert abs(learned.log_z - by_quadrature) < 0.1
    assert float(gain.mean()) > 4 * float(gain.std()) / math.sqrt(len(gain))
