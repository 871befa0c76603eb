"""More dyads than a list could hold: log Z of the marriages of sixteen families, edges alone.

Their dyads are independent, so that log Z = 120 log(1 + exp(theta)), and twenty edges of 120 are
likeliest at log(20/100).
"""

import math

import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm

FAMILIES, DYADS, EDGES = 16, 120, 20


@pytest.mark.slow
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
    theta = torch.linspace(-2.9, -0.1, 561)  # the middle among them
    exact = DYADS * torch.nn.functional.softplus(theta)
    # The error is that of log Z less log Z at the middle of the box.
    off = surface(theta, 1.0) - exact
    off = off - off[len(theta) // 2]
    assert (off.abs() <= 4.5 * surface.std_error(theta) + 1e-9).all()
    likeliest = theta[(EDGES * theta - surface(theta, 1.0)).argmax()]
    assert abs(float(likeliest) - math.log(EDGES / (DYADS - EDGES))) < 0.05
