"""NumPyro's NUTS: chains vectorised in one process, or one after the other."""

from __future__ import annotations

import time

import jax
import numpy as np
from numpyro.infer import MCMC, NUTS, init_to_uniform

from benchmarks.peers.numpyro_models import MODELS, arguments
from benchmarks.targets import NEAR_STARTS, RADIUS, SLANTED, arranged
from benchmarks.worker import Stopwatch, hand_over, options, tell

STEPS = ("num_steps",)
# Else draws are made while what comes after them is compiled, and take no time of their own.
jax.config.update("jax_cpu_enable_async_dispatch", False)


class Compilation:
    """The seconds in which JAX traces and compiles, from now on."""

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, seconds: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._intervals.append((now - seconds, now))

    def within(self, began: float, ended: float) -> float:
        """The seconds between two readings of the clock; a trace may lie within another."""
        seconds, done = 0.0, began
        for start, end in sorted(self._intervals):
            seconds += max(0.0, min(end, ended) - max(start, done))
            done = max(done, end)
        return seconds


def main() -> None:
    """Sample; every call compiles anew, which is no part of the pace of sampling."""
    watch = Stopwatch()
    given = options()
    name = given["target"]
    compilation = Compilation()
    kernel = NUTS(
        MODELS[name],
        dense_mass=name in SLANTED,
        init_strategy=init_to_uniform(radius=NEAR_STARTS.get(name, RADIUS)),
    )
    mcmc = MCMC(
        kernel,
        num_warmup=given["warmup"],
        num_samples=given["num_draws"],
        num_chains=given["chains"],
        chain_method=given["chain_method"],
        progress_bar=False,
    )
    key, data = jax.random.PRNGKey(given["seed"]), arguments(name)
    mcmc.warmup(key, extra_fields=STEPS, collect_warmup=True, **data)
    warmup = int(np.sum(mcmc.get_extra_fields()["num_steps"]))
    watch.lap("set-up and warm-up")
    began = time.perf_counter()
    mcmc.run(key, extra_fields=STEPS, **data)
    found = mcmc.get_samples(group_by_chain=True)
    draws = arranged(name, {site: np.asarray(value) for site, value in found.items()})
    ended = time.perf_counter()
    watch.lap("sampling")
    hand_over(draws, watch)
    sampling = int(np.sum(mcmc.get_extra_fields()["num_steps"]))
    alone = ended - began - compilation.within(began, ended)
    tell(gradients=[warmup, sampling], alone=alone)


if __name__ == "__main__":
    main()
