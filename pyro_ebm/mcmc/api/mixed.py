"""Models whose discrete sites are sampled: which kernel moves what, and what warm-up sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pyro_ebm.target import Target

from ..discrete_adaptation import DiscreteWarmup
from ..kernel import Kernel
from ..run import WarmupPlan
from ..within_gibbs import MOST_BLOCKS, ContinuousPart, Sweep, sweeps, within_gibbs


@runtime_checkable
class Moves(Protocol):
    """A kernel of continuous coordinates that goes on after discrete ones have changed."""

    restarted: Callable[..., Any]

    def kernel(self) -> Kernel:
        """The pure kernel."""
        ...


def sweep_of(target: Target, *, num_sweeps: int | None = None) -> Sweep:
    """The sweep over the sampled sites of a target.

    :param num_sweeps: whole ones in a transition; at most :data:`MOST_BLOCKS` blocks unless given.
    """
    found = target.conditionals
    length = min(found.num_blocks, MOST_BLOCKS)
    if num_sweeps is not None:
        length = num_sweeps * found.num_blocks
    return Sweep(found, found.blocks, found.num_blocks, length)


def mixed_kernel(sampler: Any, target: Target) -> Kernel:
    """The kernel of a target with sampled sites: sweeps, with trajectories between them where there
    are continuous coordinates."""
    sweep = sweep_of(target, num_sweeps=getattr(sampler, "sweeps", None))
    if target.continuous_dim == 0:
        return sweeps(sweep)
    assert isinstance(sampler, Moves)
    return within_gibbs(sampler.kernel(), sweep, restarted=sampler.restarted)


def warmup_of(sampler: Any, target: Target, num_steps: int) -> WarmupPlan:
    """The plan of warm-up: it learns of the continuous coordinates."""
    if target.sampled and target.continuous_dim == 0:
        return DiscreteWarmup(num_steps)
    plan = sampler.warmup(target, num_steps)
    return ContinuousPart(plan, target.continuous_dim) if target.sampled else plan
