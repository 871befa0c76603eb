"""ebmkit's AIS over spins: 64 chains, Gibbs with gradients at every temperature, even states.

Its sites are 0 and 1; spins are x = 2 b - 1. A temperature has one proposal of one spin, ebmkit's
default.
"""

from __future__ import annotations

from typing import Any

import torch
from ebm import ais_log_z
from ebm.samplers import GibbsWithGradients
from torch import Tensor

from benchmarks.log_z.estimates import Estimate, estimate_all
from benchmarks.worker import Stopwatch, options
from tests.models.normalisers import normaliser

NUM_CHAINS = 64


def main() -> None:
    """Estimate for every seed."""
    watch = Stopwatch()
    given = options()
    torch.set_default_dtype(torch.float64)
    model: Any = normaliser(given["target"]).model
    shape = model.event_shape
    even = torch.distributions.Bernoulli(torch.full(shape, 0.5))
    base = torch.distributions.Independent(even, len(shape), validate_args=False)

    def energy(sites: Tensor) -> Tensor:
        return model.energy(2.0 * sites - 1.0)

    def estimate(seed: int) -> Estimate:
        torch.manual_seed(seed)
        found = ais_log_z(
            energy,
            tuple(shape),
            base=base,
            n_temps=given["num_temperatures"],
            n_chains=NUM_CHAINS,
            sampler=GibbsWithGradients(),
        )
        return Estimate(found.log_z, found.stderr)

    estimate_all(estimate, watch)


if __name__ == "__main__":
    main()
