"""Traps over states: regions of mass that particles miss, and what the verdict says of them."""

import math
from typing import Any

import pyro
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm


def threshold(units: int, hidden: int, *, weight: float, least: float, bias: float) -> ebm.RBM:
    """Hidden units that light up, and make a deep state, where ``least`` units are on."""
    weights = torch.full((units, hidden), weight)
    return ebm.RBM(
        weights, torch.full((units,), bias), torch.full((hidden,), -weight * (least - 0.5))
    )


# Its deep state, all units on, is where the biases draw cold chains; at temperature 1 they draw
# too little, and all particles stay where entropy has them: forwards and backwards agree.
DEEP = threshold(40, 4, weight=3.0, least=38.5, bias=0.6)


def slanted(energy: ebm.Energy) -> Any:
    """A base nearly all of whose sites are in their first state."""
    target = ebm.Target.from_energy(energy)
    return ebm.independent_sites(target, torch.tensor([[0.9, 0.1]]).log().expand(target.dim, 2))


@pytest.mark.parametrize("method", [ebm.AIS, ebm.SMC])
def test_a_deep_state_that_particles_miss_is_met_by_annealed_chains(method):
    truth = float(DEEP.log_normalizer())
    found = method(DEEP, num_particles=256, disable_progbar=True).run()
    assert found.log_z < truth - 4.0
    assert found.std_error < 0.1
    assert not found.reliable
    assert "dispersed starts" in found.why


def test_without_the_chains_that_deep_state_would_be_missed_unnoticed(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("pyro_ebm.annealing.backwards.log_mass_around", lambda *_: -1e9)
    found = ebm.SMC(DEEP, num_particles=256, disable_progbar=True).run()
    assert found.reliable


@pytest.mark.parametrize("method", [ebm.AIS, ebm.SMC])
def test_a_cold_ferromagnet_from_a_base_of_the_wrong_sign_is_not_reliable(method):
    # The field on the path changes its sign where the ferromagnet holds all particles already.
    energy = ebm.Ising.lattice((6, 6), coupling=0.8, field=0.05)
    truth = float(energy.log_normalizer())
    found = method(energy, base=slanted(energy), num_particles=256, disable_progbar=True).run()
    assert found.log_z < truth - 2.0
    assert not found.reliable
    assert "dispersed starts" in found.why


@pytest.mark.parametrize("seed", range(3))
def test_a_cold_ferromagnet_in_a_weak_field_is_right_from_even_states(seed: int):
    pyro.set_rng_seed(seed)
    energy = ebm.Ising.lattice((6, 6), coupling=0.8, field=0.05)
    truth = float(energy.log_normalizer())
    found = ebm.AIS(energy, disable_progbar=True).run()
    assert abs(found.log_z - truth) < 4.5 * found.std_error
    assert found.std_error < 0.05
    assert found.reliable, found.why


def test_a_hole_to_which_nothing_leads_stays_unnoticed_and_the_verdict_says_so():
    # One state of 2^30 carries nearly all of the mass, and its neighbours nothing of it.
    depth = 30 * math.log(2.0) + 5.0
    hole = ebm.as_energy(
        lambda x: torch.where(x.sum(-1) == 30, -depth, 0.0),
        event_shape=(30,),
        support=constraints.boolean,
    )
    found = ebm.SMC(hole, num_particles=128, disable_progbar=True).run()
    assert found.log_z < depth - 4.0
    assert "neither the base nor any chain has met cannot be noticed" in found.why
