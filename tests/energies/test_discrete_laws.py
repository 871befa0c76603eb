"""Laws that every discrete energy in the catalogue obeys."""

import copy
import math
import pickle
from itertools import product
from statistics import NormalDist

import pytest
import torch
from pyro.distributions import enable_validation
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import (
    Energy,
    Ising,
    as_energy,
    blocks_of,
    changes_by_enumeration,
    exact_enumeration,
    spin,
    states_of,
)
from pyro_ebm.energies.enumeration import configurations
from pyro_ebm.target import Target

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
    assert (known is None) == ("parity" in case.name or case.name == "graph-own")


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


@over([case for case in CASES if getattr(case.energy, "bonds", None) is not None])
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
    assert torch.equal((3.0 * energy).bonds.strengths, 3.0 * strengths)
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


def listed(energy: Energy) -> Tensor:
    """All configurations, one after the other, in the plainest way."""
    states = states_of(energy.support).double().tolist()
    rows = list(product(states, repeat=energy.event_shape.numel()))
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, *energy.event_shape)


LEVELS = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)


@over(CASES)
def test_enumeration_is_the_plain_sum(case: Case):
    energy = case.energy
    x = listed(energy)
    assert torch.equal(configurations(energy, torch.arange(len(x))), x)
    exact = exact_enumeration(energy, LEVELS, observable=lambda x: x.flatten(1)[:, :2] ** 3)
    log_weights = -energy(x) / LEVELS.unsqueeze(-1)
    torch.testing.assert_close(exact.log_z, log_weights.logsumexp(-1))
    shares = log_weights.softmax(-1)
    torch.testing.assert_close(exact.log_probabilities.exp(), shares)
    flat = x.flatten(1)
    torch.testing.assert_close(exact.mean, (shares @ flat).reshape(3, *energy.event_shape))
    torch.testing.assert_close(exact.observable, shares @ flat[:, :2] ** 3)
    number = exact_enumeration(energy, LEVELS, observable=lambda x: x.flatten(1)[:, 0] ** 3)
    torch.testing.assert_close(number.observable, exact.observable[..., 0])
    spread = flat - (shares @ flat).unsqueeze(1)
    torch.testing.assert_close(
        exact.covariance, torch.einsum("tm,tmi,tmj->tij", shares, spread, spread)
    )
    states = states_of(energy.support).double()
    torch.testing.assert_close(exact.marginals.sum(-1), torch.ones_like(exact.mean))
    torch.testing.assert_close((exact.marginals * states).sum(-1), exact.mean)
    torch.testing.assert_close(exact.mean_energy, shares @ energy(x))
    # Chunks are no different.
    pieces = exact_enumeration(energy, LEVELS, chunk_size=7)
    for name in ("log_z", "energy_variance", "entropy", "covariance", "energies"):
        torch.testing.assert_close(getattr(pieces, name), getattr(exact, name))


def test_configurations_that_are_ruled_out_have_no_share():
    def three_up(x):
        return torch.where(x.sum() == 3, x[0], torch.inf)

    exact = exact_enumeration(as_energy(three_up, event_shape=(5,), support=constraints.boolean))
    # Of ten such configurations six have the first site up.
    up = 6 * math.exp(-1.0)
    assert float(exact.log_z) == pytest.approx(math.log(4 + up))
    assert float(exact.mean_energy) == pytest.approx(up / (4 + up))
    assert float(exact.energy_variance) == pytest.approx(up * 4 / (4 + up) ** 2)
    assert float(exact.mean.sum()) == pytest.approx(3.0)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_energies_that_are_no_numbers_are_told_with_their_configuration(value):
    energy = as_energy(
        lambda x: torch.where(x.sum() == 3, value, x[0]), event_shape=(3,), support=spin
    )
    with pytest.raises(ValueError, match=r"got (nan|-inf) at \[1.0, 1.0, 1.0\]"):
        exact_enumeration(energy)


