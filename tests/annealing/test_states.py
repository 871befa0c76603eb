"""Annealing over states: log Z as enumeration gives it, by every method, and bases that fit."""

import math

import pytest
import torch

import pyro_ebm as ebm
from tests.mcmc.spins import Cubic, Levels, Rows, glass, table_of


def log_z_of(target: ebm.Target) -> float:
    """By enumeration."""
    table = table_of(target)
    return float(target.evaluate(table.positions).log_density.double().logsumexp(0))


MODELS = {
    "glass": lambda: ebm.Target.from_energy(glass(8, scale=0.8)),
    "potts": lambda: ebm.Target.from_energy(ebm.Potts.lattice((3, 2), 3, coupling=0.8)),
    "rows to first order": lambda: ebm.Target.from_energy(Rows(4, 3), exact_changes=False),
    "dense": lambda: ebm.Target.from_energy(Cubic(torch.linspace(-1.0, 1.5, 18))),
}


@pytest.mark.parametrize(
    "method",
    [
        lambda model: ebm.AIS(model, num_particles=256, disable_progbar=True),
        lambda model: ebm.SMC(model, num_particles=256, disable_progbar=True),
        lambda model: ebm.ParallelTempering(
            model, num_ladders=16, num_sweeps=64, num_rounds=3, disable_progbar=True
        ),
        lambda model: ebm.ThermodynamicIntegration(model, num_particles=256, disable_progbar=True),
    ],
    ids=["AIS", "SMC", "tempering", "integration"],
)
@pytest.mark.parametrize("name", ["glass", "rows to first order"])
def test_log_z_is_that_of_enumeration(method, name: str):
    target = MODELS[name]()
    found = method(target).run()
    assert abs(found.log_z - log_z_of(target)) < 4.5 * found.std_error
    assert found.std_error < 0.2


@pytest.mark.parametrize("name", ["potts", "dense"])
def test_annealing_takes_sweeps_or_paths(name: str):
    target = MODELS[name]()
    found = ebm.AIS(target, num_particles=256, disable_progbar=True).run()
    assert abs(found.log_z - log_z_of(target)) < 4.5 * found.std_error


def test_the_square_lattice_has_its_known_log_z():
    # Kaufman's formula for the 4 x 4 torus at beta = 0.4: 14.561093023844043.
    cold = ebm.EnergyDistribution(ebm.Ising.lattice((4, 4)), temperature=2.5)
    found = ebm.AIS(cold, num_particles=256, disable_progbar=True).run()
    assert abs(found.log_z - 14.561093023844043) < 4.5 * found.std_error
    data = found.to_arviz()
    assert data.posterior["x"].shape[2:] == (4, 4)
    assert found.details["base"] == "independent sites, all states alike"


def test_a_given_base_is_drawn_from_and_weighs_as_it_says():
    target = ebm.Target.from_energy(Levels(3))
    log_probabilities = torch.randn(3, 3).log_softmax(1)
    base = ebm.independent_sites(target, log_probabilities)
    table = table_of(target)
    value, changes = base.log_density_and_gradient(table.positions.T)
    assert float(value.double().logsumexp(0)) == pytest.approx(0.0, abs=1e-5)
    for k in range(3):
        moved = table.positions.T.clone()
        moved[1] = k
        after, _ = base.log_density_and_gradient(moved)
        torch.testing.assert_close(changes[1, k], after - value, atol=1e-5, rtol=1e-5)
    drawn = base.sample(40_000, torch.Generator().manual_seed(1))
    expected = 40_000 * value.double().exp()
    statistic = float(((table.counts(drawn) - expected).square() / expected).sum())
    assert statistic < 26 + 5 * math.sqrt(52)
    found = ebm.AIS(target, base=base, num_particles=256, disable_progbar=True).run()
    assert abs(found.log_z - log_z_of(target)) < 4.5 * found.std_error


def test_bases_that_do_not_fit_are_refused():
    target = ebm.Target.from_energy(Levels(3))
    with pytest.raises(ValueError, match="sum to one"):
        ebm.independent_sites(target, torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        ebm.independent_sites(target, torch.zeros(2, 1))
    with pytest.raises(TypeError, match="discrete target"):
        ebm.independent_sites(ebm.Target.from_energy(ebm.DoubleWell(2)))
    with pytest.raises(TypeError, match="independent_sites"):
        ebm.AIS(target, base=torch.distributions.Normal(0.0, 1.0)).run()
