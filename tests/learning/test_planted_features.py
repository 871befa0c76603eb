"""Features that were planted in simulated data are those that hidden units find.

The likelihood has local maxima where two units share a source; the best of six starts has none.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

import pyro_ebm as ebm

NUM_SOURCES, PIXELS, ROWS, STARTS = 6, 8, 2000, 6


def planted() -> tuple[torch.Tensor, torch.Tensor]:
    """Sources [n, k], each on with 0.4, and rows [n, 8 k] that follow them."""
    sources = (torch.rand(ROWS, NUM_SOURCES) < 0.4).float()
    on = 0.1 + 0.8 * sources.repeat_interleave(PIXELS, 1)
    return sources, (torch.rand(on.shape) < on).float()


def learned(rows: torch.Tensor) -> tuple[float, ebm.RBM]:
    """A machine from a start of its own, and its held-out log likelihood in nats."""
    machine = ebm.RBM(
        torch.nn.Parameter(0.01 * torch.randn(rows.shape[1], NUM_SOURCES)),
        torch.nn.Parameter(torch.logit(rows.mean(0))),
        torch.nn.Parameter(torch.full((NUM_SOURCES,), -1.0)),
    )
    trained = ebm.fit(
        machine.marginal(),
        rows,
        ebm.ExactLikelihood(),
        num_steps=700,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05),
        disable_progbar=True,
    )
    return float(trained.history["log_likelihood"][-1]), machine


def test_hidden_units_of_the_likeliest_machine_find_the_sources_of_the_pixels():
    sources, rows = planted()
    _, machine = max((learned(rows) for _ in range(STARTS)), key=lambda found: found[0])
    with torch.no_grad():
        units = (rows @ machine.weights + machine.hidden_bias > 0).numpy()
    agreement = np.array(
        [[adjusted_rand_score(source, unit) for unit in units.T] for source in sources.numpy().T]
    )
    pairs = linear_sum_assignment(-agreement)
    assert agreement[pairs].min() > 0.9
