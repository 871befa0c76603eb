"""Clusters, and sweeps in C: exact draws in, one transition, exact draws out; and refusals."""

import pytest
import torch

from pyro_ebm.energies import RBM, BoltzmannMachine, Ising, Potts
from pyro_ebm.mcmc.couplings import binary_pairs, ferromagnet
from pyro_ebm.mcmc.discrete import discrete_settings
from pyro_ebm.mcmc.kernel import Kernel, Noise, Transition
from pyro_ebm.mcmc.native_gibbs import native_gibbs
from pyro_ebm.mcmc.swendsen_wang import swendsen_wang
from pyro_ebm.target import Target

from .spins import Table, glass, table_of
from .test_discrete_invariance import p_value

CHAINS = 20_000
FALSE_ALARM = 1e-3
UP = torch.tensor([[0.0, 0.0, 0.7], [0.0, 0.0, 0.1], [0.2, 0.2, 0.2], [0.0, 0.0, 0.0]])

# Bonds, fields of either sign, fields at some sites alone.
FERROMAGNETS = {
    "ring": Ising.lattice((6,), coupling=0.8),
    "square up": Ising.lattice((2, 3), coupling=0.5, field=0.3),
    "square down": Ising.lattice((2, 3), coupling=0.5, field=-0.4),
    "some fields": Ising.lattice((5,), coupling=0.5, field=torch.tensor([0.0, 0.9, 0.0, 0.2, 0.0])),
    "potts": Potts.lattice((2, 2), 3, coupling=0.7),
    "potts in a field": Potts.lattice((4,), 3, coupling=0.7, fields=UP),
}
PAIRS = {
    "spins": Ising(0.5 * glass(5).coupling, glass(5).field),
    "frustrated": Ising.lattice((3, 2), coupling=-0.4, field=0.3),
    "boltzmann": BoltzmannMachine(
        torch.tensor([[0.0, 1.0, -2.0], [1.0, 0.0, 0.5], [-2.0, 0.5, 0.0]]),
        torch.tensor([0.3, -0.7, 1.1]),
    ),
    "rbm": RBM(torch.linspace(-1.5, 1.5, 6).reshape(3, 2), torch.tensor([0.1, 0.0, -0.5]), -0.2),
    "potts of two": Potts.lattice((5,), 2, coupling=0.6, fields=torch.tensor([0.0, 0.4])),
}


def one_transition(table: Table, kernel: Kernel, *, seed: int = 1) -> Transition:
    start = table.draws(CHAINS)
    density = table.target.log_density_and_changes
    settings = discrete_settings(1.0, start)
    state = kernel.init(start, *density(start), settings)
    noise = Noise(torch.tensor(seed), torch.rand(kernel.uniforms, CHAINS))
    _, transition = kernel.step(density, state, noise, settings)
    assert not torch.equal(start, transition.position)
    return transition


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", FERROMAGNETS)
def test_clusters_leave_a_ferromagnet_invariant(name: str, temperature: float):
    target = Target.from_energy(FERROMAGNETS[name], temperature=temperature)
    table = table_of(target)
    transition = one_transition(table, swendsen_wang(ferromagnet(target)))
    number = 2 * len(FERROMAGNETS)
    assert p_value(table, transition.position) > FALSE_ALARM / number


def test_bonds_of_a_wrong_strength_are_caught():
    target = Target.from_energy(FERROMAGNETS["ring"])
    right = ferromagnet(target)
    table = table_of(target)
    # The coupling in place of twice the coupling.
    wrong = right._replace(strengths=right.strengths / 2)
    assert p_value(table, one_transition(table, swendsen_wang(wrong)).position) < FALSE_ALARM


def test_a_forgotten_field_is_caught():
    target = Target.from_energy(FERROMAGNETS["square up"])
    right, table = ferromagnet(target), table_of(target)
    wrong = right._replace(fields=torch.zeros_like(right.fields))
    assert p_value(table, one_transition(table, swendsen_wang(wrong)).position) < FALSE_ALARM


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        (Ising.lattice((4,), coupling=-1.0), "frustrated"),
        (Ising.lattice((4,), field=torch.tensor([0.1, -0.1, 0.0, 0.0])), "lifts one state"),
        (Potts.lattice((4,), 3, fields=torch.tensor([0.0, 0.1, 0.2])), "lifts one state"),
        (PAIRS["boltzmann"], "Write it as an Ising model"),
        (Ising.lattice((4,)) + Ising.lattice((4,)), "Use Gibbs"),
    ],
)
def test_what_has_no_clusters_is_refused(energy, said):
    with pytest.raises(ValueError, match=said):
        ferromagnet(Target.from_energy(energy))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("sweeps", [1, 3])
def test_sweeps_in_c_leave_pairs_invariant(name: str, temperature: float, sweeps: int):
    target = Target.from_energy(PAIRS[name], temperature=temperature)
    table, pairs = table_of(target), binary_pairs(target)
    assert pairs is not None
    transition = one_transition(table, native_gibbs(pairs, sweeps=sweeps))
    assert p_value(table, transition.position) > FALSE_ALARM / (4 * len(PAIRS))
    right, _ = target.log_density_and_changes(transition.position)
    torch.testing.assert_close(transition.log_density, right, atol=1e-5, rtol=1e-5)


def test_sweeps_in_c_with_a_wrong_sign_are_caught():
    target = Target.from_energy(PAIRS["rbm"])
    table, pairs = table_of(target), binary_pairs(target)
    assert pairs is not None
    wrong = native_gibbs(pairs._replace(weights=-pairs.weights))
    assert p_value(table, one_transition(table, wrong).position) < FALSE_ALARM


def test_a_chain_in_c_does_not_depend_on_how_many_there_are():
    target = Target.from_energy(Ising.lattice((4, 4), coupling=0.3))
    pairs = binary_pairs(target)
    assert pairs is not None
    kernel, found = native_gibbs(pairs), []
    for chains in (3, 32, 70):
        start = torch.zeros(16, chains)
        density = target.log_density_and_changes
        state = kernel.init(start, *density(start), discrete_settings(1.0, start))
        for seed in range(3):
            noise = Noise(torch.tensor(seed), torch.zeros(0, chains))
            state, _ = kernel.step(density, state, noise, discrete_settings(1.0, start))
        found.append(state.position)
    assert torch.equal(found[0], found[1][:, :3])
    assert torch.equal(found[1], found[2][:, :32])
    assert len(found[2].T.unique(dim=0)) > 60


def test_infinitely_sure_sites_stay_finite_in_c():
    target = Target.from_energy(Ising.lattice((3,), coupling=0.0, field=1e4))
    pairs = binary_pairs(target)
    assert pairs is not None
    start = torch.zeros(3, 5)
    settings = discrete_settings(1.0, start)
    kernel = native_gibbs(pairs)
    state = kernel.init(start, *target.log_density_and_changes(start), settings)
    noise = Noise(torch.tensor(1), torch.zeros(0, 5))
    _, transition = kernel.step(target.log_density_and_changes, state, noise, settings)
    assert bool((transition.position == 1).all())
