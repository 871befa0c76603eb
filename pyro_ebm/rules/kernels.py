"""Transitions of MCMC kernels, for the weights of many data sets at once.

Every particle of every data set is a chain of one pure kernel, and its log density is that of its
own data set. HMC goes along the gradient of the loss; elliptical slice sampling needs none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.energies import gaussian_parts
from pyro_ebm.energies.tilted import without_validation
from pyro_ebm.mcmc.elliptical_slice import elliptical_slice
from pyro_ebm.mcmc.kernel import Kernel, Noise, Settings
from pyro_ebm.mcmc.local_hmc import local_hmc
from pyro_ebm.mcmc.metric import DiagonalMetric
from pyro_ebm.mcmc.transitions import one_transition

from .problem import Problem


class WeightState(NamedTuple):
    """Weights [D, n, N] with their energies [D, n]."""

    weights: Tensor
    energy: Tensor


class KernelMoves:
    """One transition of a kernel for every particle.

    :param with_gradient: whether the kernel follows a gradient.
    """

    def __init__(
        self, problem: Problem, kernel: Kernel, *, with_gradient: bool, target_acceptance: float
    ) -> None:
        self._problem, self._kernel = problem, kernel
        # A trajectory that diverges reaches no number, and is rejected for it.
        self._prior = without_validation(problem.prior)
        self._with_gradient = with_gradient
        self.target_acceptance = target_acceptance

    def begin(self, weights: Tensor) -> WeightState:
        """The state of weights [D, n, N]."""
        return WeightState(weights, self._problem.energies(weights))

    def take(self, state: WeightState, index: Tensor) -> WeightState:
        """The state of the particles ``index`` [D, n] of every data set."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return WeightState(state.weights[rows, index], state.energy[rows, index])

    def sweep(
        self, state: WeightState, beta: float, scale: Tensor, generator: torch.Generator
    ) -> tuple[WeightState, Tensor]:
        """One transition.

        :param scale: the step size of every data set [D].
        :returns: the state, and the mean acceptance rate [D].
        """
        sets, particles, dim = state.weights.shape
        positions = state.weights.reshape(-1, dim).T.contiguous()
        zero = torch.zeros((), dtype=torch.long, device=positions.device)
        metric = DiagonalMetric(self._problem.deviation[None])
        step_sizes = scale.to(positions).repeat_interleave(particles)
        settings = Settings(step_sizes, metric, zero, zero + 30)

        def density(positions: Tensor) -> tuple[Tensor, Tensor]:
            return self._density(positions, beta, (sets, particles))

        def advance(chain: Any, noise: Noise) -> Any:
            return self._kernel.step(density, chain, noise, settings)

        chain = self._kernel.init(positions, *density(positions), settings)
        moved = one_transition(self._kernel, advance, chain, positions, generator)
        weights = moved.positions.T.reshape(sets, particles, dim)
        rate = moved.acceptance.reshape(sets, particles).mean(1)
        return self.begin(weights), rate

    def _density(
        self, positions: Tensor, beta: float, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        def of(weights: Tensor) -> Tensor:
            energy = self._problem.energies(weights)
            # No loss is no loss, also at beta = infinity.
            weighed = torch.where(energy == 0, 0.0, beta * energy)
            prior: Tensor = self._prior.log_prob(weights)
            return (prior.to(weights.dtype) - weighed).flatten()

        weights = positions.T.reshape(*shape, -1)
        if not self._with_gradient:
            with torch.no_grad():
                return of(weights), torch.zeros_like(positions)
        with torch.enable_grad():
            leaf = weights.detach().requires_grad_()
            value = of(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient.reshape(-1, len(positions)).T.contiguous()


def hmc_moves(problem: Problem, *, num_steps: int) -> KernelMoves:
    """HMC whose steps follow the local scale."""
    kernel = local_hmc(num_steps=num_steps)
    return KernelMoves(problem, kernel, with_gradient=True, target_acceptance=0.75)


def slice_moves(problem: Problem) -> KernelMoves:
    """Elliptical slice sampling beside the prior, which is a Gaussian."""
    mean, factor = gaussian_parts(problem.prior)
    kernel = elliptical_slice(mean.to(problem.mean), factor.to(problem.mean))
    return KernelMoves(problem, kernel, with_gradient=False, target_acceptance=1.0)
