"""Stock Pyro's NUTS: one chain, with or without its jit."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pyro
import pyro.distributions as dist
import pyro.ops.integrator
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_uniform
from torch.distributions import biject_to

from benchmarks.targets import (
    ILL_CONDITIONED,
    NEAR_STARTS,
    RADIUS,
    SLANTED,
    arranged,
    precision_matrix,
    sites,
)
from benchmarks.worker import Stopwatch, hand_over, options, tell
from tests.models import load

_ONE = torch.Size()


def gaussian(precision: torch.Tensor) -> None:
    """A centred Gaussian of that precision matrix."""
    support = dist.constraints.real_vector
    x = pyro.sample("x", dist.ImproperUniform(support, (), (len(precision),)))
    pyro.factor("gaussian", -0.5 * x @ precision @ x)


def start_of_flat(self: dist.ImproperUniform, sample_shape: torch.Size = _ONE) -> torch.Tensor:
    """A sampler for improper priors.

    Pyro draws from every prior once, for shapes and supports alone, and would fail without one.
    """
    transform = biject_to(self.support)
    shape = transform.inverse_shape(self.shape(sample_shape))
    return transform(torch.empty(shape).uniform_(-1.0, 1.0))


def count_gradients(stage: list[str]) -> Counter[str]:
    """From now on counts the gradients of Pyro's integrator, by the stage that stands last."""
    counts: Counter[str] = Counter()
    gradient = pyro.ops.integrator.potential_grad

    def counted(*args):
        counts[stage[-1]] += 1
        return gradient(*args)

    pyro.ops.integrator.potential_grad = counted
    return counts


def main() -> None:
    """Sample; the time of warm-up and that of the draws are told apart."""
    watch = Stopwatch()
    given = options()
    name = given["target"]
    pyro.set_rng_seed(given["seed"])
    torch.set_default_dtype(torch.float64)
    dist.ImproperUniform.sample = start_of_flat
    stage = ["warm-up"]
    counts = count_gradients(stage)
    if name == ILL_CONDITIONED:
        model, args, kwargs = gaussian, (torch.as_tensor(precision_matrix()),), {}
    else:
        posterior = load(name)
        model, args, kwargs = posterior.model, posterior.args, posterior.kwargs

    def end_of_warmup(kernel, samples, now, i) -> None:
        if now.lower().startswith("warmup"):
            watch.lap("set-up and warm-up")
            if i + 1 == given["warmup"]:
                stage.append("sampling")

    kernel = NUTS(
        model,
        full_mass=name in SLANTED,
        jit_compile=given["jit"],
        ignore_jit_warnings=True,
        init_strategy=partial(init_to_uniform, radius=NEAR_STARTS.get(name, RADIUS)),
    )
    mcmc = MCMC(
        kernel,
        given["num_draws"],
        given["warmup"],
        hook_fn=end_of_warmup,
        disable_progbar=True,
    )
    mcmc.run(*args, **kwargs)
    found = mcmc.get_samples(group_by_chain=True)
    watch.lap("sampling")
    if not sites(name) <= set(found):
        found = deterministic_too(model, args, kwargs, found)
    draws = arranged(name, {site: value.numpy() for site, value in found.items()})
    hand_over(draws, watch)
    tell(gradients=[counts["warm-up"], counts["sampling"]])


def deterministic_too(model, args, kwargs, found: dict) -> dict:
    """The latent sites [1, draw, ...] of a run, with the deterministic ones beside them."""
    num_draws = len(next(iter(found.values()))[0])
    rows = []
    # A draw outside its support is Pyro's answer too.
    with torch.no_grad(), poutine.block(), pyro.validation_enabled(False):
        for draw in range(num_draws):
            values = {site: value[0, draw] for site, value in found.items()}
            trace = poutine.trace(poutine.condition(model, values)).get_trace(*args, **kwargs)
            nodes = trace.nodes.items()
            rows.append({k: node["value"] for k, node in nodes if node["type"] == "sample"})
    wanted = [key for key, value in rows[0].items() if isinstance(value, torch.Tensor)]
    return {key: torch.stack([row[key] for row in rows])[None] for key in wanted}


if __name__ == "__main__":
    main()
