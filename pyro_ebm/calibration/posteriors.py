"""The posteriors of all simulated data sets in one run: chain i sees data set i.

The chains share the step size and the metric, but their posteriors differ in place and width, often
by orders of magnitude. So each chain has a frame of its own, z = center + scale u, in which its
posterior has about unit scale, found in a few short rounds before the run. A frame is fixed while
draws are kept, and an affine map with a constant Jacobian changes no posterior.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pyro_ebm.diagnostics import ess_mean
from pyro_ebm.mcmc.api.kernels import HMC, NUTS
from pyro_ebm.mcmc.estimate import diagonal_scale
from pyro_ebm.mcmc.run import Plan, Problem, Result, run_chains
from pyro_ebm.target import Side, Target
from pyro_ebm.target.vectorize import NUM_PROBES, probe, traced

# Draws kept per chain in each round that looks for the frames; warm-up of a round.
_ROUNDS = (15, 15, 15, 60)
_ROUND_WARMUP = 30
_ROUND_TREE_DEPTH = 6
# A chain that did not move in a round had a frame too wide by far.
_SHRINK = 0.1
_WIDEST_START = 1.0
# Draws worth half of their number widen the law of ranks by 1/(6 L) of its variance 1/12: unseen.
_WORTH, _MOST_THINNING = 0.5, 10


class Posteriors(NamedTuple):
    """Draws of every posterior.

    ``positions`` are [simulation, draw, dim], ``log_density`` [simulation, draw]; ``diverging``
    [simulation] counts divergent transitions, ``ess`` [simulation, dim + 1] is the effective size
    of the draws of every coordinate and of the log density.
    """

    positions: Tensor
    log_density: Tensor
    diverging: Tensor
    ess: np.ndarray
    thinning: int


def for_side_values(target: Target, side: Side, positions: Tensor) -> Target:
    """The target, evaluated chain by chain where vmap cannot take the data as side values.

    :param positions: places to compare vmap with a loop at, [dim, simulation].
    """
    if not target.vectorized:
        return target
    few = Side(None, {name: value[:NUM_PROBES] for name, value in side.values.items()})
    reason = probe(target.log_density, positions[:, :NUM_PROBES], few)
    if reason is None:
        return target
    warnings.warn(
        "The simulations are evaluated one by one, slower and right, because torch.func.vmap "
        f"cannot take their data: {reason}",
        stacklevel=3,
    )
    looped = copy.copy(target)
    looped.why_not_vectorized = reason
    return looped


def sample_posteriors(
    target: Target,
    kernel: NUTS | HMC,
    side: Side,
    *,
    num_simulations: int,
    num_draws: int,
    thinning: int | None,
    warmup_steps: int,
    generator: torch.Generator,
) -> Posteriors:
    """Run one chain per simulation, from starts that know nothing of the true values.

    :param side: the simulated data, [simulation, ...] by site.
    :param thinning: transitions between draws; None chooses it by the effective sample size.
    """
    start = target.initial_positions(
        num_simulations, strategy=kernel.init_strategy, generator=generator, side=side
    )
    frames = _Frames(target, kernel, side, start, generator)
    frames.find()
    if thinning is None:
        thinning = frames.choose_thinning()
    plan = Plan(num_draws, kernel.warmup(target, warmup_steps), thinning=thinning)
    result = frames.run(plan)
    positions, log_density = frames.outside(result.draws.positions), result.draws.statistics["lp"]
    return Posteriors(
        positions=positions.permute(2, 0, 1),
        log_density=log_density.T,
        diverging=result.draws.statistics["diverging"].sum(0).long(),
        ess=_ess(positions, log_density),
        thinning=thinning,
    )


class _Frames:
    """The frame of every chain, the density seen in it, and where the chains are."""

    def __init__(
        self,
        target: Target,
        kernel: NUTS | HMC,
        side: Side,
        start: Tensor,
        generator: torch.Generator,
    ) -> None:
        self.target, self.kernel, self.side, self.generator = target, kernel, side, generator
        self.pure = kernel.kernel()
        self.position = start
        _, gradient = target.log_density_and_gradient(start, side)
        # Far out, a gradient is distance over variance: a first guess of the width.
        width = gradient.abs().rsqrt().clamp(max=_WIDEST_START)
        self.center, self.scale = start.clone(), width.nan_to_num(_WIDEST_START)
        self.last_ess = np.ones((start.shape[1], 1))
        self._recorded: dict[tuple, Callable] = {}

    def find(self) -> None:
        """Move and narrow the frames, round after round, by the draws of the round before."""
        warmup = self.kernel.warmup(self.target, _ROUND_WARMUP)
        warmup = warmup._replace(
            adapt_metric=False, max_tree_depth=min(_ROUND_TREE_DEPTH, warmup.max_tree_depth)
        )
        for num_draws in _ROUNDS:
            result = self.run(Plan(num_draws, warmup))
            self.draws = self.outside(result.draws.positions)
            self.position = self.draws[-1]
            late = self.draws[num_draws // 3 :]
            gradients = [self.target.log_density_and_gradient(z, self.side)[1] for z in late]
            widths = diagonal_scale(
                late.flatten(1).T,
                torch.stack(gradients).flatten(1).T,
                _SHRINK * self.scale.flatten(),
            )
            # In place: the recorded step reads the frame where it lies.
            self.scale.copy_(widths.reshape(self.scale.shape))
            self.center.copy_(late.mean(0))

    def run(self, plan: Plan) -> Result:
        """Run all chains from where they are, in their frames.

        :raises BaseException: whatever ended the run before its time.
        """
        problem = Problem(self._log_density_and_gradient, self._record)
        start = (self.position - self.center) / self.scale
        result = run_chains(problem, self.pure, start, plan, generator=self.generator)
        if result.error is not None:
            raise result.error
        return result

    def outside(self, inner: Tensor) -> Tensor:
        """Positions [..., dim, chains] of the target from those in the frames."""
        return self.center + self.scale * inner

    def choose_thinning(self) -> int:
        """Transitions between draws by the last round; chains count by 1/ESS, as in their ranks."""
        ess = np.nan_to_num(self.last_ess, nan=1.0).clip(min=1.0)
        transitions = _ROUNDS[-1] * (1 / ess).mean(0).max()
        return min(_MOST_THINNING, max(1, math.ceil(_WORTH * transitions)))

    def _log_density_and_gradient(self, inner: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self.target.log_density_and_gradient(self.outside(inner), self.side)
        return value, gradient * self.scale

    def _record(self, function: Callable, *example: Any) -> Callable:
        if not self.target.vectorized:
            return function
        # All rounds take the same step: one recording serves them.
        shapes = tuple(getattr(leaf, "shape", None) for leaf in pytree.tree_leaves(example))
        if shapes not in self._recorded:
            compiled = self.kernel.jit_compile is True
            self._recorded[shapes] = traced(function, *example, compile_graph=compiled)
        return self._recorded[shapes]


def _ess(draws: Tensor, log_density: Tensor) -> np.ndarray:
    """Effective sizes [chain, dim + 1] of draws [n, dim, chains] and log densities [n, chains]."""
    both = torch.cat([draws, log_density[:, None]], dim=1).double()
    return np.minimum(ess_mean(both.permute(0, 2, 1)[None]), len(draws))
