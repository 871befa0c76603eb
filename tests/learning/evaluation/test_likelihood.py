"""The held-out log likelihood is that of the density, whatever log Z is from."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, constraints

from pyro_ebm import RBM, Energy, Gaussian, Ising, LogZ, MLPEnergy, Potts, as_energy
from pyro_ebm.energies import exact_enumeration
from pyro_ebm.learning import held_out_log_likelihood

DOUBLE = torch.float64


class WithoutNormalizer(Energy):
    """An energy that knows its changes, and not log Z."""

    def __init__(self, energy):
        super().__init__(energy.event_shape, support=energy.support)
        self.energy = energy

    def forward(self, x):
        return self.energy(x)

    def energy_changes(self, x):
        return self.energy.energy_changes(x)


def estimate(log_z=1.25, std_error=0.3, reliable=True):
    return LogZ(log_z, std_error, "AIS", reliable, "because of what was seen")


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_gaussian_has_its_closed_form(temperature):
    factor = torch.tensor([[1.0, 0.0], [0.7, 0.5]], dtype=DOUBLE)
    energy = Gaussian(torch.tensor([1.0, -2.0], dtype=DOUBLE), scale_tril=factor)
    x = torch.randn(300, 2, dtype=DOUBLE)
    exact = torch.distributions.MultivariateNormal(
        energy.loc, scale_tril=math.sqrt(temperature) * factor
    ).log_prob(x)
    found = held_out_log_likelihood(energy, x.numpy(), temperature=temperature)
    torch.testing.assert_close(found.log_likelihood, exact)
    assert found.mean == pytest.approx(float(exact.mean()))
    assert found.rows_error == pytest.approx(float(exact.std()) / math.sqrt(300))
    assert found.std_error == found.rows_error
    assert (found.method, found.reliable, found.estimate) == ("the energy", True, None)


@pytest.mark.parametrize("marginal", [False, True])
def test_an_rbm_has_the_likelihood_of_its_enumeration(marginal):
    rbm = RBM(torch.randn(5, 3, dtype=DOUBLE), 0.3, -0.2)
    energy = rbm.marginal() if marginal else rbm
    x = energy.exact_sample((50,))
    listed = exact_enumeration(energy)
    exact = -energy(x) - listed.log_z
    for rows in (x, x.bool(), x.long().numpy()):
        found = held_out_log_likelihood(energy, rows)
        torch.testing.assert_close(found.log_likelihood, exact)


def test_a_small_discrete_energy_is_summed_over():
    def energy(x):
        return (x * x.roll(1)).sum() - 0.3 * x.sum()

    known = as_energy(energy, event_shape=(4,), support=constraints.integer_interval(0, 2))
    x = torch.randint(3, (20, 4))
    found = held_out_log_likelihood(known, x, temperature=1.5)
    assert found.method == "enumeration"
    assert found.log_z == pytest.approx(float(exact_enumeration(known, 1.5).log_z))
    probabilities = exact_enumeration(known, 1.5).log_probabilities.exp()
    index = (x * torch.tensor([27, 9, 3, 1])).sum(1)
    torch.testing.assert_close(found.log_likelihood.exp(), probabilities[index])


def test_ais_agrees_with_the_closed_form_within_its_error():
    def narrow(x):
        return 0.5 * (x / 0.3).square().sum(-1)

    x = 0.3 * torch.randn(400, 2, dtype=DOUBLE)
    net = nn.Module()
    net.forward = narrow
    generator = torch.Generator().manual_seed(3)
    found = held_out_log_likelihood(net, x, generator=generator)
    exact = Normal(0.0, 0.3).log_prob(x).sum(-1)
    assert found.estimate is not None
    assert found.method == "AIS"
    assert found.reliable == found.estimate.reliable
    assert 0.0 < found.log_z_error < 0.1
    assert abs(found.mean - float(exact.mean())) < 4 * found.log_z_error
    assert found.std_error == pytest.approx(math.hypot(found.rows_error, found.log_z_error))


@pytest.mark.slow
def test_ais_is_taken_for_discrete_energies_and_nets_and_repeats_with_its_generator():
    ising = Ising.lattice((5, 5), coupling=torch.tensor(0.3), field=0.1)
    x = (torch.randint(2, (30, 5, 5)) * 2 - 1).double()
    exact = held_out_log_likelihood(ising, x)
    assert exact.method == "the energy"
    found = held_out_log_likelihood(WithoutNormalizer(ising), x)
    assert found.method == "AIS"
    assert abs(found.mean - exact.mean) < 4 * found.log_z_error
    net = MLPEnergy((2,), (16,))
    rows = torch.randn(50, 2)
    runs = [
        held_out_log_likelihood(net, rows, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    assert runs[0].mean == runs[1].mean


def test_a_given_log_z_is_taken_with_its_error_and_its_verdict():
    x = torch.randn(64, dtype=DOUBLE)
    energy = as_energy(lambda x: 0.5 * x.square())
    number = held_out_log_likelihood(energy, x, log_z=0.5 * math.log(2 * math.pi))
    assert number.mean == pytest.approx(float(Normal(0.0, 1.0).log_prob(x).mean()))
    tensor = held_out_log_likelihood(energy, x, log_z=torch.tensor(1.25))
    found = held_out_log_likelihood(energy, x, log_z=estimate(reliable=False))
    assert found.mean == tensor.mean
    assert found.log_z_error == 0.3
    assert found.std_error == pytest.approx(math.hypot(tensor.std_error, 0.3))
    assert not found.reliable
    assert "not reliable: because of what was seen" in repr(found)


def test_chunks_change_nothing():
    x = torch.randn(57, 3, dtype=DOUBLE)
    energy = Gaussian(torch.zeros(3, dtype=DOUBLE), scale_tril=torch.eye(3, dtype=DOUBLE))
    whole, parts = (held_out_log_likelihood(energy, x, chunk_size=size) for size in (100, 10))
    torch.testing.assert_close(whole.log_likelihood, parts.log_likelihood)


def test_sums_of_single_precision_energies_are_those_of_double():
    x = torch.full((100_000,), 1e-3)
    found = held_out_log_likelihood(as_energy(lambda x: 100.0 + x), x, log_z=0.0)
    assert found.log_likelihood.dtype == DOUBLE
    assert found.mean == pytest.approx(-float(np.float32(100.0) + np.float32(1e-3)), abs=1e-9)


def test_a_row_of_density_zero_makes_the_mean_minus_infinity():
    energy = as_energy(lambda x: torch.where(x < 1.0, 0.0 * x, torch.inf))
    found = held_out_log_likelihood(energy, torch.tensor([0.0, 2.0]), log_z=0.0)
    assert (found.mean, found.std_error) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (torch.zeros(1, 2), {}, "at least 2 rows"),
        (torch.zeros(4, 3), {}, r"event shape \(2,\)"),
        (torch.tensor([[0.0, 1.0], [math.nan, 0.0]]), {}, "1 of 2 rows .* first row 1"),
        (torch.zeros(4, 2), {"temperature": torch.ones(3)}, "one temperature"),
        (torch.zeros(4, 2), {"temperature": 0.0}, "positive, finite temperature"),
        (torch.zeros(4, 2), {"log_z": math.inf}, "finite log_z"),
        (torch.zeros(4, 2), {"log_z": "exact"}, '"auto", a number, or an estimate'),
        (torch.zeros(4, 2), {"log_z": None}, '"auto", a number, or an estimate'),
        (torch.zeros(4, 2), {"chunk_size": 0}, "chunk_size to be at least 1"),
        (torch.zeros(4, 2).numpy().astype(str), {}, "real numbers"),
        (torch.zeros(4, 2, dtype=torch.complex64), {}, "real numbers"),
    ],
)
def test_what_cannot_be_judged_is_refused(rows, options, said):
    energy = Gaussian(torch.zeros(2), scale_tril=torch.eye(2))
    with pytest.raises((ValueError, TypeError), match=said):
        held_out_log_likelihood(energy, rows, **options)


def test_rows_outside_of_the_support_are_refused():
    x = torch.tensor([[0, 1, 2], [0, 1, 3], [2, -1, 0]])
    potts = Potts(torch.zeros(3, 3), 3)
    with pytest.raises(ValueError, match="2 of 3 rows outside of it, first row 1"):
        held_out_log_likelihood(potts, x)
    positive = as_energy(lambda x: x, support=constraints.positive)
    with pytest.raises(ValueError, match="1 of 2 rows outside"):
        held_out_log_likelihood(positive, np.array([1.0, -1.0]))


def test_an_energy_that_is_no_number_is_refused():
    energy = as_energy(lambda x: x.log())
    with pytest.raises(ValueError, match="got nan at 1 of 2"):
        held_out_log_likelihood(energy, torch.tensor([1.0, -1.0]), log_z=0.0)
