"""Spin glasses, machines, memories and graphs against exact figures, and what they refuse."""

import math
from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import constraints

from pyro_ebm import MCMC, NUTS
from pyro_ebm.energies import (
    RBM,
    XY,
    BoltzmannMachine,
    Bonds,
    ExponentialRandomGraph,
    GaussianRBM,
    Hopfield,
    Ising,
    LennardJones,
    MuellerBrown,
    Potts,
    as_energy,
    blocks_of,
    changes_by_enumeration,
    exact_enumeration,
    spin,
)
from tests.models.graphs import SEVEN, marriages

tensor = partial(torch.tensor, dtype=torch.float64)
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def test_without_couplings_every_state_counts_once():
    for n in (1, 5, 40):
        close(Ising(torch.zeros(n, n).double()).log_normalizer(0.3), tensor(n * math.log(2)))
        close(Potts(torch.zeros(n, n).double(), 5).log_normalizer(2.0), tensor(n * math.log(5)))
        close(
            BoltzmannMachine(torch.zeros(n, n).double()).log_normalizer(), tensor(n * math.log(2))
        )
    fields = torch.randn(30, dtype=torch.float64)
    spins = Ising(torch.zeros(30, 30).double(), fields)
    close(spins.log_normalizer(0.5), (2 * (fields / 0.5).cosh()).log().sum())


def test_a_frustrated_triangle_has_six_ground_states():
    triangle = Ising.lattice((3,), coupling=tensor(-1.0))
    for temperature in (0.05, 0.02):
        close(triangle.log_normalizer(temperature), tensor(1 / temperature + math.log(6)))
    cold = exact_enumeration(triangle, 0.02)
    close(cold.entropy, tensor(math.log(6)))
    close(cold.mean_energy, tensor(-1.0))


def test_a_boltzmann_machine_is_an_ising_model_in_other_units():
    couplings = torch.randn(6, 6, dtype=torch.float64).triu(1)
    couplings, fields = couplings + couplings.mT, torch.randn(6, dtype=torch.float64)
    ising = Ising(couplings, fields)
    machine = BoltzmannMachine(4 * couplings, 2 * (fields - couplings.sum(-1)))
    x = torch.randint(2, (9, 6)).double()
    gap = ising(2 * x - 1) - machine(x)
    close(gap, gap[:1].expand(9))
    close(exact_enumeration(ising).mean, 2 * exact_enumeration(machine).mean - 1)


# log Z and two means of the machine with J_ij = 0.5 sin(1 + ij + 0.3 i + 0.3 j) and
# h_i = 0.3 cos(1.5 i), twelve spins, and its entropy; by enumeration.
def test_twelve_coupled_spins_have_their_figures():
    i = torch.arange(12).double()
    couplings = 0.5 * (1 + i[:, None] * i + 0.3 * (i[:, None] + i)).sin()
    couplings.fill_diagonal_(0.0)
    exact = exact_enumeration(Ising(couplings, 0.3 * (1.5 * i).cos()))
    close(exact.log_z, tensor(12.045687325825865))
    close(exact.entropy, tensor(5.440456582580197))
    close(exact.mean[:2], tensor([0.23921817458387004, 0.2388194030816551]))
    close(exact.covariance[0, 1] + exact.mean[0] * exact.mean[1], tensor(0.16687720750328983))


def known_rbm(scale: float) -> RBM:
    i, j = torch.arange(20).double()[:, None], torch.arange(10).double()
    weights = scale * (1 + 3 * i + 7 * j + 0.1 * i * j).sin()
    return RBM(weights, 0.3 * i.squeeze(-1).cos(), 0.2 * (2 * j).sin())


