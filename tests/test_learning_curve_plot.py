"""The picture of a run of learning shows what the run has recorded, and nothing else."""

import pytest
import torch
from torch import nn

import pyro_ebm as ebm


def titles(figure):
    return {panel.get_title() for panel in figure.axes if panel.get_visible()}


def test_panels_are_those_of_the_objective():
    data = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    wide = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 2.0), 1)
    torch.manual_seed(0)
    energy = ebm.Tilted(nn.Linear(2, 1), wide)
    noise = ebm.fit(energy, data, ebm.NoiseContrastive(noise=wide), num_steps=20)
    assert titles(ebm.plot_learning(noise)) == {
        "nats a row, held out",
        "loss",
        "energy over that of the data",
        "norm of the gradient",
    }
    chains = ebm.fit(energy, data, ebm.PersistentContrastiveDivergence(num_chains=8), num_steps=20)
    assert "acceptance of the chains" in titles(ebm.plot_learning(chains))


def test_a_run_without_looks_has_no_picture():
    data = torch.randn(50, 2)
    wide = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 2.0), 1)
    trained = ebm.fit(ebm.Tilted(nn.Linear(2, 1), wide), data, ebm.ScoreMatching(), num_steps=2)
    empty = trained._replace(history={name: v[:0] for name, v in trained.history.items()})
    with pytest.raises(ValueError, match="at least one look"):
        ebm.plot_learning(empty)
