"""pyro_ebm's AIS as it comes: nothing is chosen but the base, where the case gives one."""

from __future__ import annotations

import pyro
import torch

import pyro_ebm as ebm
from benchmarks.log_z.estimates import Estimate, estimate_all
from benchmarks.worker import Stopwatch, options
from tests.models.normalisers import normaliser


def main() -> None:
    """Estimate for every seed."""
    watch = Stopwatch()
    torch.set_default_dtype(torch.float64)
    case = normaliser(options()["target"])
    chosen = {} if case.base is None else {"base": case.base}

    def estimate(seed: int) -> Estimate:
        pyro.set_rng_seed(seed)
        found = ebm.AIS(case.model, disable_progbar=True, **chosen).run(*case.args)
        return Estimate(found.log_z, found.std_error, found.reliable)

    estimate_all(estimate, watch)


if __name__ == "__main__":
    main()