# RBMs of 20 x 10 units given by formula; by the sum over the hidden layer.
@pytest.mark.parametrize(
    ("scale", "log_z", "visible", "hidden"),
    [
        (0.5, 22.15470662129104, 0.6759151486341644, 0.6120054171741384),
        (1.5, 31.38647383361391, 0.9413219087365691, 0.9087408951394673),
    ],
)
def test_rbms_have_their_figures(scale, log_z, visible, hidden):
    rbm = known_rbm(scale)
    close(rbm.log_normalizer(), tensor(log_z))
    close(rbm.marginal().log_normalizer(), tensor(log_z))
    exact = exact_enumeration(
        rbm.marginal(), observable=lambda v: rbm.hidden_probabilities(v)[:, :1]
    )
    close(exact.log_z, tensor(log_z))
    close(exact.mean[0], tensor(visible))
    close(exact.observable, tensor([hidden]))
    draws = rbm.exact_sample((20_000,), generator=torch.Generator().manual_seed(3))
    error = math.sqrt(0.25 / 20_000)
    means = rbm.split(draws.mean(0))
    assert abs(float(means.visible[0]) - visible) < 4 * error
    assert abs(float(means.hidden[0]) - hidden) < 4 * error


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_marginal_of_an_rbm_sums_out_its_hidden_units(temperature):
    rbm = RBM(torch.randn(4, 3).double(), torch.randn(4).double(), torch.randn(3).double())
    joint = exact_enumeration(rbm, temperature)
    marginal = exact_enumeration(rbm.marginal(temperature), temperature)
    close(joint.log_z, marginal.log_z)
    close(
        joint.log_probabilities.reshape(16, 8).logsumexp(-1),
        marginal.log_probabilities,
    )
    v = torch.randint(2, (4,)).double()
    given_v = joint.log_probabilities.reshape(2, 2, 2, 2, 8)[tuple(v.long())].softmax(-1)
    states = exact_enumeration(BoltzmannMachine(torch.zeros(3, 3)))
    assert len(states.energies) == 8
    hidden = torch.cartesian_prod(*[tensor([0.0, 1.0])] * 3)
    close(rbm.hidden_probabilities(v, temperature), given_v @ hidden)
    h = rbm.split(torch.cat([v, hidden[5]])).hidden
    assert torch.equal(h, hidden[5])
    for large in (RBM(torch.randn(3, 9).double()), RBM(torch.randn(9, 3).double(), 0.1, 0.2)):
        close(large.layer_log_normalizer(temperature), exact_enumeration(large, temperature).log_z)


def test_the_hidden_units_of_a_gaussian_rbm_are_summed_out():
    rbm = GaussianRBM(torch.randn(3, 4).double(), 0.2, torch.randn(4).double(), scale=0.7)
    v = torch.randn(5, 3).double()
    hidden = torch.cartesian_prod(*[tensor([0.0, 1.0])] * 4)
    joint = rbm.joint_energy(v[:, None], hidden)
    close(rbm(v), -(-joint).logsumexp(-1))
    close(rbm.hidden_probabilities(v), (-joint).softmax(-1) @ hidden)
    # Given h the visible units are Gaussian around their means: the energy is least there.
    means = rbm.visible_means(hidden[6]).requires_grad_()
    (slope,) = torch.autograd.grad(rbm.joint_energy(means, hidden[6]), means)
    close(slope, torch.zeros(3).double())
    assert rbm.log_normalizer(2.0) is None
    assert rbm.exact_sample((3,), temperature=2.0) is None


