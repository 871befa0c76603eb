"""The negative phase: chains that follow an energy while it is being learned.

The gradient of the log likelihood of data under p(x) = exp(-E(x)) / Z is

    -E_data[dE/dtheta] + E_p[dE/dtheta],

and its second half, the negative phase, needs draws of the present p. Chains are moved by the
kernels of MCMC on a target that is frozen once: what is recorded reads the parameters where they
lie, so that a step of the optimiser is seen at the next transition. Step sizes follow the
acceptance rate while learning goes on; each transition by itself leaves the present p invariant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.c_compiler import NoLibrary
from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api import HMC, Gibbs, Langevin
from pyro_ebm.mcmc.api.auto_kernel import auto_kernel
from pyro_ebm.mcmc.api.discrete_kernels import DiscreteKernel, SwendsenWang
from pyro_ebm.mcmc.couplings import binary_pairs
from pyro_ebm.mcmc.discrete import discrete_settings
from pyro_ebm.mcmc.kernel import Kernel, Noise, Settings
from pyro_ebm.mcmc.metric import DiagonalMetric
from pyro_ebm.mcmc.transitions import Moved, one_transition
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram, is_discrete
from pyro_ebm.target.layout import bijection

# What "auto" takes for continuous energies: leapfrog steps of a transition.
_LEAPS = 8
# How far one transition moves the step size, in the end, and how far it may at first.
_GAIN, _FIRST_GAIN = 0.05, 1.0
_LONGEST, _SHORTEST = 1e3, 1e-6


class ChainState(NamedTuple):
    """Chains between two steps of learning.

    ``positions`` [dim, chains] are unconstrained, or numbers of states; ``step_size`` is one
    number, ``updates`` counts how often it was adapted; ``center`` and ``scale`` [dim] are those of
    the data, in whose units the chains step, and around which they begin anew.
    """

    positions: Tensor
    step_size: Tensor
    updates: Tensor
    center: Tensor
    scale: Tensor


class Chains:
    """Moves chains of one energy, which may be in training.

    :param energy: the energy; where it has an ``augmented`` one, chains live on that.
    :param sampler: a kernel's class or what else makes a kernel of MCMC of a model, a
        :class:`Langevin` without a model, or "auto".
    :raises TypeError: a sampler that makes no kernel.
    """

    def __init__(self, energy: Energy, sampler: Any) -> None:
        augmented = energy.augmented
        self._augmented = augmented
        self.energy = energy if augmented is None else augmented.energy
        self.discrete = is_discrete(self.energy.support)
        self.target = Target.from_energy(self.energy)
        self.api = _kernel_of(sampler, self.target, self.discrete)
        self.biased = isinstance(self.api, Langevin) and not self.api.adjusted
        # By number of chains, as recordings hold for one.
        self._enter: dict[int, Callable[..., Any]] = {}
        self._step: dict[int, Callable[..., Any]] = {}
        self._kernel: Kernel | None = None

    def begin(self, data: Tensor, generator: torch.Generator) -> ChainState:
        """Chains at rows of data [n, *event].

        :raises ValueError: rows outside of the support, or on its border.
        """
        positions = self.positions_of(data, generator)
        plan = self.api.warmup(self.target, 0)
        ones = positions.new_ones(positions.shape[0])
        if self.discrete:
            center = scale = ones
        else:
            center = positions.mean(1)
            spread = positions.std(1) if positions.shape[1] > 1 else ones
            scale = torch.where(spread > 0, spread, ones)
        step_size = torch.tensor(float(plan.step_size), dtype=torch.float64)
        return ChainState(positions, step_size, torch.zeros((), dtype=torch.long), center, scale)

    def fresh(self, state: ChainState, number: int, generator: torch.Generator) -> Tensor:
        """Positions [dim, number] to begin anew: twice as wide as the data, or random states."""
        if self.discrete:
            return self.target.initial_positions(number, generator=generator)
        shape = (len(state.center), number)
        like = state.positions
        noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return state.center[:, None] + 2.0 * state.scale[:, None] * noise

    def move(
        self, state: ChainState, transitions: int, generator: torch.Generator
    ) -> tuple[ChainState, float]:
        """All chains after so many transitions, and the mean acceptance rate of these."""
        acceptance = 0.0
        for _ in range(transitions):
            moved = self._one(state, generator)
            rate = float(moved.acceptance.mean())
            acceptance += rate / transitions
            state = self._adapted(state._replace(positions=moved.positions), rate)
        return state, acceptance

    def values(self, positions: Tensor) -> Tensor:
        """Configurations [n, *event] at positions [dim, n], without gradient."""
        with torch.no_grad():
            if self.discrete:
                program = self.target.program
                assert isinstance(program, DiscreteProgram)
                x = program.values(positions.T)
            else:
                (site,) = self.target.sites
                unconstrained = positions.T.reshape(-1, *site.unconstrained_shape)
                moved: Any = bijection(self.energy.support, "x")(unconstrained)
                x = moved
            x = x.reshape(-1, *self.energy.event_shape)
            return x if self._augmented is None else self._augmented.visible(x)

    def positions_of(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Positions [dim, n] of configurations [n, *event]; what was summed out is drawn.

        :raises ValueError: outside of the support, or on its border.
        """
        with torch.no_grad():
            x = values
            if self._augmented is not None:
                x = self._augmented.complete(values, generator)
            if self.discrete:
                return self.target.unconstrain({"x": x}).T.contiguous()
            unconstrained: Any = bijection(self.energy.support, "x").inv(x.to(self.target.dtype))
            positions = unconstrained.reshape(len(x), -1).T.contiguous()
        if not bool(positions.isfinite().all()):
            raise ValueError(
                f"expected data inside the support {self.energy.support}, from which chains can "
                "start, got values outside of it or on its border."
            )
        return positions

    def _one(self, state: ChainState, generator: torch.Generator) -> Moved:
        positions = state.positions
        chains = positions.shape[1]
        native = self._native() if self.discrete else None
        if native is not None:  # made anew: what is in C has copied the parameters
            settings = self._settings(state)
            swept = native.init(positions, positions.new_zeros(chains), positions, settings)
            step = native.step
            return one_transition(
                native,
                lambda chain, noise: step(_not_asked, chain, noise, settings),
                swept,
                positions,
                generator,
            )
        kernel = self._torch_kernel()
        settings = self._settings(state)
        record = self.target.recorder(positions)
        if chains not in self._enter:
            self._enter[chains] = record(self._begun, positions, settings)
        begun = self._enter[chains](positions, settings)

        def advance(chain: Any, noise: Noise) -> Any:
            if chains not in self._step:
                self._step[chains] = record(self._advanced, chain, noise, settings)
            return self._step[chains](chain, noise, settings)

        return one_transition(kernel, advance, begun, positions, generator)

    def _begun(self, positions: Tensor, settings: Settings) -> Any:
        log_density, gradient = self.target.recorded(positions)
        return self._torch_kernel().init(positions, log_density, gradient, settings)

    def _advanced(self, chain: Any, noise: Noise, settings: Settings) -> Any:
        return self._torch_kernel().step(self.target.recorded, chain, noise, settings)

    def _native(self) -> Kernel | None:
        if not isinstance(self.api, Gibbs):
            return None
        try:
            return self.api.native_kernel(self.target)
        except NoLibrary:
            return None

    def _torch_kernel(self) -> Kernel:
        if self._kernel is None:
            api = self.api
            made: Kernel = api.kernel_of(self.target) if self.discrete else api.kernel()
            self._kernel = made
        return self._kernel

    def _settings(self, state: ChainState) -> Settings:
        positions = state.positions
        size = float(state.step_size)
        if self.discrete:
            return discrete_settings(size, positions)
        zero = torch.zeros((), dtype=torch.long, device=positions.device)
        return Settings(
            positions.new_full((positions.shape[1],), size),
            DiagonalMetric(state.scale[None].to(positions)),
            zero,
            zero + self.api.max_tree_depth,
        )

    def _adapted(self, state: ChainState, rate: float) -> ChainState:
        """The step size moved towards that of the wished acceptance rate."""
        plan: Any = self.api.warmup(self.target, 0)
        if not plan.adapt_step_size:
            return state
        gain = max(_GAIN, _FIRST_GAIN / math.sqrt(1.0 + int(state.updates)))
        wished = float(plan.target_acceptance)
        size = float(state.step_size) * math.exp(gain * (rate - wished) / (1.0 - wished))
        low, high = (_SHORTEST, _LONGEST)
        if self.discrete:
            low, high = plan.min_step_size, plan.max_step_size
        bounded = torch.full_like(state.step_size, min(max(size, low), high))
        return state._replace(step_size=bounded, updates=state.updates + 1)


