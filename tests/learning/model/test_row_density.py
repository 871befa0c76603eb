"""The density of rows that was learned says where its temperature is not to be relied on."""

import math

import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.energies import as_energy
from pyro_ebm.learning.model.mixture_base import MixtureBase
from pyro_ebm.learning.model.row_density import RowDensity

STATES = (2, 2, 2, 2)


def _density(energy, rows):
    base = MixtureBase.__new__(MixtureBase)
    return RowDensity(as_energy(energy, event_shape=(4,)), 1.0, STATES, base, rows, False)


def test_rows_without_a_positive_temperature_are_told():
    torch.manual_seed(0)
    density = _density(lambda rows: rows.sum(-1), torch.ones(100, 4))
    with pytest.warns(ebm.UncertainSampleWarning, match="no positive temperature"):
        found = density.calibrated(torch.Generator().manual_seed(0))
    assert found.temperature == 1.0
    assert found.error == math.inf
    assert not found.reliable


def test_temperature_of_independent_states_is_that_of_their_odds():
    stream = torch.Generator().manual_seed(0)
    # Odds exp(-1/T) of each state at T = 2.
    share = 1.0 / (1.0 + math.exp(0.5))
    rows = (torch.rand(1000, 4, generator=stream) < share).float()
    found = _density(lambda rows: rows.sum(-1), rows).calibrated(stream)
    assert found.reliable
    assert abs(found.temperature - 2.0) < 4.0 * found.error
