"""The lowest energies of discrete models, against enumeration and known ground states."""

import itertools

import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm

# The ground state of the spin glass below has this energy, in two mirrored states: all 2^20
# configurations were enumerated.
GLASS_ENERGY = -16.485943228033292


def glass() -> ebm.Ising:
    """Sherrington, Kirkpatrick (1975), of 20 spins."""
    numpy = pytest.importorskip("numpy")
    upper = numpy.triu(numpy.random.default_rng(20).standard_normal((20, 20)), 1) / 20**0.5
    upper = torch.as_tensor(upper)
    return ebm.Ising(upper + upper.T)


def minima_of(energy: ebm.Energy, states: list[float]) -> dict[tuple[float, ...], float]:
    """Every configuration that no single change lowers, with its energy, by enumeration."""
    size = energy.event_shape.numel()
    table = {x: float(energy(torch.tensor(x))) for x in itertools.product(states, repeat=size)}

    def lowers(x: tuple[float, ...]) -> bool:
        changed = (
            (*x[:i], state, *x[i + 1 :]) for i in range(size) for state in states if state != x[i]
        )
        return any(table[y] < table[x] - 1e-9 for y in changed)

    return {x: value for x, value in table.items() if not lowers(x)}


def test_ground_states_of_a_spin_glass_are_found_in_every_run():
    torch.set_default_dtype(torch.float64)
    for seed in range(10):
        torch.manual_seed(seed)
        # 64 starts, 200 sweeps and 20 spins are 256,000 updates of a spin.
        found = ebm.minimize(glass())
        assert isinstance(found.positions, torch.Tensor)
        assert found.energies[:2].tolist() == pytest.approx([GLASS_ENERGY] * 2)
        assert torch.equal(found.positions[0], -found.positions[1])
        assert bool(found.converged.all())
        assert int(found.counts.sum()) == 64


def test_every_minimum_that_is_found_is_one_and_the_counts_are_those_of_the_starts():
    torch.manual_seed(3)
    couplings = torch.randn(7, 7)
    energy = ebm.Ising(couplings.triu(1) + couplings.triu(1).T, fields=0.1 * torch.randn(7))
    known = minima_of(energy, [-1.0, 1.0])
    found = ebm.minimize(energy, starts=200, strategy=ebm.SimulatedAnnealing(num_sweeps=1))
    assert isinstance(found.positions, torch.Tensor)
    states = [tuple(x) for x in found.positions.tolist()]
    assert set(states) <= set(known)
    assert len(set(states)) == len(states)
    assert found.energies.tolist() == pytest.approx([known[x] for x in states])
    assert found.energies.tolist() == sorted(found.energies.tolist())
    assert int(found.counts.sum()) == 200
    assert float(found.energies[0]) == pytest.approx(min(known.values()))


def test_cooling_slowly_finds_lower_states_than_going_straight_down():
    energy = ebm.Ising.lattice((8, 8))
    torch.manual_seed(1)
    straight = ebm.minimize(energy, starts=64, strategy=ebm.SimulatedAnnealing(num_sweeps=1))
    slow = ebm.minimize(energy, starts=64, strategy=ebm.SimulatedAnnealing(num_sweeps=100))
    best = [int(f.counts[f.energies == -128.0].sum()) for f in (straight, slow)]
    assert best[1] > 2 * best[0]


def test_states_beyond_two_and_functions_of_a_user_are_minimised():
    torch.manual_seed(2)
    potts = ebm.minimize(ebm.Potts.lattice((4, 4), 3))
    assert isinstance(potts.positions, torch.Tensor)
    assert potts.energies[:3].tolist() == [-32.0] * 3
    assert sorted(potts.positions[:3, 0, 0].tolist()) == [0, 1, 2]

    def subset(x):
        """Numbers that shall sum to 10."""
        return (x @ torch.tensor([7.0, 4.0, 3.0, 5.0, 1.0, 9.0]) - 10.0).square()

    energy = ebm.as_energy(subset, event_shape=(6,), support=constraints.boolean)
    found = ebm.minimize(energy)
    assert isinstance(found.positions, torch.Tensor)
    assert float(found.energies[0]) == 0.0
    assert bool((subset(found.positions[0]) == 0.0).all())


def test_many_sites_without_known_changes_are_annealed_by_their_gradient():
    torch.manual_seed(4)
    wanted = torch.randint(2, (600,)).float()
    energy = ebm.as_energy(
        lambda x: (x - wanted).square().sum(), event_shape=(600,), support=constraints.boolean
    )
    found = ebm.minimize(energy, starts=4, strategy=ebm.SimulatedAnnealing(num_sweeps=2))
    assert isinstance(found.positions, torch.Tensor)
    assert found.energies.tolist() == [0.0]
    assert found.counts.tolist() == [4]
    assert torch.equal(found.positions[0], wanted)


def test_what_is_observed_is_held_while_the_rest_is_minimised():
    energy = ebm.Ising.lattice((6,), coupling=1.0)
    found = ebm.minimize(energy, observed={0: -1.0, 3: 1.0})
    assert isinstance(found.positions, torch.Tensor)
    assert bool((found.positions[:, 0] == -1).all())
    assert bool((found.positions[:, 3] == 1).all())
    # Of six bonds two must be broken.
    assert float(found.energies[0]) == -2.0


def test_starts_of_a_discrete_energy_are_states_and_seeds_repeat():
    energy = ebm.Ising.lattice((4,), coupling=0.0, field=torch.tensor(0.5))
    found = ebm.minimize(energy, starts=-torch.ones(3, 4))
    assert found.counts.tolist() == [3]
    assert float(found.energies[0]) == -2.0
    with pytest.raises(ValueError, match="expected x"):
        ebm.minimize(energy, starts=torch.zeros(3, 4))
    runs = []
    for _ in range(2):
        torch.manual_seed(8)
        runs.append(ebm.minimize(glass(), strategy=ebm.SimulatedAnnealing(2)))
    assert torch.equal(runs[0].counts, runs[1].counts)
    assert torch.equal(runs[0].energies, runs[1].energies)


def test_strategies_of_the_other_kind_and_bad_numbers_are_refused():
    with pytest.raises(TypeError, match="SimulatedAnnealing"):
        ebm.minimize(glass(), strategy=ebm.BasinHopping())
    with pytest.raises(TypeError, match="BasinHopping"):
        ebm.minimize(ebm.DoubleWell(2), strategy=ebm.SimulatedAnnealing())
    with pytest.raises(ValueError, match="at least 1"):
        ebm.minimize(glass(), strategy=ebm.SimulatedAnnealing(0))
    with pytest.raises(ValueError, match="positive"):
        ebm.minimize(ebm.DoubleWell(2), strategy=ebm.BasinHopping(temperature=-1.0))
