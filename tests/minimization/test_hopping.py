"""Basin hopping on rugged energies: Lennard-Jones clusters, and a landscape of many minima."""

import pytest
import torch

import pyro_ebm as ebm

# Hoare, Pal (1971); Northby (1987); the Cambridge Cluster Database. In units of the pair's depth.
LOWEST = {2: -1.0, 3: -3.0, 4: -6.0, 7: -16.505384, 13: -44.326801}


@pytest.mark.parametrize("num_atoms", [2, 3, 4, 7])
def test_small_clusters_have_one_lowest_minimum_whatever_way_they_are_turned(num_atoms):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(num_atoms)
    found = ebm.minimize(ebm.LennardJones(num_atoms), starts=32, strategy=ebm.BasinHopping(5))
    assert float(found.energies[0]) == pytest.approx(LOWEST[num_atoms], abs=1e-6)
    assert bool(found.converged[0])
    # Turned, mirrored and renumbered clusters are one minimum.
    assert int((found.energies < LOWEST[num_atoms] + 1e-6).sum()) == 1
    assert int(found.counts[0]) > 16


@pytest.mark.slow
def test_thirteen_atoms_make_an_icosahedron_in_ten_of_ten_runs():
    torch.set_default_dtype(torch.float64)
    for seed in range(10):
        torch.manual_seed(seed)
        found = ebm.minimize(ebm.LennardJones(13), starts=50, strategy=ebm.BasinHopping(2))
        assert float(found.energies[0]) == pytest.approx(LOWEST[13], abs=1e-5)


def rastrigin(x):
    """One minimum in every unit cell, the lowest at the origin."""
    return (x.square() - 10.0 * torch.cos(2 * torch.pi * x) + 10.0).sum()


def test_hops_lead_to_the_lowest_of_many_minima():
    torch.manual_seed(1)
    energy = ebm.as_energy(rastrigin, event_shape=(4,))
    alone = ebm.minimize(energy, starts=32)
    hopped = ebm.minimize(energy, starts=32, strategy=ebm.BasinHopping(100, step_size=0.5))
    assert float(hopped.energies[0]) == pytest.approx(0.0, abs=1e-4)
    assert int(hopped.counts[0]) > 16
    assert int(alone.counts[0]) < 4 or float(alone.energies[0]) > 1e-4


def test_one_start_hops_too_and_never_ends_higher_than_it_began():
    torch.manual_seed(2)
    energy = ebm.as_energy(rastrigin, event_shape=(4,))
    start = torch.full((1, 4), 3.2)
    alone = ebm.minimize(energy, starts=start)
    hopped = ebm.minimize(energy, starts=start, strategy=ebm.BasinHopping(20))
    assert hopped.counts.tolist() == [1]
    assert float(hopped.energies[0]) <= float(alone.energies[0]) + 1e-4


def test_hops_to_where_there_is_no_energy_are_refused():
    torch.manual_seed(3)
    # Half of all hops from the minimum land below zero, where the logarithm is NaN.
    energy = ebm.as_energy(lambda x: (0.01 * x - x.log()).sum(), event_shape=(2,))
    start = torch.full((4, 2), 100.0)
    start[0] += torch.tensor([-90.0, 200.0])
    found = ebm.minimize(energy, starts=start, strategy=ebm.BasinHopping(20, step_size=5.0))
    torch.testing.assert_close(found.positions, torch.full((1, 2), 100.0), rtol=1e-3, atol=0.0)


def test_small_searches_run_on_one_thread():
    seen = set()

    def bowl(x):
        seen.add(torch.get_num_threads())
        return x.square().sum()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ebm.minimize(ebm.as_energy(bowl, event_shape=(2,)), starts=torch.ones(2, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert 1 in seen


@pytest.mark.parametrize(
    ("strategy", "error", "said"),
    [
        (ebm.BasinHopping(5, "a"), TypeError, "step_size to be a number"),  # pyright: ignore[reportArgumentType]
        (ebm.BasinHopping(5, temperature="a"), TypeError, "temperature to be"),  # pyright: ignore[reportArgumentType]
        (ebm.BasinHopping(5, temperature=0.0), ValueError, "temperature to be positive"),
        (ebm.BasinHopping(5, step_size=None), TypeError, "step_size to be a"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_numbers_of_a_strategy_are_named_where_they_are_none(strategy, error, said):
    with pytest.raises(error, match=said):
        ebm.minimize(ebm.LennardJones(3), strategy=strategy)
