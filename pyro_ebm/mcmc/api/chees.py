"""ChEES-HMC as a kernel for MCMC: one trajectory length, learned from all chains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pyro.infer.autoguide.initialization import init_to_uniform

from pyro_ebm.target import Target

from ..adaptation import Warmup
from ..chees import chees
from ..kernel import Kernel, Settings
from ..trajectory_length import STANDARD_LENGTH
from .kernels import _PyroKernel

# Chains that ChEES-HMC needs, and from which it learns a length that repeats from run to run.
_LEAST_CHAINS, _ENOUGH_CHAINS = 4, 16


class ChEESHMC(_PyroKernel):
    """HMC of a trajectory length that warm-up learns from all chains together: ChEES-HMC.

    Lengths are spread over a range around the learned one, so that fast and slow directions both
    move. Where directions differ in width after the metric has done its part, it takes fewer
    gradients a draw than NUTS; where they do not, NUTS is as good or better. Few chains tell little
    of the length. Arguments that are not listed are those of :class:`NUTS`.

    :param trajectory_length: the first guess of the mean length, in units of the whitened flow.
    :param target_accept_prob: the acceptance rate that the step size is adapted to.
    :param max_tree_depth: trajectories have at most 2^max_tree_depth - 1 leapfrog steps.
    :param length_jitter: lengths are spread over 1 -+ this fraction of the learned one.
    :raises ValueError: for arguments outside their range, and in MCMC for fewer than 4 chains.

    Source: Hoffman, Radul, Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths
    in Hamiltonian Monte Carlo.
    """

    def __init__(
        self,
        model: Any = None,
        potential_fn: Callable | None = None,
        step_size: float | int = 1,
        *,
        trajectory_length: float | int = STANDARD_LENGTH,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: Any = False,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool | str = "auto",
        target_accept_prob: float = 0.651,
        max_tree_depth: int = 10,
        init_strategy: Callable = init_to_uniform,
        length_jitter: float | int = 1.0,
    ) -> None:
        super().__init__(
            model,
            potential_fn,
            step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            full_mass=full_mass,
            transforms=transforms,
            max_plate_nesting=max_plate_nesting,
            jit_compile=jit_compile,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
        )
        if not 0.0 < float(trajectory_length) < math.inf:
            raise ValueError(
                f"trajectory_length must be a positive number, got {trajectory_length}."
            )
        if max_tree_depth < 1:
            raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}.")
        if not 0.0 <= length_jitter <= 1.0:
            raise ValueError(f"length_jitter must lie in [0, 1], got {length_jitter}.")
        self.trajectory_length = float(trajectory_length)
        self.max_tree_depth = max_tree_depth
        self.length_jitter = length_jitter

    def warmup(self, target: Target, num_steps: int) -> Warmup:
        """The plan of warm-up, which learns a length too."""
        plan = super().warmup(target, num_steps)
        return plan._replace(trajectory_length=self.trajectory_length)

    def kernel(self) -> Kernel:
        """The pure kernel: HMC of the published length."""
        return chees(jitter=self.length_jitter)

    def check_num_chains(self, num_chains: int) -> None:
        """At least four chains, and a warning below sixteen."""
        if num_chains < _LEAST_CHAINS:
            raise ValueError(
                "ChEESHMC learns its trajectory length from all chains together and needs "
                f"num_chains of at least {_LEAST_CHAINS}, got {num_chains}; NUTS runs with fewer."
            )
        if num_chains < _ENOUGH_CHAINS:
            warnings.warn(
                f"ChEESHMC learns its trajectory length from {num_chains} chains only, which is "
                f"rough: give num_chains={_ENOUGH_CHAINS} or more, or use NUTS.",
                stacklevel=3,
            )

    def learned(self, settings: Settings) -> dict[str, Any]:
        """The mean trajectory length of the draws."""
        assert settings.trajectory_length is not None
        length = float(settings.trajectory_length)
        return {**super().learned(settings), "trajectory_length": length}
