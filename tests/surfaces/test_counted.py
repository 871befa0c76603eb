"""log Z from estimated numbers of configurations: against lists, across jumps, and as a verdict."""

import pyro
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm

from .test_surfaces import SEVEN_NODES, graph, ring, torus

SITES = 40


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(5)
    yield
    torch.set_default_dtype(before)


def potts(x, coupling, first):
    return -coupling * (x == x.roll(1, -1)).sum(-1) - first * (x == 0).sum(-1)


def jumping(x, field, coupling):
    """Of SITES bits, sparse or dense: the mean field of three that agree."""
    total = x.sum()
    return -field * total - coupling * total**3 / SITES**2


def log_z_of_jumping(field, coupling):
    number = torch.arange(SITES + 1.0)
    whole = torch.tensor(SITES + 1.0)
    ways = torch.lgamma(whole) - torch.lgamma(number + 1) - torch.lgamma(whole - number)
    energy = -field[:, None] * number - coupling[:, None] * number**3 / SITES**2
    return (ways - energy).logsumexp(1)


@pytest.mark.parametrize(
    ("energy", "low", "high", "kind"),
    [
        (torus, [0.0, -0.1], [0.6, 0.2], {"event_shape": (4, 4), "support": ebm.spin}),
        (
            potts,
            [-1.0, 0.0],
            [1.0, 0.5],
            {"event_shape": (6,), "support": constraints.integer_interval(0, 2)},
        ),
    ],
    ids=["Ising", "Potts"],
)
def test_levels_are_counted_right(energy, low, high, kind):
    surface = ebm.log_normalizer_surface(energy, low, high, num_chains=8, num_sweeps=150, **kind)
    assert isinstance(surface, ebm.CountedSurface)
    assert surface.reliable, surface.why
    exact = ebm.listed_log_normalizer(energy, 2, **kind)
    points = surface.box.grid().unbind(-1)
    middle = surface.box.middle.unbind(-1)
    off = surface(*points, 1.0) - exact(*points, 1.0)
    off = off - (surface(*middle, 1.0) - exact(*middle, 1.0))
    error = surface.std_error(*points)
    assert (off.abs() <= 5 * error + 1e-9).all()
    assert surface.max_error < 0.1
    assert "within" in str(surface)


def test_a_jump_is_followed():
    low, high = [-3.5, 1.0], [-2.0, 5.0]
    surface = ebm.log_normalizer_surface(
        jumping, low, high, event_shape=(SITES,), support=constraints.boolean, num_chains=8
    )
    assert surface.reliable, surface.why
    points = surface.box.grid()
    off = surface(*points.unbind(-1), 1.0) - log_z_of_jumping(*points.unbind(-1))
    assert float(off.abs().max()) < 0.2


def test_a_phase_that_no_replica_reaches_is_told():
    # Within the box all params lead from s = 0 to the sparse phase first.
    surface = ebm.log_normalizer_surface(
        lambda x, a: jumping(x, -3.0, a),
        [2.2],
        [3.12],
        event_shape=(SITES * 3,),
        support=constraints.boolean,
        num_chains=4,
        num_sweeps=50,
    )
    assert not surface.reliable


def test_a_distribution_is_normalised_by_counted_levels():
    kind = {"event_shape": (6,), "support": ebm.spin}
    surface = ebm.log_normalizer_surface(ring, [0.0], [0.5], num_chains=4, num_sweeps=60, **kind)
    coupling = torch.tensor(0.3, requires_grad=True)
    options = {"event_shape": (6,), "support": ebm.spin, "params": (coupling,)}
    estimated = ebm.EnergyDistribution(ring, log_normalizer=surface, **options)
    listed = ebm.listed_log_normalizer(ring, 1, **kind)
    exact = ebm.EnergyDistribution(ring, log_normalizer=listed, **options)
    x = torch.tensor([1.0, 1, -1, 1, 1, 1])
    values = [each.log_prob(x) for each in (estimated, exact)]
    slopes = [torch.autograd.grad(value, coupling)[0] for value in values]
    assert abs(float((values[0] - values[1]).detach())) < 0.1
    assert abs(float(slopes[0] - slopes[1])) < 0.2


@pytest.mark.slow
def test_graphs_of_seven_nodes_are_counted_right():
    surface = ebm.log_normalizer_surface(
        graph,
        [-2.5, -0.2, -0.5],
        [-0.5, 0.4, 0.8],
        event_shape=(21,),
        support=constraints.boolean,
        num_chains=8,
        num_sweeps=200,
    )
    assert surface.reliable, surface.why
    for params, right in SEVEN_NODES.items():
        assert abs(float(surface(*params, 1.0)) - right) < 5 * surface.max_error + 0.01


def test_an_energy_that_is_not_linear_gets_a_polynomial():
    surface = ebm.log_normalizer_surface(
        lambda x, a: ring(x, a**2),
        [0.2],
        [0.8],
        event_shape=(6,),
        support=ebm.spin,
        num_chains=4,
        num_sweeps=30,
    )
    assert isinstance(surface, ebm.LogNormalizerSurface)