def test_a_state_of_infinite_probability_is_refused():
    energy = as_energy(
        lambda x: torch.where(x[0] > 0, -torch.inf, 0.0), event_shape=(3,), support=spin
    )
    with pytest.raises(ValueError, match="got -inf at"):
        Target.from_energy(energy).initial_positions(64)


@over(CASES)
def test_entropy_and_heat_capacity_are_derivatives_of_the_free_energy(case: Case):
    energy = case.energy
    level, step = 1.3, 1e-3
    exact = exact_enumeration(energy, torch.tensor([level - step, level, level + step]).double())
    free_energy = -exact.temperature * exact.log_z
    entropy = -(free_energy[2] - free_energy[0]) / (2 * step)
    torch.testing.assert_close(exact.entropy[1], entropy, rtol=1e-4, atol=1e-5)
    capacity = (exact.mean_energy[2] - exact.mean_energy[0]) / (2 * step)
    torch.testing.assert_close(exact.energy_variance[1] / level**2, capacity, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exact.entropy, (exact.mean_energy - free_energy) / exact.temperature)


@over([case for case in CASES if case.energy.log_normalizer() is not None])
def test_the_normalizer_is_that_of_the_list(case: Case):
    energy = case.energy
    exact = exact_enumeration(energy, LEVELS)
    if "marginal" in case.name:
        level = energy.temperature
        torch.testing.assert_close(
            energy.log_normalizer(level), exact_enumeration(energy, level).log_z
        )
        assert energy.log_normalizer(2.0) is None
        return
    torch.testing.assert_close(energy.log_normalizer(LEVELS), exact.log_z)
    torch.testing.assert_close(energy.log_normalizer(0.3), exact.log_z[0])
    level = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(energy.log_normalizer(level), level)
    torch.testing.assert_close(slope * 0.7**2, exact_enumeration(energy, 0.7).mean_energy)
    assert energy.float().log_normalizer().dtype == torch.float32
    assert EnergyDistribution(energy, temperature=0.5).normalized


@over([case for case in CASES if case.energy.exact_sample((1,)) is not None])
def test_exact_draws_have_the_exact_probabilities(case: Case):
    energy = case.energy
    levels = torch.tensor([0.5, 2.0], dtype=torch.float64)
    n = 20_000
    draws = energy.exact_sample((n, 2), temperature=levels)
    if draws is None:
        assert "marginal" in case.name
        return
    assert draws.shape == (n, 2, *energy.event_shape)
    assert energy.support.check(draws).all()
    states = states_of(energy.support).double()
    found = (draws.unsqueeze(-1) == states).double().mean(0)
    exact = exact_enumeration(energy, levels)
    error = (exact.marginals * (1 - exact.marginals) / n).sqrt() + 1e-9
    bound = NormalDist().inv_cdf(1 - 0.001 / (2 * found.numel()))
    assert ((found - exact.marginals).abs() < bound * error + 10 / n).all()
    energy_error = (exact.energy_variance / n).sqrt()
    assert ((energy(draws).mean(0) - exact.mean_energy).abs() < 4 * energy_error).all()
    state = torch.get_rng_state()
    again = [energy.exact_sample((3,), generator=torch.Generator().manual_seed(7)) for _ in "ab"]
    assert again[0] is None or torch.equal(*again)
    assert torch.equal(state, torch.get_rng_state())
    assert energy.exact_sample((0,), temperature=0.5).shape == (0, *energy.event_shape)


def test_small_distributions_are_drawn_exactly():
    ring = EnergyDistribution(Ising.lattice((4,)), temperature=torch.tensor([0.5, 2.0]))
    assert ring.normalized
    draws = ring.sample((1000,))  # without the warning of approximate draws
    assert draws.shape == (1000, 2, 4)
    agreement = (draws * draws.roll(1, -1)).mean((0, 2))
    exact = exact_enumeration(ring.energy, ring.temperature)
    error = (exact.energy_variance / 16 / 1000).sqrt()
    assert ((agreement + exact.mean_energy / 4).abs() < 4 * error).all()
