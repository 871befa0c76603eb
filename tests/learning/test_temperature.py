"""The calibrated temperature of energies whose temperature is known."""

import math

import pytest
import torch
from torch import nn

import pyro_ebm as ebm
from pyro_ebm.learning.exact_likelihood import all_configurations


class Scaled(ebm.Energy):
    """factor |x|^2 / 2."""

    def __init__(self, factor):
        super().__init__((3,))
        self.factor = factor

    def forward(self, x):
        return 0.5 * self.factor * x.square().sum(-1)


@pytest.mark.parametrize("factor", [2.5, 0.4])
def test_temperature_of_a_scaled_gaussian_is_its_factor(factor):
    rows = torch.randn(2000, 3)
    found = ebm.calibrate_temperature(Scaled(factor), rows, num_chains=128, num_draws=60)
    # <E>_T = 3 T / 2, so that of these very rows the temperature is known exactly.
    exact = factor * float(rows.square().sum(1).mean()) / 3.0
    rows_error = factor * math.sqrt(2.0 / (3.0 * len(rows)))
    assert abs(found.temperature - factor) < 4.0 * found.error
    chains_error = math.sqrt(max(found.error**2 - rows_error**2, 0.0))
    assert abs(found.temperature - exact) < 4.0 * chains_error
    assert found.error > 0.8 * rows_error


def test_temperature_of_an_ising_energy_with_doubled_couplings_is_two():
    energy = ebm.Ising.lattice((3, 3), 0.3)
    every = all_configurations(energy)
    share = (-energy(every)).softmax(0)
    rows = every[torch.multinomial(share, 3000, True)]
    doubled = ebm.Ising.lattice((3, 3), 0.6)
    found = ebm.calibrate_temperature(doubled, rows, num_chains=128)
    assert abs(found.temperature - 2.0) < 4.0 * found.error < 0.3


@pytest.mark.slow
def test_langevin_dynamics_with_too_large_steps_learn_another_temperature():
    class Precision(ebm.Energy):
        def __init__(self):
            super().__init__((2,))
            self.level = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return 0.5 * self.level.exp() * x.square().sum(-1)

    rows, step = torch.randn(4000, 2), 1.0
    energy = Precision()
    ebm.fit(
        energy,
        rows,
        ebm.PersistentContrastiveDivergence(
            sampler=ebm.Langevin(adjusted=False, step_size=step, adapt_step_size=False)
        ),
        num_steps=1500,
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-2),
        disable_progbar=True,
    )
    found = ebm.calibrate_temperature(energy, rows)
    # A Gaussian of precision a has variance 1/(a (1 - a step^2/4)) under these dynamics, here 1.
    level = float(energy.level.detach().exp())
    truth = level * float(rows.square().mean())
    assert abs(found.temperature - truth) < 4.0 * found.error
    assert abs(found.temperature - 1.0) > 10.0 * found.error


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected data"):
        ebm.calibrate_temperature(Scaled(1.0), torch.randn(5, 2))
