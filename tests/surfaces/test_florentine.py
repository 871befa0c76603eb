"""The Florentine marriages: where the posterior on a surface is highest, the likelihood is.

Maximum likelihood by long simulations with importance reweighting, and its standard errors; edges
alone are logit(20/120). The ergm package's documentation gives edges -1.675 and triangles 0.158.
"""

import math

import networkx as nx
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm

FAMILIES, DYADS = 16, 120


def statistics() -> dict[str, float]:
    florence = nx.florentine_families_graph()
    return {
        "edges": float(florence.number_of_edges()),
        "two_stars": sum(degree * (degree - 1) / 2 for _, degree in florence.degree()),
        "triangles": sum(nx.triangles(florence).values()) / 3,
    }


def highest(log_z, observed, start):
    """The params that maximise theta' s - log Z(theta)."""
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([theta], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        value = log_z(*theta, 1.0) - (theta * observed).sum()
        value.backward()
        return value

    search.step(loss)
    return theta.detach()


def test_edges_alone_are_known():
    torch.set_default_dtype(torch.float64)
    surface = ebm.log_normalizer_surface(
        lambda x, edges: ebm.ExponentialRandomGraph(FAMILIES, edges=edges)(x),
        [-3.0],
        [0.0],
        event_shape=(DYADS,),
        support=constraints.boolean,
        num_chains=8,
        num_sweeps=60,
    )
    at = torch.tensor(-1.7)
    exact = DYADS * torch.nn.functional.softplus(at)
    assert abs(float(surface(at, 1.0) - exact)) < 4.0 * float(surface.std_error(at))
    found = highest(surface, torch.tensor([20.0]), [-1.0])
    assert abs(float(found) - math.log(20 / 100)) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "low", "high", "truth", "std_error"),
    [
        ("triangles", [-2.6, -1.0], [-0.9, 0.3], (-1.6748, 0.1556), (0.349, 0.590)),
        ("two_stars", [-2.6, -0.2], [-0.9, 0.06], (-1.6565, 0.00995), (0.843, 0.172)),
    ],
)
def test_with_a_second_statistic_it_is_that_of_long_simulations(
    second, low, high, truth, std_error
):
    torch.set_default_dtype(torch.float64)

    def energy(x, edges, other):
        return ebm.ExponentialRandomGraph(FAMILIES, edges=edges, **{second: other})(x)

    surface = ebm.log_normalizer_surface(
        energy,
        low,
        high,
        event_shape=(DYADS,),
        support=constraints.boolean,
        degree=5,
        num_chains=8,
        num_sweeps=100,
    )
    observed = torch.tensor([statistics()["edges"], statistics()[second]])
    found = highest(surface, observed, [sum(pair) / 2 for pair in zip(low, high, strict=True)])
    # A tenth of what the data leave open.
    assert (found - torch.tensor(truth)).abs().lt(0.1 * torch.tensor(std_error)).all()
