"""pyro_ebm at its defaults: any target, with any number of chains, in float32 or float64."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro.infer.autoguide.initialization import init_to_uniform

import pyro_ebm as ebm
from benchmarks.targets import (
    ILL_CONDITIONED,
    INDEPENDENT,
    NEAR_STARTS,
    RADIUS,
    arranged,
    precision_matrix,
)
from benchmarks.worker import Stopwatch, hand_over, options, tell


class Sampled(NamedTuple):
    """What NUTS is given, and what ``run`` takes."""

    model: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


def sampled(name: str) -> Sampled:
    """The model or energy of that name, with its data in torch's default dtype."""
    dtype = torch.get_default_dtype()
    if name == ILL_CONDITIONED:
        precision = torch.as_tensor(precision_matrix(), dtype=dtype)
        return Sampled(ebm.Gaussian(torch.zeros(len(precision)), precision_matrix=precision))
    if name in INDEPENDENT:
        scale = torch.as_tensor(INDEPENDENT[name], dtype=dtype)
        return Sampled(ebm.DiagonalGaussian(torch.zeros_like(scale), scale))
    from tests.models import load

    posterior = load(name)
    return Sampled(posterior.model, posterior.args, posterior.kwargs)


def main() -> None:
    """Sample the target that the options name."""
    watch = Stopwatch()
    given = options()
    name, chains = given["target"], given["chains"]
    torch.set_default_dtype(getattr(torch, given["dtype"]))
    pyro.set_rng_seed(given["seed"])
    model, args, kwargs = sampled(name)
    reports = []

    def report(kernel, samples, stage, i) -> None:
        if stage == "warmup":
            watch.lap("set-up and warm-up")
        else:
            reports.append(time.perf_counter())

    kernel = ebm.NUTS(
        model,
        jit_compile=given["jit_compile"],
        init_strategy=partial(init_to_uniform, radius=NEAR_STARTS.get(name, RADIUS)),
    )
    # Exact draws, as the other library gets.
    start = None
    if name in INDEPENDENT:
        scale = torch.as_tensor(INDEPENDENT[name], dtype=torch.get_default_dtype())
        start = {"x": scale * torch.randn(chains, len(scale))}
    mcmc = ebm.MCMC(
        kernel,
        given["num_draws"],
        given["warmup"],
        start,
        chains,
        hook_fn=report,
        disable_progbar=True,
    )
    mcmc.run(*args, **kwargs)
    record = mcmc.record
    sites = record.target.constrain(record.positions)
    draws = arranged(name, {site: value.numpy() for site, value in sites.items()})
    watch.lap("sampling")
    hand_over(draws, watch)
    warmup = record.attrs["warmup_gradient_steps"]
    tell(
        gradients=[chains * warmup, chains * (record.attrs["gradient_steps"] - warmup)],
        alone=alone(reports, watch.seconds["sampling"]),
    )


def alone(reports: list[float], sampling: float) -> float:
    """The seconds of sampling at the pace between its first and its last report.

    The first block of steps may hold a recording of the step, the end a mapping of draws to sites.
    """
    if len(reports) < 2:
        return sampling
    return float(np.ptp(reports)) * len(reports) / (len(reports) - 1)


if __name__ == "__main__":
    main()
