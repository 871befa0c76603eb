"""How particles move at one inverse temperature: the kernels of MCMC, one transition at a time.

All particles make the same number of transitions. What is tuned, the step size and the metric along
the path, is learned in earlier passes and looked up here by beta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.gibbs import gibbs
from pyro_ebm.mcmc.kernel import Kernel, Noise, Settings
from pyro_ebm.mcmc.local_hmc import local_hmc
from pyro_ebm.mcmc.metric import DenseMetric, DiagonalMetric, Metric
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.path_auxiliary import path_auxiliary
from pyro_ebm.mcmc.tempered_gibbs import TemperedGibbs
from pyro_ebm.mcmc.transitions import Moved, one_transition

from .path import Path

# Up to here the metric of a temperature is dense.
DENSE_UP_TO = 128
_SHRINK = 1e-3
# Steps of a sweep beyond which paths of changes get farther.
_MOST_BLOCKS = 16
# Sweeps in C, there and back, of a transition.
SWEEPS = 2


class HMCMoves(NamedTuple):
    """Moves by HMC: ``num_steps`` leapfrog steps a transition (one is MALA).

    Steps follow the local scale (:mod:`pyro_ebm.mcmc.local_hmc`); ``spread`` is the standard
    deviation of the logarithm of a step size at one position.
    """

    num_steps: int = 4
    num_transitions: int = 1
    target_acceptance: float = 0.75
    spread: float = 0.5

    def kernel(self) -> Kernel:
        """The pure kernel."""
        return local_hmc(num_steps=self.num_steps, spread=self.spread)


class NUTSMoves(NamedTuple):
    """Moves by NUTS with trees of at most 2^``max_tree_depth`` - 1 leapfrog steps."""

    max_tree_depth: int = 5
    num_transitions: int = 1
    target_acceptance: float = 0.8

    def kernel(self) -> Kernel:
        """The pure kernel."""
        return nuts(max_tree_depth=self.max_tree_depth)


class DiscreteMoves(NamedTuple):
    """Moves over states: sweeps in C over pairs of two-state sites
    (:mod:`pyro_ebm.mcmc.tempered_gibbs`); else sweeps of Gibbs where there are few blocks of sites
    that do not interact; else paths of changes (:mod:`pyro_ebm.mcmc.path_auxiliary`), whose length
    is learned. A transition is one sweep or one path, in C two sweeps there and back."""

    num_transitions: int = 1
    target_acceptance: float = 0.574

    def kernel_on(self, path: Path) -> Kernel:
        """The pure kernel for a path."""
        if path.blocks is not None and int(path.blocks.max()) < _MOST_BLOCKS:
            return gibbs(path.blocks)
        return path_auxiliary(path.dim)


Moves = HMCMoves | NUTSMoves | DiscreteMoves


class Tuning(NamedTuple):
    """What was learned along a path: per inverse temperature [t] a step size and a metric.

    ``factor`` is [t, dim, dim], or [t, dim] for a diagonal metric.
    """

    betas: Tensor
    step_size: Tensor
    factor: Tensor

    def at(self, beta: float) -> tuple[float, Tensor]:
        """Step size and factor at the nearest inverse temperature that was visited."""
        nearest = int((self.betas - beta).abs().argmin())
        return float(self.step_size[nearest]), self.factor[nearest]


class Mover:
    """Moves particles along one path; the step is recorded once for every number of them."""

    def __init__(self, path: Path, moves: Moves) -> None:
        self.path, self.moves = path, moves
        over_states = isinstance(moves, DiscreteMoves)
        self._kernel = moves.kernel_on(path) if over_states else moves.kernel()
        self._enter: dict[tuple, Callable] = {}
        self._step: dict[tuple, Callable] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process records for itself.
        return type(self), (self.path, self.moves)

    def enter(self, positions: Tensor, beta: float, factor: Tensor) -> tuple[Any, Tensor]:
        """The state from which :meth:`move` starts at ``beta``, and the slope U [n] there."""
        if self.path.sweeps is not None:
            return None, self.path.sweeps.slope(positions)
        betas = positions.new_full(positions.shape[1:], beta)
        settings = _settings(positions, positions.new_ones(positions.shape[1]), factor)
        shape = tuple(positions.shape)
        if shape not in self._enter:
            self._enter[shape] = self.path.record(self._begin, shape[1], positions, betas, settings)
        entered: tuple[Any, Tensor] = self._enter[shape](positions, betas, settings)
        return entered

    def move(
        self,
        chain: Any,
        positions: Tensor,
        beta: float,
        step_size: float,
        factor: Tensor,
        generator: torch.Generator,
    ) -> Moved:
        """Every particle after ``num_transitions`` transitions that leave p_beta invariant."""
        shape = tuple(positions.shape)
        betas = positions.new_full(shape[1:], beta)
        if self.path.sweeps is not None:
            number = self.moves.num_transitions
            moved = swept(self.path.sweeps, positions, betas, number, generator)
            return Moved(moved, torch.ones_like(betas))
        found = Moved(positions, positions.new_zeros(shape[1:]))
        for transition_number in range(self.moves.num_transitions):
            if transition_number > 0:
                chain, _ = self.enter(found.positions, beta, factor)
            settings = _settings(positions, positions.new_full(shape[1:], step_size), factor)

            def advance(chain: Any, noise: Noise, settings: Settings = settings) -> Any:
                if shape not in self._step:
                    self._step[shape] = self.path.record(
                        self._advance, shape[1], chain, noise, settings, betas
                    )
                return self._step[shape](chain, noise, settings, betas)

            found = one_transition(self._kernel, advance, chain, found.positions, generator)
        return found

    def measured(self, positions: Tensor, weights: Tensor) -> Tensor:
        """The factor of the metric for weighted positions [dim, n]; states have none, and a 1."""
        if isinstance(self.moves, DiscreteMoves):
            return positions.new_ones(1)
        return root_of_covariance(positions, weights)

    def _begin(self, positions: Tensor, betas: Tensor, settings: Settings) -> tuple[Any, Tensor]:
        log_density, gradient, slope = self.path.evaluate(positions, betas)
        return self._kernel.init(positions, log_density, gradient, settings), slope

    def _advance(self, chain: Any, noise: Noise, settings: Settings, betas: Tensor) -> Any:
        def density(positions: Tensor) -> tuple[Tensor, Tensor]:
            log_density, gradient, _ = self.path.evaluate(positions, betas)
            return log_density, gradient

        return self._kernel.step(density, chain, noise, settings)


def swept(
    sweeps: TemperedGibbs,
    positions: Tensor,
    betas: Tensor,
    num_transitions: int,
    generator: torch.Generator,
) -> Tensor:
    """Positions [dim, n] after transitions in C, at the inverse temperature of each."""
    key = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return sweeps.sweep(positions, betas, key, number=SWEEPS * num_transitions)


def _settings(like: Tensor, step_sizes: Tensor, factor: Tensor) -> Settings:
    dense = factor.dim() == 2
    metric: Metric = DenseMetric(factor[None]) if dense else DiagonalMetric(factor[None])
    zero = torch.zeros((), dtype=torch.long, device=like.device)
    return Settings(step_sizes, metric, zero, zero + 30)


def root_of_covariance(positions: Tensor, weights: Tensor) -> Tensor:
    """A root of the covariance of weighted positions [dim, n]: lower triangular, or scales [dim]
    beyond :data:`DENSE_UP_TO` dimensions. Few particles are told less of their correlations."""
    finite = positions.isfinite().all(0)
    x, w = positions[:, finite].double(), weights[finite]
    w = w / w.sum()
    centred = x - (x * w).sum(1, keepdim=True)
    variance = (centred.square() * w).sum(1).clamp(min=1e-300)
    dim = len(x)
    ess = float(1.0 / w.square().sum())
    scale = variance.sqrt()
    if dim > DENSE_UP_TO:
        return scale.to(positions)
    standard = centred / scale[:, None]
    correlation = (standard * w) @ standard.T
    share = ess / (ess + dim)
    eye = torch.eye(dim, dtype=x.dtype, device=x.device)
    mixed = share * correlation + (1.0 - share + _SHRINK) * eye
    factor, failed = torch.linalg.cholesky_ex(mixed)
    if int(failed) != 0:
        factor = eye
    return (scale[:, None] * factor).to(positions)
