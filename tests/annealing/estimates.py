"""Estimates made up for tests of what is done with them."""

import math

import torch

from pyro_ebm.annealing import Backward, LogZ


def plain(log_z=-10.0, std_error=0.1, **fields):
    """An estimate of which nothing but its numbers is known."""
    known = {"method": "AIS", "reliable": True, "why": "Made up."}
    return LogZ(log_z, std_error, **{**known, **fields})


def annealed(target=None, *, log_z=-3.0, sd=0.6, n=400, m=300, **fields):
    """An annealed estimate with works of both directions that obey Crooks."""
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(n + m, generator=generator, dtype=torch.float64)
    forward = log_z - 0.5 * sd**2 + sd * normal[:n]
    works = log_z + 0.5 * sd**2 + sd * normal[n:]
    positions = None
    if target is not None:
        positions = torch.randn(target.dim, n, generator=generator, dtype=target.dtype)
    betas = [0.0, 0.1, 0.4, 1.0]
    known = {
        "method": "AIS",
        "reliable": True,
        "why": "Made up.",
        "ess": n * math.exp(-(sd**2)),
        "khat": 0.3,
        "num_particles": n,
        "log_weights": forward,
        "positions": positions,
        "target": target,
        "backward": Backward(works, log_z, 0.05, log_z, 0.03),
        "path": {
            "beta": betas,
            "barrier": [0.2, 0.25, 0.3],
            "acceptance": [0.8, 0.7],
            "mean_slope": [-9.0, -5.0, -2.0],
            "ess": [390.0, 350.0, 300.0],
        },
        "details": {"seed": 7, "base": "a normal distribution", "halves": [(1.0, 2.0)]},
    }
    return LogZ(log_z, 0.04, **{**known, **fields})
