"""What is sampled, and what is known of it; free of torch, as every peer reads it.

Eight schools is the model of tests/models, in the parameters of posteriordb with their exact
posterior means and sds; the Gaussians are centred and independent.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

_FILE = Path(__file__).parent.parent / "tests" / "data" / "posteriordb" / "eight_schools.json"

EIGHT_SCHOOLS = "eight schools"
GAUSSIANS = {
    "20-d Gaussian, scales 0.01 to 1": np.logspace(-2, 0, 20),
    "100-d standard normal": np.ones(100),
}


def schools() -> tuple[np.ndarray, np.ndarray]:
    """The effects y [8] and their standard errors sigma [8]."""
    data = json.loads(_FILE.read_text())["data"]
    return np.asarray(data["y"], dtype=float), np.asarray(data["sigma"], dtype=float)


def parameters(mu: np.ndarray, tau: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Draws [chain, draw, 10] of mu and tau, each [chain, draw], and theta [chain, draw, 8]."""
    return np.concatenate([mu[..., None], tau[..., None], theta], axis=-1)


def truth(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The exact mean and sd of every parameter, in the order of the draws."""
    if name in GAUSSIANS:
        return np.zeros_like(GAUSSIANS[name]), GAUSSIANS[name]
    exact = json.loads(_FILE.read_text())["exact"]
    order = ("mu", "tau", *(f"theta[{school}]" for school in range(1, 9)))
    mean, sd = (np.array([exact[key][of] for key in order]) for of in ("mean", "sd"))
    return mean, sd
