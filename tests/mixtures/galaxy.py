"""82 velocities of galaxies in Corona Borealis, in 1000 km/s.

Source: Postman, Huchra, Geller (1986), Probes of large-scale structure in the Corona Borealis
region; Roeder (1990), Density estimation with confidence sets exemplified by superclusters and
voids in the galaxies.
"""

import torch

from pyro_ebm import MixturePrior
from tests.models.evidences import read

# Chib (1995): mean ~ N(20, 10), variance ~ InverseGamma(3, 20), weights ~ Dirichlet(1).
CHIB = MixturePrior(20.0, 10.0, 3.0, 20.0)


def velocities() -> torch.Tensor:
    return read("galaxy")[0]["velocities"].double()


def log_evidences() -> dict[str, tuple[float, float]]:
    return read("galaxy")[1]
