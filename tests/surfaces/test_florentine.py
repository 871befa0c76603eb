"""More dyads than a list could hold: log Z of the marriages of sixteen families.

With edges alone their dyads are independent, so that log Z = 120 log(1 + exp(theta)), and twenty
edges of 120 are likeliest at log(20/100). With triangles sparse networks give way to the complete
one, which has 560, and both sides are held against annealed importance sampling.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm
from tests.models.graphs import marriages

FAMILIES, DYADS, EDGES, TRIANGLES = 16, 120, 20, 3
# The maximum likelihood of long simulations from the observed network: statnet's ergm.
LIKELIEST = (-1.675, 0.158)


def energy(x, edges, triangles):
    return ebm.ExponentialRandomGraph(FAMILIES, edges=edges, triangles=triangles)(x)


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(6)
    yield
    torch.set_default_dtype(before)


@pytest.mark.slow
@pytest.mark.parametrize("degree", [None, 14])
def test_edges_alone_are_known(degree):
    surface = ebm.log_normalizer_surface(
        lambda x, edges: ebm.ExponentialRandomGraph(FAMILIES, edges=edges)(x),
        [-3.0],
        [0.0],
        event_shape=(DYADS,),
        support=constraints.boolean,
        degree=degree,
        num_chains=8,
        num_sweeps=60,
    )
    theta = torch.linspace(-2.9, -0.1, 561)  # the middle among them
    exact = DYADS * torch.nn.functional.softplus(theta)
    # The error is that of log Z less log Z at the middle of the box.
    off = surface(theta, 1.0) - exact
    off = off - off[len(theta) // 2]
    assert (off.abs() <= 4.5 * surface.std_error(theta) + 1e-9).all()
    likeliest = theta[(EDGES * theta - surface(theta, 1.0)).argmax()]
    assert abs(float(likeliest) - math.log(EDGES / (DYADS - EDGES))) < 0.05


@pytest.fixture(scope="module")
def surface():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(3)
    found = ebm.log_normalizer_surface(
        energy,
        [-3.0, -2.5],
        [0.0, 1.0],
        event_shape=(DYADS,),
        support=constraints.boolean,
        num_chains=8,
        num_sweeps=150,
    )
    torch.set_default_dtype(before)
    return found


@pytest.mark.slow
def test_the_surface_is_reliable_and_right_without_triangles(surface):
    assert surface.reliable, surface.why
    edges = torch.linspace(-3.0, 0.0, 61)
    exact = DYADS * torch.nn.functional.softplus(edges)
    off = surface(edges, torch.zeros(61), 1.0) - exact
    assert float(off.abs().max()) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "edges_and_triangles", [(-1.7, 0.2), (-1.0, -1.5), (-1.7, 0.6), (-2.5, 0.9)]
)
def test_both_phases_are_right_by_annealing(surface, edges_and_triangles):
    edges, triangles = edges_and_triangles
    graph = ebm.ExponentialRandomGraph(FAMILIES, edges=edges, triangles=triangles)
    annealed = ebm.AIS(graph, num_particles=512).run()
    error = (annealed.std_error**2 + surface.max_error**2) ** 0.5
    assert abs(float(surface(edges, triangles, 1.0)) - annealed.log_z) < 4 * error + 0.02


@pytest.mark.slow
def test_the_likelihood_is_largest_where_others_find_it(surface):
    edges, triangles = torch.meshgrid(
        torch.linspace(-2.5, -1.0, 151), torch.linspace(-0.5, 0.8, 131), indexing="ij"
    )
    log_likelihood = EDGES * edges + TRIANGLES * triangles - surface(edges, triangles, 1.0)
    best = log_likelihood.argmax()
    assert abs(float(edges.reshape(-1)[best]) - LIKELIEST[0]) < 0.05
    assert abs(float(triangles.reshape(-1)[best]) - LIKELIEST[1]) < 0.1


def network(x, log_normalizer):
    params = [pyro.sample(name, dist.Normal(0.0, 5.0)) for name in ("edges", "triangles")]
    graph = ebm.ExponentialRandomGraph(FAMILIES, edges=params[0], triangles=params[1])
    fn = ebm.EnergyDistribution(graph, log_normalizer=log_normalizer.at(*params))
    pyro.sample("x", fn, obs=x)


def lead_of_the_complete_network(edges, triangles):
    """Its log weight less that of all networks whose edges are independent."""
    return 120 * edges + 560 * triangles - DYADS * torch.nn.functional.softplus(edges)


@pytest.mark.slow
def test_the_posterior_ends_where_the_complete_network_takes_over(surface):
    mcmc = ebm.MCMC(
        ebm.NUTS(network, jit_compile=False),
        num_samples=150,
        num_chains=32,
        initial_params={"edges": torch.full((32,), -1.6), "triangles": torch.zeros(32)},
        disable_progbar=True,
    )
    graph = ebm.ExponentialRandomGraph(FAMILIES, edges=0.0)
    mcmc.run(graph.configuration(marriages()), surface)
    draws = {name: values.reshape(-1) for name, values in mcmc.get_samples().items()}
    edges, triangles = torch.meshgrid(
        torch.linspace(-3.0, 0.0, 301), torch.linspace(-2.5, 1.0, 701), indexing="ij"
    )
    log_density = EDGES * edges + TRIANGLES * triangles - surface(edges, triangles, 1.0)
    log_density = log_density - (edges.square() + triangles.square()) / 50
    weights = log_density.flatten().softmax(0).reshape(edges.shape)
    for name, value in (("edges", edges), ("triangles", triangles)):
        mean = float((weights * value).sum())
        sd = float((weights * (value - mean).square()).sum().sqrt())
        assert abs(float(draws[name].mean()) - mean) < 0.2 * sd
    # Up to where the complete network outweighs the sparse ones, and no farther.
    lead = lead_of_the_complete_network(draws["edges"], draws["triangles"])
    assert float(lead.max()) < 15
    assert float((lead > -56).double().mean()) > 0.01
