"""Laws that every discrete energy in the catalogue obeys."""

import copy
import pickle

import pytest
import torch
from pyro.distributions import enable_validation

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import blocks_of, changes_by_enumeration, states_of

from .discrete import CASES, Case, over


@over(CASES)
def test_a_batch_is_its_rows(case: Case):
    energy, x = case.energy, case.points(6)
    energies = energy(x)
    assert energies.shape == (6,)
    torch.testing.assert_close(torch.stack([energy(row) for row in x]), energies)
    torch.testing.assert_close(
        energy(x.reshape(2, 1, 3, *energy.event_shape)), energies.reshape(2, 1, 3)
    )
    torch.testing.assert_close(torch.func.vmap(energy)(x), energies)
    assert energy(x[:0]).shape == (0,)


@over(CASES)
def test_whole_numbers_are_the_same_configurations(case: Case):
    energy, x = case.energy, case.points(5)
    if case.name in ("parity", "ising-and-parity"):  # a function of the user's own
        return
    torch.testing.assert_close(energy(x.long()), energy(x))
    changes = energy.energy_changes(x)
    if changes is not None:
        torch.testing.assert_close(energy.energy_changes(x.long()), changes)


@over(CASES)
def test_changes_are_differences_of_energies(case: Case):
    energy, x = case.energy, case.points(5)
    states = states_of(energy.support).double()
    listed = changes_by_enumeration(energy, x, chunk_size=16)
    assert listed.shape == (*x.shape, len(states))
    place = torch.unravel_index(torch.tensor(energy.event_shape.numel() - 1), energy.event_shape)
    for k, state in enumerate(states):
        moved = x.clone()
        moved[:, *place] = state
        torch.testing.assert_close(listed[:, *place, k], energy(moved) - energy(x))
    known = energy.energy_changes(x)
    if known is not None:
        torch.testing.assert_close(known, listed)
    stay = (x.unsqueeze(-1) == states).nonzero(as_tuple=True)
    torch.testing.assert_close(listed[stay], torch.zeros(x.numel()).double())


@over(CASES)
def test_the_closed_form_of_changes_is_known(case: Case):
    known = case.energy.energy_changes(case.points(2))
    assert (known is None) == ("parity" in case.name)


@over(CASES)
def test_sites_that_are_no_pair_do_not_interact(case: Case):
    energy, x = case.energy, case.points(4)
    sites, states = energy.event_shape.numel(), states_of(energy.support).double()
    pairs = energy.interactions
    if pairs is None:
        assert case.blocks is None
        return
    assert pairs.shape == (len(pairs), 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    bound = torch.zeros(sites, sites, dtype=torch.bool)
    bound[pairs[:, 0], pairs[:, 1]] = True
    mixed = torch.zeros(sites, sites, dtype=torch.float64)
    changes = changes_by_enumeration(energy, x).flatten(1, -2)
    for site in range(sites):
        for state in states:
            moved = x.clone()
            moved.view(4, sites)[:, site] = state
            after = changes_by_enumeration(energy, moved).flatten(1, -2)
            # Between two changes of other sites the difference is that of their common terms.
            common = (after - after[..., :1]) - (changes - changes[..., :1])
            mixed[site] = torch.maximum(mixed[site], common.abs().amax((0, 2)))
    mixed.fill_diagonal_(0.0)
    assert mixed[~(bound | bound.mT)].max() < 1e-12 * max(1.0, float(energy(x).abs().max()))


@over([case for case in CASES if case.energy.interactions is not None])
def test_blocks_do_not_interact_inside(case: Case):
    energy = case.energy
    sites, pairs = energy.event_shape.numel(), energy.interactions
    blocks = blocks_of(pairs, sites)
    assert sorted(torch.cat(blocks).tolist()) == list(range(sites))
    colour = torch.empty(sites, dtype=torch.long)
    for number, block in enumerate(blocks):
        colour[block] = number
    assert (colour[pairs[:, 0]] != colour[pairs[:, 1]]).all()
    if case.blocks is not None:
        assert len(blocks) == case.blocks


@over([case for case in CASES if hasattr(case.energy, "bonds")])
def test_bonds_are_the_whole_energy(case: Case):
    energy, x = case.energy, case.points(5)
    pairs, strengths, fields = energy.bonds
    first, second = (x.flatten(1)[:, sites] for sites in pairs.unbind(-1))
    if "potts" in case.name:
        together = (first == second).double()
        alone = torch.arange(fields.shape[0]), x.flatten(1).long()
        site_terms = fields[alone].sum(-1)
    else:
        together, site_terms = first * second, x.flatten(1) @ fields
    torch.testing.assert_close(-(together @ strengths) - site_terms, energy(x))
    assert torch.equal(pairs, energy.interactions)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)


@over(CASES)
def test_copies_are_equal(case: Case):
    energy, x = case.energy, case.points(3)
    for twin in (copy.deepcopy(energy), pickle.loads(pickle.dumps(energy))):
        assert torch.equal(twin(x), energy(x))
        assert twin.support.check(x).all()
    twin = case.energy
    twin.load_state_dict(energy.state_dict())
    assert torch.equal(twin(x), energy(x))


@over(CASES)
def test_distributions_over_them_check_their_states(case: Case):
    energy, x = case.energy, case.points(4)
    enable_validation(True)
    cold = EnergyDistribution(energy, temperature=0.5)
    assert cold.support.is_discrete
    torch.testing.assert_close(cold.unnormalized_log_prob(x), -2.0 * energy(x))
    assert cold.log_prob(x).shape == (4,)
    wrong = x.clone()
    wrong.view(4, -1)[0, 0] = 0.5
    with pytest.raises(ValueError, match="within the support"):
        cold.log_prob(wrong)