def _kernel_of(sampler: Any, target: Target, discrete: bool) -> Any:
    if isinstance(sampler, Langevin):
        made: Any = sampler.on(target)
    elif callable(sampler):
        made = sampler(target)
    elif sampler == "auto":
        made = _default(target) if discrete else HMC(target, num_steps=_LEAPS, step_size=0.1)
    else:
        raise TypeError(
            'expected sampler to be "auto", a kernel such as pyro_ebm.HMC that is called with a '
            "model, or Langevin(...) without one, got "
            f"{type(sampler).__name__}. Settings go in by functools.partial(pyro_ebm.HMC, "
            "num_steps=4)."
        )
    if not hasattr(made, "warmup") or isinstance(made, SwendsenWang):
        raise TypeError(
            f"expected sampler to make a kernel of MCMC whose moves follow changing parameters, "
            f"got {type(made).__name__}."
        )
    if discrete != isinstance(made, DiscreteKernel):
        kind = "discrete" if discrete else "continuous"
        raise TypeError(
            f"expected a sampler for a {kind} energy, got {type(made).__name__}. "
            'sampler="auto" chooses one.'
        )
    return made


def _default(target: Target) -> Any:
    """Sweeps where they are cheap, whatever the couplings are at present; else what moves many
    sites by one look."""
    if binary_pairs(target) is not None:
        return Gibbs(target)
    chosen = auto_kernel(target)
    return functools.partial(Gibbs, target)() if isinstance(chosen, SwendsenWang) else chosen


def _not_asked(positions: Tensor) -> Any:
    raise RuntimeError("sweeps in C give the log density themselves.")
