"""The calibrated temperature of energies whose temperature is known."""

import math

import pytest
import torch
from torch import nn

import pyro_ebm as ebm
from pyro_ebm.learning.exact_likelihood import all_configurations
from pyro_ebm.learning.temperature import CalibratedTemperature, solve_temperature
from pyro_ebm.learning.trained import Trained

GRID = torch.linspace(-6.0, 6.0, 20001, dtype=torch.float64)[:, None]


def _half_square(z):
    return 0.5 * z.square().sum(-1)


def _double_well(z):
    return (2.0 * (z.square() - 1.0).square() + 0.3 * z).sum(-1)


def _draws(energy, temperature, n):
    share = (-energy(GRID) / temperature).softmax(0)
    return GRID[torch.multinomial(share, n, True)].float()


def _mean_and_variance(energy, temperature):
    """<E>_T and Var_T E by quadrature."""
    energies = energy(GRID)
    share = (-energies / temperature).softmax(0)
    mean = float((share * energies).sum())
    return mean, float((share * (energies - mean).square()).sum())


def _z(found, truth):
    return (found.temperature - truth) / found.error


def _wells(depths, shares, kept):
    """Energies of two wells with Gamma draws inside, whose chains cross at once or never; Begin."""
    depths = torch.tensor(depths, dtype=torch.float64)
    shares = torch.tensor(shares, dtype=torch.float64)

    def inside(beta, *shape):
        return torch.distributions.Gamma(2.0, beta).sample(shape).double()

    def data(n, beta):
        wells = torch.multinomial(shares, n, True)
        return wells, depths[wells] + inside(beta, n)

    def begin_at(wells, energies):
        def begin(beta):
            picked = torch.randint(len(wells), (256,))

            def advance(transitions):
                if kept:
                    stays = wells[picked].expand(transitions, -1)
                else:
                    share = (-beta * depths).softmax(0)
                    stays = torch.multinomial(share, transitions * 256, True)
                    stays = stays.reshape(transitions, 256)
                return depths[stays] + inside(beta, transitions, 256)

            return energies[picked], advance

        return begin

    return data, begin_at


class Scaled(ebm.Energy):
    """factor |x|^2 / 2."""

    def __init__(self, factor):
        super().__init__((3,))
        self.factor = factor

    def forward(self, x):
        return 0.5 * self.factor * x.square().sum(-1)


@pytest.mark.parametrize("factor", [pytest.param(2.5, marks=pytest.mark.slow), 0.4])
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


@pytest.mark.parametrize("kept", [False, True], ids=["crossed", "never crossed"])
def test_the_error_is_calibrated(kept):
    # Depths 0 and 1 at T = 1/2: the shares that chains which never cross have from the data.
    depths, beta = (0.0, 1.0), 2.0
    shares = torch.tensor([-beta * depth for depth in depths]).softmax(0).tolist()
    data, begin_at = _wells(depths, shares, kept)
    scores = []
    for seed in range(40):
        torch.manual_seed(seed)
        wells, energies = data(500, beta)
        found = solve_temperature(begin_at(wells, energies), energies, num_draws=40)
        assert found.reliable
        scores.append(_z(found, 1.0 / beta))
    rms = math.sqrt(sum(score**2 for score in scores) / len(scores))
    assert rms < 1.5
    assert abs(sum(scores)) / math.sqrt(len(scores)) < 4.0


def test_wells_that_are_not_crossed_and_not_shared_as_in_the_data_are_told():
    torch.manual_seed(0)
    # Energies of another spread than any temperature gives them inside of these wells.
    _, begin_at = _wells((0.0, 6.0), (0.5, 0.5), True)
    wells = torch.arange(500) % 2
    energies = 3.0 + 0.1 * torch.randn(500, dtype=torch.float64)
    found = solve_temperature(begin_at(wells, energies), energies, num_draws=40)
    assert not found.reliable
    assert "another spread" in found.why


@pytest.mark.parametrize(
    ("temperature", "dim"),
    [
        (0.1, 1),
        pytest.param(1.0, 1, marks=pytest.mark.slow),
        pytest.param(5.0, 1, marks=pytest.mark.slow),
        pytest.param(0.1, 10, marks=pytest.mark.slow),
        pytest.param(1.0, 10, marks=pytest.mark.slow),
        pytest.param(5.0, 10, marks=pytest.mark.slow),
    ],
)
def test_temperature_of_gaussian_rows_is_their_variance(temperature, dim):
    torch.manual_seed(1)
    rows = math.sqrt(temperature) * torch.randn(1000, dim)
    found = ebm.calibrate_temperature(_half_square, rows, num_draws=40)
    assert found.reliable
    assert abs(_z(found, temperature)) < 4.0