def test_patterns_are_minima_of_a_hopfield_network():
    patterns = torch.randint(2, (3, 60), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    memory = Hopfield(patterns)
    changes = memory.energy_changes(patterns)
    assert (changes >= 0).all()
    torch.testing.assert_close(memory.overlaps(patterns).diagonal(), torch.ones(3))
    noisy = patterns.clone()
    noisy[:, :6] *= -1
    settled = (memory.local_fields(noisy)).sign()
    assert (memory.overlaps(settled).diagonal() > 0.98).all()


def test_graphs_count_edges_stars_and_triangles():
    graph = ExponentialRandomGraph(
        7, edges=1.0, two_stars=0.0, triangles=0.0, statistics=[(lambda a: a.sum((1, 2)), 0.0)]
    )
    x = graph.configuration(torch.tensor(SEVEN))
    assert graph.statistics(x).tolist() == [9.0, 16.0, 2.0, 18.0]
    assert torch.equal(graph.adjacency(x).long(), torch.tensor(SEVEN))
    assert float(graph(x)) == -9.0


def test_florentine_marriages_are_counted():
    adjacency = marriages()
    theta = tensor(-1.6094379124341003).requires_grad_()
    model = ExponentialRandomGraph(16, edges=theta, two_stars=0.0, triangles=0.0)
    assert model.statistics(model.configuration(adjacency)).tolist() == [20.0, 47.0, 3.0]
    # At the best coefficient the model's mean is what was seen.
    ExponentialRandomGraph(16, edges=theta).log_normalizer().backward()
    close(theta.grad, tensor(20.0))


@pytest.mark.slow
def test_all_graphs_of_seven_nodes_are_summed():
    for (edges, two_stars, triangles), log_z in {
        (-1.0, 0.1, 0.0): 7.5644928014053185,
        (-1.0, 0.0, 0.5): 7.162734722912395,
        (-2.0, 0.3, 0.2): 3.7662505647373568,
    }.items():
        graph = ExponentialRandomGraph(
            7, edges=tensor(edges), two_stars=two_stars, triangles=triangles
        )
        close(exact_enumeration(graph).log_z, tensor(log_z))


# The lowest energies known of clusters: Wales and Doye (1997), Cambridge Cluster Database.
def test_regular_clusters_have_their_energies():
    rest = 2 ** (1 / 6)
    pair = tensor([[0.0, 0.0, 0.0], [rest, 0.0, 0.0]])
    close(LennardJones(2)(pair), tensor(-1.0))
    tetrahedron = (
        rest
        / math.sqrt(8)
        * tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    )
    close(LennardJones(4)(tetrahedron), tensor(-6.0))
    # All four atoms lie at one distance from the origin.
    distance = float(tetrahedron[0].norm())
    held = LennardJones(4, radius=tensor(distance + 0.1))
    close(held(tetrahedron), tensor(-6.0))
    walled = LennardJones(4, radius=tensor(distance - 0.1), stiffness=tensor(30.0))
    close(walled(tetrahedron), tensor(-6.0 + 4 * 0.5 * 30.0 * 0.1**2))
    assert LennardJones(2)(torch.zeros(2, 3)) == math.inf


@pytest.mark.slow
def test_sampling_a_cluster_without_a_trap_tells_that_it_falls_apart():
    kernel = NUTS(LennardJones(3), max_tree_depth=5, jit_compile=False)
    run = MCMC(kernel, num_samples=60, warmup_steps=60, num_chains=4)
    run.run()
    assert "run away" in run.diagnose()


def test_blocks_of_a_bipartite_graph_are_two_whatever_its_order():
    # A crown: greedy colouring in the order of the sites would take five.
    crown = torch.tensor([(2 * i, 2 * j + 1) for i in range(5) for j in range(5) if i != j])
    assert sorted(map(len, blocks_of(crown, 10))) == [5, 5]
    assert [block.tolist() for block in blocks_of(torch.zeros(0, 2).long(), 3)] == [[0, 1, 2]]
    large = Ising.lattice((100, 100))
    assert [len(block) for block in blocks_of(large.interactions, 10_000)] == [5000, 5000]


def test_trained_couplings_stay_symmetric():
    start = torch.randn(4, 4).triu(1)
    machine = BoltzmannMachine(nn.Parameter(start + start.mT), nn.Parameter(torch.zeros(4)))
    x = torch.randint(2, (8, 4)).float()
    optimiser = torch.optim.SGD(machine.parameters(), lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        (machine(x).mean() + machine.log_normalizer()).backward()
        optimiser.step()
    torch.testing.assert_close(machine.energy_changes(x), changes_by_enumeration(machine, x))
    # The likelihood's gradient is what the data's moments lack.
    optimiser.zero_grad()
    (machine(x).mean() + machine.log_normalizer()).backward()
    model = exact_enumeration(machine).mean
    torch.testing.assert_close(machine.biases.grad, (model - x.double().mean(0)).float())


def graph(**settings):
    return ExponentialRandomGraph(4, **settings)


def nodes(adjacency):
    return adjacency.sum(-1)[:, :3]


DYADS = torch.ones(4, 6)


@pytest.fixture
def unchecked(monkeypatch):
    """As users call: what the annotations say is checked in tests alone."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
def test_a_lattice_takes_whole_numbers_of_numpy():
    assert Ising.lattice((np.int64(4), 4)).event_shape == (4, 4)
    assert Ising.lattice(tuple(np.array([4, 3]))).log_normalizer() is not None


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ising([[0.0, 1.0], [1.0, 0.0]]), "couplings to be a number or a"),
        (lambda: Ising.lattice(4), "shape to be a sequence of the lengths"),
        (lambda: Ising.lattice((4, 2.5)), "shape to be a sequence of the lengths"),
        (lambda: MuellerBrown(lower=[0.0, 0.0]), "lower to be a tensor"),
        (lambda: MuellerBrown(upper=1.0), "upper to be a tensor"),
    ],
)
def test_arguments_of_another_type_are_named(make, said):
    with pytest.raises(TypeError, match=said):
        make()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Ising(torch.ones(2, 3)), ValueError, "expected couplings to be a square matrix"),
        (lambda: Ising(torch.ones(3, 3)), ValueError, "zeros on the diagonal"),
        (lambda: Ising(torch.ones(3, 3).triu(1)), ValueError, "to be symmetric, .* couplings.mT"),
        (lambda: BoltzmannMachine(torch.ones(3, 3).triu(1)), ValueError, "weights to be symmetric"),
        (lambda: Ising(torch.full((2, 2), math.nan)), ValueError, "couplings to be finite"),
        (lambda: BoltzmannMachine(torch.full((2, 2), math.nan)), ValueError, "weights to be fin"),
        (lambda: graph(statistics=[(nodes, 1.0)])(DYADS), ValueError, "statistic nodes .* got"),
        (lambda: graph(statistics=[(len, 1.0)])(DYADS), TypeError, "statistic len .* int"),
        (lambda: Ising(torch.zeros(3, 3), torch.zeros(2)), ValueError, "fields to broadcast"),
        (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(2)), ValueError, "biases to"),
        (lambda: Ising.lattice(()), ValueError, "lengths of a lattice"),
        (lambda: Ising.lattice((3, 0)), ValueError, "lengths of a lattice"),
        (lambda: Ising.lattice((3, 3), coupling=torch.ones(3)), ValueError, "one for each axis"),
        (lambda: Ising.lattice((3,), coupling=math.inf), ValueError, "to be finite"),
        (lambda: Potts.lattice((3,), 1), ValueError, "num_states to be at least 2, got 1"),
        (lambda: Potts.lattice((3,), 2.5), TypeError, "num_states to be an integer"),
        (lambda: Potts.lattice((3,), 3, fields=torch.ones(2)), ValueError, "fields to broadcast"),
        (lambda: Hopfield(torch.tensor([[0.0, 1.0]])), ValueError, "2 \\* patterns - 1"),
        (lambda: Hopfield(torch.ones(3)), ValueError, "patterns of shape"),
        (lambda: RBM(torch.ones(3)), ValueError, "weights of shape"),
        (lambda: RBM(torch.ones(3, 2), torch.ones(2)), ValueError, "visible_bias to be a number"),
        (lambda: RBM(torch.ones(3, 2), 0.0, torch.ones(3)), ValueError, "hidden_bias to be a"),
        (lambda: RBM(torch.ones(30, 30)).layer_log_normalizer(), ValueError, "at most 24 units"),
        (lambda: GaussianRBM(torch.ones(3, 2), scale=0.0), ValueError, "scale to be positive"),
        (lambda: XY(torch.ones(2, 2)), ValueError, "zeros on the diagonal"),
        (lambda: graph(), ValueError, "at least one statistic"),
        (lambda: graph(edges=torch.ones(2)), ValueError, "edges to be one number"),
        (lambda: graph(statistics=[torch.det]), TypeError, "pair \\(function, coefficient\\)"),
        (lambda: ExponentialRandomGraph(1, edges=0.0), ValueError, "num_nodes to be at least 2"),
        (lambda: LennardJones(1), ValueError, "num_atoms to be at least 2"),
        (lambda: LennardJones(3, radius=-1.0), ValueError, "radius to be positive"),
        (lambda: exact_enumeration(LennardJones(3)), ValueError, "finitely many states"),
        (lambda: exact_enumeration(Ising.lattice((5, 5))), ValueError, "at most 2\\^22"),
        (lambda: blocks_of(torch.tensor([[0, 5]]), 3), ValueError, "sites from 0 to 2"),
        (lambda: blocks_of(torch.tensor([0, 5]), 3), ValueError, "of shape \\[m, 2\\]"),
    ],
)
def test_bad_input_is_named(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_a_function_on_spins_is_an_energy_like_any_other():
    energy = as_energy(lambda s: -s.prod(), event_shape=(3,), support=spin)
    exact = exact_enumeration(energy, 0.5)
    close(exact.log_z.double(), tensor(math.log(8 * math.cosh(2.0))), rtol=1e-6, atol=1e-6)
    counts = as_energy(lambda k: k, support=constraints.integer_interval(2, 4))
    close(exact_enumeration(counts).energies, tensor([2.0, 3.0, 4.0]))


def test_one_hot_rows_are_listed_as_the_states_that_they_stand_for():
    # Four sites in a chain, with q states each: Potts spins in other clothes.
    fields = torch.randn(4, 3, dtype=torch.float64)
    chain = Potts.lattice((4,), 3, coupling=tensor(0.7), fields=fields, periodic=False)

    def energy(x):
        return -0.7 * (x[1:] * x[:-1]).sum() - (fields * x).sum()

    rows = as_energy(energy, event_shape=(4, 3), support=constraints.one_hot)
    wanted, found = (
        exact_enumeration(chain, tensor([0.5, 2.0])),
        exact_enumeration(rows, tensor([0.5, 2.0])),
    )
    for name in ("log_z", "mean_energy", "energy_variance", "entropy", "marginals", "energies"):
        close(getattr(found, name), getattr(wanted, name), rtol=1e-6, atol=1e-6)
    close(found.mean, found.marginals)
    assert found.covariance.shape == (2, 12, 12)


def test_bonds_name_their_parts():
    assert Bonds._fields == ("pairs", "strengths", "fields")


@pytest.mark.parametrize(
    ("adjacency", "said"),
    [
        (torch.ones(7, 7).triu(1), "symmetric"),
        (torch.ones(7, 7), "zero diagonal"),
        (2.0 * (torch.ones(7, 7) - torch.eye(7)), "zeros and ones"),
        (torch.zeros(6, 6), r"\[\*batch, 7, 7\]"),
    ],
)
def test_what_is_no_adjacency_matrix_is_refused(adjacency, said):
    with pytest.raises(ValueError, match=said):
        ExponentialRandomGraph(7, edges=0.0).configuration(adjacency)
