"""nutpie's NUTS, the model written in PyMC, compiled by numba or JAX; chains on both cores."""

from __future__ import annotations

import nutpie

from benchmarks.peers.pymc_models import STARTS, model
from benchmarks.targets import arranged
from benchmarks.worker import Stopwatch, hand_over, options, tell


def main() -> None:
    """Compile, then tune and sample.

    Both are one call: the time of warm-up is its share of the gradients.
    """
    watch = Stopwatch()
    given = options()
    backend = given["backend"]
    compiled = nutpie.compile_pymc_model(
        model(given["target"]),
        backend=backend,
        gradient_backend="jax" if backend == "jax" else "pytensor",
        initial_points=STARTS.get(given["target"]),
    )
    watch.lap("set-up and warm-up")
    found = nutpie.sample(
        compiled,
        draws=given["num_draws"],
        tune=given["warmup"],
        chains=given["chains"],
        seed=given["seed"],
        low_rank_modified_mass_matrix=given["low_rank"],
        progress_bar=False,
    )
    draws = arranged(given["target"], found["posterior"])
    watch.lap("sampling")
    warmup, sampling = (
        int(found[group]["n_steps"].sum()) for group in ("warmup_sample_stats", "sample_stats")
    )
    tuning = watch.seconds["sampling"] * warmup / (warmup + sampling)
    watch.seconds["set-up and warm-up"] += tuning
    watch.seconds["sampling"] -= tuning
    hand_over(draws, watch)
    tell(gradients=[warmup, sampling])


if __name__ == "__main__":
    main()
