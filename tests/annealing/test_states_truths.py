"""log Z of discrete energies at default settings, against closed forms and enumeration."""

import math

import pyro
import pytest
import torch

import pyro_ebm as ebm
from tests.models.lattices import KNOWN

METHODS = [ebm.AIS, ebm.SMC, ebm.ParallelTempering]
# What one run of takes seconds.
LONG = ("torus_16_critical", "digits", "torus_8_0.6", "potts_1.2", "potts_0.5", "rotors")
SHORT = [name for name in KNOWN if name not in LONG]


@pytest.mark.parametrize("name", SHORT)
def test_log_z_is_right_at_default_settings(name: str):
    known = KNOWN[name]
    found = ebm.AIS(known.make(), disable_progbar=True).run()
    assert abs(found.log_z - known.log_z) < 4.5 * found.std_error
    assert found.std_error <= known.most_error
    assert found.reliable, found.why


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", KNOWN)
def test_log_z_is_right_and_reliable_for_eight_seeds(name: str, method):
    known, reliable = KNOWN[name], 0
    for seed in range(8):
        pyro.set_rng_seed(seed)
        found = method(known.make(), disable_progbar=True).run()
        assert abs(found.log_z - known.log_z) < 4.0 * found.std_error
        assert found.std_error <= known.most_error
        reliable += found.reliable
    # Cold ladders seldom turn all spins of a ferromagnet, and say so now and then.
    assert reliable >= (6 if method is ebm.ParallelTempering else 7)


def test_sites_without_couplings_weigh_n_log_two():
    found = ebm.AIS(ebm.Ising.lattice((5, 5), coupling=0.0), disable_progbar=True).run()
    assert found.log_z == pytest.approx(25 * math.log(2.0), rel=1e-6)
    assert found.std_error < 1e-6


def test_a_frustrated_triangle_has_six_ground_states():
    # At T = 0.1 the two other configurations, 4 higher, have exp(-40) of the weight of one.
    triangle = ebm.Ising.lattice((3,), coupling=-1.0)
    cold = ebm.EnergyDistribution(triangle, temperature=0.1)
    found = ebm.AIS(cold, disable_progbar=True).run()
    truth = 10.0 + math.log(6.0)
    assert abs(found.log_z - truth) < 4.5 * found.std_error
    assert found.std_error < 0.05
    assert found.reliable, found.why


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_temperature_is_a_scale_of_the_energy(dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    energy = ebm.Ising.lattice((4, 4), coupling=0.5, field=0.25)
    found = []
    for model in (ebm.EnergyDistribution(energy, temperature=2.0), 0.5 * energy, energy / 2.0):
        pyro.set_rng_seed(3)
        found.append(ebm.AIS(model, num_particles=128, disable_progbar=True).run())
    assert found[0].log_z == pytest.approx(found[1].log_z, rel=1e-6)
    assert found[0].log_z == pytest.approx(found[2].log_z, rel=1e-6)
    assert found[0].positions is not None
    assert found[0].positions.dtype == dtype


def test_moves_without_a_compiler_come_to_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pyro_ebm.annealing.path.tempered_gibbs", lambda *_: None)
    small = ebm.Ising.lattice((3, 4), coupling=0.5)
    truth = float(small.log_normalizer())
    found = ebm.AIS(small, num_particles=256, disable_progbar=True).run()
    assert abs(found.log_z - truth) < 4.5 * found.std_error
