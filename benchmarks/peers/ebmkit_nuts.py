"""ebmkit's batched NUTS on a Gaussian, its chains started at exact draws.

The library adapts a step size and keeps an identity metric.
"""

from __future__ import annotations

import torch
from ebm import NUTS

from benchmarks.targets import INDEPENDENT
from benchmarks.worker import Stopwatch, hand_over, options


def main() -> None:
    """Tune the step size in one call, then draw in another."""
    watch = Stopwatch()
    given = options()
    torch.manual_seed(given["seed"])
    scale = torch.tensor(INDEPENDENT[given["target"]], dtype=torch.get_default_dtype())

    def energy(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x / scale).square().sum(-1)

    sampler = NUTS(step_size=float(scale.min()), warmup=given["warmup"])
    start = scale * torch.randn(given["chains"], len(scale))
    start = sampler.sample(energy, start, steps=1)
    watch.lap("set-up and warm-up")
    sampler.warmup = 0
    draws = sampler.sample(energy, start, steps=given["num_draws"], return_trajectory=True)
    watch.lap("sampling")
    hand_over(draws[1:].transpose(0, 1).numpy(), watch)


if __name__ == "__main__":
    main()
