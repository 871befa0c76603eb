"""What tests of kernels stand on: a density for all chains, settings, and single transitions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from pyro_ebm.mcmc.metric import DenseMetric, DiagonalMetric, LowRankMetric, Metric
from pyro_ebm.mcmc.run import Problem
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced

# A change that a test makes to the kernel's random numbers, before each step.
Tamper = Callable[[Noise], Noise]


def problem_of(target: Target | Energy) -> Problem:
    """A target, or a bare energy, as the sampling loop takes it."""
    if isinstance(target, Energy):
        target = Target.from_energy(target)
    return Problem(target.log_density_and_gradient, traced)


def settings_of(
    step_size: float | Tensor,
    metric: Metric,
    *,
    max_tree_depth: int = 10,
    version: Any = 0,
    trajectory_length: float = 1.5,
) -> Settings:
    """Settings in the metric's dtype; ``version`` is one for all, or one per chain."""
    return Settings(
        torch.as_tensor(step_size, dtype=metric[0].dtype),
        metric,
        torch.as_tensor(version),
        torch.tensor(max_tree_depth),
        torch.tensor(trajectory_length, dtype=metric[0].dtype),
    )


def identity(dim: int, *, dtype: torch.dtype = torch.float64) -> DiagonalMetric:
    """The metric of a standard normal."""
    return DiagonalMetric(torch.ones(1, dim, dtype=dtype))


def metrics(dim: int) -> dict[str, Metric]:
    """A metric of every kind, in two versions that differ, none of them the identity."""
    generator = torch.Generator().manual_seed(dim)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    scale = normal(2, dim).mul(0.3).exp()
    factor = torch.eye(dim, dtype=torch.float64) + 0.4 * normal(2, dim, dim)
    directions, _ = torch.linalg.qr(normal(2, dim, 1))
    return {
        "diagonal": DiagonalMetric(scale),
        "dense": DenseMetric(factor),
        "low-rank": LowRankMetric(scale, directions, normal(2, 1).mul(0.5).exp()),
    }


def noises(
    kernel: Kernel, shape: tuple[int, ...], steps: int, *, seed: int, dtype: torch.dtype
) -> list[Noise]:
    """The random numbers of so many steps of all chains; ``shape`` is [dim, chains]."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((steps, *shape), generator=generator, dtype=dtype)
    uniform = torch.rand((steps, kernel.uniforms, shape[1]), generator=generator, dtype=dtype)
    return [Noise(*pair) for pair in zip(normal, uniform, strict=True)]


def chosen(keep: Tensor, new: Any, old: Any) -> Any:
    """Per chain one of two nests of tensors of the same kind."""
    if isinstance(old, tuple):
        return type(old)(*(chosen(keep, *pair) for pair in zip(new, old, strict=True)))
    return None if old is None else torch.where(keep, new, old)


class Stepper:
    """A kernel's step on a density, recorded for one number of chains and one kind of metric."""

    def __init__(self, kernel: Kernel, problem: Problem, start: Tensor, settings: Settings) -> None:
        self.kernel, self.problem = kernel, problem
        state = self.begin(start, settings)
        (noise,) = noises(kernel, tuple(start.shape), 1, seed=0, dtype=start.dtype)
        self._step = traced(self.plain_step, state, noise, settings)

    def plain_step(self, state: Any, noise: Noise, settings: Settings) -> tuple[Any, Transition]:
        """One step of all chains, not recorded."""
        density: LogDensityAndGradient = self.problem.log_density_and_gradient
        return self.kernel.step(density, state, noise, settings)

    def begin(self, start: Tensor, settings: Settings) -> Any:
        """The kernel's state at starts [dim, chains]."""
        return self.kernel.init(start, *self.problem.log_density_and_gradient(start), settings)

    def step(self, state: Any, noise: Noise, settings: Settings) -> tuple[Any, Transition]:
        """One step of all chains."""
        return self._step(state, noise, settings)

    def one_transition(
        self, start: Tensor, settings: Settings, *, seed: int, tamper: Tamper | None = None
    ) -> Transition:
        """The first transition of every chain, whenever it ends."""
        state = self.begin(start, settings)
        first: Transition | None = None
        while first is None or not bool(first.done.all()):
            for noise in noises(self.kernel, tuple(start.shape), 8, seed=seed, dtype=start.dtype):
                state, now = self.step(state, noise if tamper is None else tamper(noise), settings)
                if first is None:
                    first = now
                keep = now.done & ~first.done
                first = chosen(keep, now, first)
            seed += 1
        return first
