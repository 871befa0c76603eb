"""Plain importance sampling from a Student-t at the mode."""

from __future__ import annotations

import torch

from benchmarks.log_z.estimates import Estimate, estimate_all
from benchmarks.worker import Stopwatch, options
from pyro_ebm.annealing.freeze import as_target
from tests.models.laplace import laplace_importance_sampling
from tests.models.normalisers import normaliser


def main() -> None:
    """Estimate for every seed, the mode searched for anew."""
    watch = Stopwatch()
    given = options()
    torch.set_default_dtype(torch.float64)
    case = normaliser(given["target"])

    def estimate(seed: int) -> Estimate:
        target = as_target(case.model, case.args, {})
        generator = torch.Generator().manual_seed(seed)
        return Estimate(*laplace_importance_sampling(target, given["num_draws"], generator))

    estimate_all(estimate, watch)


if __name__ == "__main__":
    main()
