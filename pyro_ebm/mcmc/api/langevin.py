"""Langevin dynamics as users write it: adjusted for MCMC, unadjusted for learning alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pyro.infer.autoguide.initialization import init_to_uniform

from ..hmc import hmc
from ..hmc import restarted as restarted_hmc
from ..kernel import Kernel
from ..langevin import unadjusted_langevin
from .kernels import _PyroKernel

# The acceptance rate at which one step goes farthest (Roberts, Rosenthal 1998).
_BEST_ACCEPTANCE = 0.574


class Langevin(_PyroKernel):
    """Langevin dynamics: one gradient a transition.

    Adjusted it is HMC with one leapfrog step (MALA), exact like any other kernel. **Unadjusted it
    is biased**: it never rejects, samples a density that is off by an amount which falls with the
    step size, and is taken as the negative phase of learning only (:func:`pyro_ebm.fit`).

    :param model: as of :class:`.NUTS`; None for the negative phase of learning, which has its own.
    :param adjusted: whether moves are accepted or rejected.
    :param step_size: e, the length of a leapfrog step: the drift is (e^2/2) times the gradient.
        Adapted when ``adjusted``, and kept as it is when not.
    :param noise_scale: the noise as a multiple of e; 1 fits the drift, and anything else needs
        ``adjusted=False``.
    :raises ValueError: for arguments outside their range.

    Source: Roberts, Tweedie (1996), Exponential convergence of Langevin distributions and their
    discrete approximations.
    """

    restarted = staticmethod(restarted_hmc)

    def __init__(
        self,
        model: Any = None,
        *,
        adjusted: bool = True,
        step_size: float | int = 0.1,
        noise_scale: float | int = 1.0,
        adapt_step_size: bool = True,
        target_accept_prob: float = _BEST_ACCEPTANCE,
        full_mass: Any = "auto",
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool | str = "auto",
        init_strategy: Callable = init_to_uniform,
        discrete: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            _absent if model is None else model,
            None,
            step_size,
            adapt_step_size=adapt_step_size and adjusted,
            adapt_mass_matrix=True,
            full_mass=full_mass,
            transforms=transforms,
            max_plate_nesting=max_plate_nesting,
            jit_compile=jit_compile,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
        )
        if not 0.0 <= float(noise_scale) < float("inf"):
            raise ValueError(f"noise_scale must be a number of at least 0, got {noise_scale}.")
        if adjusted and noise_scale != 1:
            raise ValueError(
                f"expected noise_scale=1 with adjusted=True, got {noise_scale}: other noise "
                "samples another density, which no acceptance mends. Write adjusted=False for the "
                "negative phase of learning."
            )
        self.adjusted, self.noise_scale = adjusted, float(noise_scale)
        self.discrete = dict(discrete or {})

    def on(self, model: Any) -> Langevin:
        """The same kernel for a model."""
        new = copy.copy(self)
        new.model = model
        return new

    def kernel(self) -> Kernel:
        """The pure kernel: one leapfrog step, with the Metropolis rule or without."""
        if self.adjusted:
            return hmc(num_steps=1)
        return unadjusted_langevin(noise_scale=self.noise_scale)

    def check_num_chains(self, num_chains: int) -> None:
        """Refuse what MCMC cannot take: it asks this before a run.

        :raises ValueError: unadjusted dynamics, or no model.
        """
        if self.model is _absent:
            raise ValueError("Give Langevin a model: MCMC(Langevin(model)).")
        if not self.adjusted:
            raise ValueError(
                "Langevin(adjusted=False) is biased, and serves as the negative phase of learning "
                "only. Use adjusted=True, or NUTS."
            )


def _absent() -> None:
    """Stands for the model that a kernel has not been given yet."""