@pytest.mark.parametrize(
    ("temperature", "seed"),
    [
        (0.05, 0),
        *(
            pytest.param(temperature, seed, marks=pytest.mark.slow)
            for temperature in (0.05, 0.3, 1.0, 3.0)
            for seed in (1, 2, 3)
        ),
    ],
)
def test_temperature_of_a_double_well_does_not_hang_on_crossings(temperature, seed):
    torch.manual_seed(seed)
    rows = _draws(_double_well, temperature, 2000)
    found = ebm.calibrate_temperature(_double_well, rows, num_draws=40)
    assert found.reliable
    assert abs(_z(found, temperature)) < 4.0
    # The rows alone leave this: the Fisher information of beta is the variance of E.
    _, variance = _mean_and_variance(_double_well, temperature)
    assert found.error > 0.7 * temperature**2 / math.sqrt(variance * len(rows))


@pytest.mark.slow
def test_the_error_of_a_double_well_is_calibrated():
    scores = []
    for seed in range(20):
        torch.manual_seed(seed)
        rows = _draws(_double_well, 0.3, 1000)
        scores.append(_z(ebm.calibrate_temperature(_double_well, rows, num_draws=40), 0.3))
    assert math.sqrt(sum(score**2 for score in scores) / len(scores)) < 1.5


@pytest.mark.parametrize("temperature", [1.0, 2.5, 10.0])
def test_temperature_of_an_ising_lattice_is_that_of_its_enumeration(temperature):
    torch.manual_seed(0)
    energy = ebm.Ising.lattice((3, 3))
    every = all_configurations(energy)
    share = (-energy(every) / temperature).softmax(0)
    rows = every[torch.multinomial(share, 2000, True)]
    found = ebm.calibrate_temperature(energy, rows, num_draws=40)
    assert abs(_z(found, temperature)) < 4.0


@pytest.mark.parametrize(
    ("energy", "draw"),
    [
        pytest.param(_double_well, lambda: 0.3 * torch.randn(1000, 1), id="on the barrier"),
        pytest.param(
            _double_well,
            lambda: -1.0 + 0.25 * torch.randn(1000, 1),
            id="in one well",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            _half_square,
            lambda: 1.5 * torch.randn(1000, 1).sign() + 0.2 * torch.randn(1000, 1),
            id="two lumps",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_mean_energy_of_other_rows_is_met_by_quadrature(energy, draw):
    torch.manual_seed(0)
    rows = draw()
    found = ebm.calibrate_temperature(energy, rows, num_draws=40)
    assert found.reliable
    of_rows = energy(rows).double()
    mean, variance = _mean_and_variance(energy, found.temperature)
    error = found.error * variance / found.temperature**2
    rows_error = float(of_rows.std()) / math.sqrt(len(rows))
    chains_error = math.sqrt(max(error**2 - rows_error**2, 0.0))
    # The slope that makes an error in T one in E is the chains', right to a share 1/sqrt(256).
    assert abs(mean - float(of_rows.mean())) < 4.0 * (chains_error + error / 16.0)


_CHESS = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])


@pytest.mark.parametrize(
    ("energy", "rows", "match"),
    [
        pytest.param(
            ebm.Ising.lattice((3, 3)), _CHESS.repeat(50, 1, 1), "infinite temp", id="inverted"
        ),
        pytest.param(
            ebm.Ising.lattice((3, 3)),
            all_configurations(ebm.Ising.lattice((3, 3))),
            "infinite temp",
            id="uniform",
        ),
        pytest.param(
            ebm.Ising.lattice((3, 3)), torch.ones(200, 3, 3), "minimum", id="ground state"
        ),
        pytest.param(
            _half_square, torch.zeros(50, 2), "minimum", id="at the minimum", marks=pytest.mark.slow
        ),
        pytest.param(lambda z: 0.0 * z.sum(-1), torch.ones(50, 2), "constant", id="constant"),
    ],
)
def test_rows_that_no_positive_temperature_fits_are_refused(energy, rows, match):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=match):
        ebm.calibrate_temperature(energy, rows, num_chains=64, num_draws=20)


def test_a_temperature_is_told_to_the_digits_of_its_error():
    assert repr(CalibratedTemperature(0.3, 0.004)) == "T = 0.3000 ± 0.0040 (reliable)"
    told = repr(CalibratedTemperature(126.4, math.inf, False, "none"))
    assert told == "T = 126.400 ± inf (not reliable)"


def test_a_learned_energy_keeps_its_calibrated_temperature():
    torch.manual_seed(0)
    trained = Trained(Scaled(2.0), {}, None, None, False, "", (), None, None)
    assert (trained.temperature, trained.temperature_error) == (1.0, 0.0)
    rows = torch.randn(1000, 3)
    found = trained.calibrated(rows, num_chains=64, num_draws=20)
    assert abs(found.temperature - 2.0) < 4.0 * found.temperature_error
    assert found.energy is trained.energy
    assert found.advice == ()


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected data"):
        ebm.calibrate_temperature(Scaled(1.0), torch.randn(5, 2))
