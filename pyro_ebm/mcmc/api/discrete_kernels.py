"""Kernels for discrete energies as users write them, given to MCMC like NUTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram, is_discrete

from ..couplings import binary_pairs, ferromagnet
from ..discrete_adaptation import DiscreteWarmup
from ..discrete_langevin import discrete_langevin
from ..gibbs import gibbs
from ..gibbs_with_gradients import gibbs_with_gradients
from ..kernel import Kernel, Settings
from ..native_gibbs import native_gibbs
from ..path_auxiliary import path_auxiliary
from ..swendsen_wang import swendsen_wang
from .arguments import check_share, check_whole
from .gears import check_gear
from .record import RunRecord

# The acceptance rate that locally balanced proposals move farthest at (Sun, Dai, Schuurmans 2022).
_BEST_ACCEPTANCE = 0.574
# Proposals of single changes that make up a transition, where the user says nothing.
_MOST_PROPOSALS = 32


class DiscreteKernel:
    """What kernels over states share; abstract: its subclasses are kernels.

    Attributes: ``recorded`` whether the step can be recorded; ``why`` a sentence, where
    :func:`.auto_kernel` chose the kernel.
    """

    # What MCMC asks of any kernel, and what kernels over states have none of.
    potential_fn: Callable | None = None
    transforms: Mapping[str, Any] | None = None
    max_tree_depth = 0
    recorded = True
    lacks_log_z = False
    why: str | None = None

    def __init__(self, model: Any, *, jit_compile: Any) -> None:
        check_gear(jit_compile)
        if not (isinstance(self, Gibbs) and _is_model(model)):
            checked_discrete(model, type(self).__name__)
        self.model = model
        self.jit_compile = jit_compile

    def init_strategy(self, site: Any) -> Tensor:
        """Not asked: chains start from random states."""
        raise TypeError("chains over states start from random ones.")

    def target(
        self, args: tuple, kwargs: Mapping[str, Any], initial_params: Mapping[str, Tensor] | None
    ) -> Target:
        """Freeze what the kernel was given."""
        if args or kwargs:
            raise TypeError(
                f"A {type(self.model).__name__} takes no model arguments; run() it without."
            )
        return self._frozen()

    def _frozen(self) -> Target:
        return discrete_target(self.model)

    def warmup(self, target: Target, num_steps: int) -> DiscreteWarmup:
        """The plan of warm-up for a target: nothing is tuned."""
        return DiscreteWarmup(num_steps)

    def kernel_of(self, target: Target) -> Kernel:
        """The pure kernel for a target."""
        raise NotImplementedError

    def kernel_in_batches(self, target: Target, size: int) -> Kernel:
        """The same, where chains are evaluated so many at a time."""
        return self.kernel_of(target)

    def native_kernel(self, target: Target) -> Kernel | None:
        """The same in C; None where there is no such.

        :raises NoLibrary: where it cannot be compiled.
        """
        return None

    def check_num_chains(self, num_chains: int) -> None:
        """Any number of chains will do."""

    def learned(self, settings: Settings) -> dict[str, Any]:
        """What this kernel has tuned, for the attributes of a run."""
        return {} if self.why is None else {"why_this_kernel": self.why}

    def adopted(self, settings: Settings) -> Settings:
        """What a run with any kernel has learned, for a run with this one."""
        return settings

    def examined(self, record: RunRecord, generator: torch.Generator) -> dict[str, Any]:
        """What is looked at after a run, for its attributes: nothing."""
        return {}


class Gibbs(DiscreteKernel):
    """Block Gibbs sampling: sites that do not interact are drawn together, a sweep a transition.

    Blocks come from the energy's ``interactions``; where these are unknown every site is a block of
    its own. Pairs of two-state sites (Ising and Boltzmann machines, RBMs) are swept in C.

    Of a Pyro model whose latent sites are all discrete those are drawn together that share no term.

    :param model: a discrete Energy, an EnergyDistribution of one, a Target, or a Pyro model without
        continuous sites (others are for NUTS, which draws discrete sites in the same way).
    :param sweeps: of a transition.
    :param jit_compile: False for torch alone.
    :raises TypeError: no discrete model.
    :raises ValueError: a Target whose changes are not exact.

    Source: Geman, Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian
    restoration of images.
    """

    def __init__(self, model: Any, *, sweeps: int = 1, jit_compile: bool | str = "auto") -> None:
        check_whole("sweeps", sweeps, 1)
        self._of_model = _is_model(model)
        super().__init__(model, jit_compile=jit_compile)
        self.sweeps = sweeps

    def target(
        self, args: tuple, kwargs: Mapping[str, Any], initial_params: Mapping[str, Tensor] | None
    ) -> Target:
        """Freeze what the kernel was given, a model with its arguments.

        :raises ValueError: a model with continuous sites.
        """
        if not self._of_model:
            return super().target(args, kwargs, initial_params)
        target = Target.freeze(self.model, args, kwargs, discrete={})
        if target.continuous_dim:
            names = [site.name for site in target.sites if site.states is None]
            raise ValueError(
                f"Gibbs draws discrete sites, and {names} are continuous. Use NUTS(model), which "
                "draws the discrete sites in the same way between its trajectories."
            )
        return target

    def _frozen(self) -> Target:
        return discrete_target(self.model, exact_changes=True)

    def kernel_of(self, target: Target) -> Kernel:
        """Sweeps over the blocks of the target."""
        program = _program(target)
        if not target.exact_changes:
            raise ValueError(
                "expected exact changes, as Gibbs draws by them without looking back, got changes "
                "guessed from a gradient. Freeze the energy with exact_changes=True, or use "
                "GibbsWithGradients, PathAuxiliary or DiscreteLangevin."
            )
        return gibbs(program.blocks, sweeps=self.sweeps)

    def native_kernel(self, target: Target) -> Kernel | None:
        """Sweeps in C, site after site, where two states interact in pairs."""
        pairs = binary_pairs(target) if target.dtype == torch.float32 else None
        return None if pairs is None else native_gibbs(pairs, sweeps=self.sweeps)


class GibbsWithGradients(DiscreteKernel):
    """Single changes, those proposed most that raise the density most, or lower it least.

    Changes come from the energy where it knows them, from an energy for each where these are few,
    and else from its gradient, for which one look at a whole network is enough.

    :param model: a discrete Energy, an EnergyDistribution of one, or a Target.
    :param num_steps: proposals of a transition; as many as sites, at most 32, unless given.
    :param jit_compile: False to run the step as it is.
    :raises TypeError: no discrete model.

    Source: Grathwohl, Swersky, Hashemi, Duvenaud, Maddison (2021), Oops I took a gradient: scalable
    sampling for discrete distributions.
    """

    def __init__(
        self, model: Any, *, num_steps: int | None = None, jit_compile: bool | str = "auto"
    ) -> None:
        super().__init__(model, jit_compile=jit_compile)
        if num_steps is not None:
            check_whole("num_steps", num_steps, 1)
        self.num_steps = num_steps

    def kernel_of(self, target: Target) -> Kernel:
        """Locally balanced single changes."""
        return gibbs_with_gradients(num_steps=self.num_steps or min(target.dim, _MOST_PROPOSALS))


class PathAuxiliary(DiscreteKernel):
    """Several changes along a path chosen by one look, its length tuned in warm-up.

    :param model: a discrete Energy, an EnergyDistribution of one, or a Target.
    :param path_length: the mean number of changes; a first guess unless ``adapt_length`` is False.
    :param num_steps: proposals of a transition.
    :param target_accept_prob: the acceptance rate that the length is tuned to.
    :param jit_compile: False to run the step as it is.
    :raises TypeError: no discrete model.
    :raises ValueError: for arguments outside their range.

    Source: Sun, Dai, Xia, Ramamoorthy, Schuurmans (2022), Path auxiliary proposal for MCMC in
    discrete space.
    """

    def __init__(
        self,
        model: Any,
        *,
        path_length: float | int | None = None,
        adapt_length: bool = True,
        num_steps: int = 1,
        target_accept_prob: float = _BEST_ACCEPTANCE,
        jit_compile: bool | str = "auto",
    ) -> None:
        super().__init__(model, jit_compile=jit_compile)
        check_whole("num_steps", num_steps, 1)
        check_share("target_accept_prob", target_accept_prob)
        if path_length is not None and not path_length >= 1:
            raise ValueError(f"path_length must be at least 1, got {path_length}.")
        self.path_length, self.adapt_length = path_length, adapt_length
        self.num_steps, self.target_accept_prob = num_steps, target_accept_prob

    def warmup(self, target: Target, num_steps: int) -> DiscreteWarmup:
        """Tunes the mean length of a path."""
        guess = self.path_length or max(1.0, target.dim ** (2 / 3) / 4)
        return DiscreteWarmup(
            num_steps,
            target_acceptance=self.target_accept_prob,
            step_size=float(guess),
            adapt_step_size=self.adapt_length,
            min_step_size=1.0,
            max_step_size=max(1.0, target.dim / 2),
        )

    def kernel_of(self, target: Target) -> Kernel:
        """Paths through the sites of the target."""
        return path_auxiliary(target.dim, num_steps=self.num_steps)

    def learned(self, settings: Settings) -> dict[str, Any]:
        """The mean length of a path."""
        return {**super().learned(settings), "path_length": float(settings.step_size.median())}


class DiscreteLangevin(DiscreteKernel):
    """All sites may change at once, each by its own pull; the step size is tuned in warm-up.

    :param model: a discrete Energy, an EnergyDistribution of one, or a Target.
    :param step_size: how readily sites move; a first guess unless ``adapt_step_size`` is False.
    :param num_steps: proposals of a transition.
    :param target_accept_prob: the acceptance rate that the step size is tuned to.
    :param jit_compile: False to run the step as it is.
    :raises TypeError: no discrete model.
    :raises ValueError: for arguments outside their range.

    Source: Zhang, Liu, Liu (2022), A Langevin-like sampler for discrete distributions.
    """

    def __init__(
        self,
        model: Any,
        *,
        step_size: float | int = 0.2,
        adapt_step_size: bool = True,
        num_steps: int = 1,
        target_accept_prob: float = _BEST_ACCEPTANCE,
        jit_compile: bool | str = "auto",
    ) -> None:
        super().__init__(model, jit_compile=jit_compile)
        check_whole("num_steps", num_steps, 1)
        check_share("target_accept_prob", target_accept_prob)
        if not step_size > 0:
            raise ValueError(f"step_size must be a positive number, got {step_size}.")
        self.step_size, self.adapt_step_size = float(step_size), adapt_step_size
        self.num_steps, self.target_accept_prob = num_steps, target_accept_prob

    def warmup(self, target: Target, num_steps: int) -> DiscreteWarmup:
        """Tunes the step size."""
        return DiscreteWarmup(
            num_steps,
            target_acceptance=self.target_accept_prob,
            step_size=self.step_size,
            adapt_step_size=self.adapt_step_size,
            min_step_size=1e-2,
            max_step_size=1e2,
        )

    def kernel_of(self, target: Target) -> Kernel:
        """The discrete Langevin proposal, accepted or rejected."""
        return discrete_langevin(target.dim, num_steps=self.num_steps)


class SwendsenWang(DiscreteKernel):
    """Clusters of equal sites change at once: for Ising and Potts models whose bonds all attract.

    A field is allowed that lifts one state, the same at every site that has one.

    :param model: an Ising or Potts energy, an EnergyDistribution of one, or a Target.
    :raises TypeError: no discrete model.
    :raises ValueError: in ``run``, for an energy whose clusters would be frustrated, or has none.

    Source: Swendsen, Wang (1987), Nonuniversal critical dynamics in Monte Carlo simulations.
    """

    recorded = False

    def __init__(self, model: Any) -> None:
        super().__init__(model, jit_compile=False)

    def kernel_of(self, target: Target) -> Kernel:
        """Cluster updates of the target."""
        return swendsen_wang(ferromagnet(target))


def discrete_target(model: Any, *, exact_changes: bool | None = None) -> Target:
    """A discrete energy, a distribution of one, or a Target, frozen."""
    if isinstance(model, Target):
        return model
    if isinstance(model, Energy):
        return Target.from_energy(model, exact_changes=exact_changes)
    return Target.from_distribution(model, exact_changes=exact_changes)


def checked_discrete(model: Any, name: str) -> None:
    """Refuse what is no discrete model.

    :raises TypeError: a model of continuous sites among others.
    """
    if isinstance(model, Target):
        discrete = model.num_states is not None
    elif isinstance(model, Energy) or (hasattr(model, "log_prob") and hasattr(model, "energy")):
        discrete = is_discrete(model.support)
    else:
        raise TypeError(
            f"{name} expected a discrete Energy, an EnergyDistribution of one or a Target, got "
            f"{type(model).__name__}. For a net or a function write as_energy(f, event_shape=..., "
            "support=constraints.boolean); discrete sites of Pyro models are for NUTS, or Gibbs "
            "where all are discrete."
        )
    if not discrete:
        raise TypeError(
            f"{name} moves between discrete states, and this {type(model).__name__} is continuous. "
            "Use NUTS."
        )


def _is_model(model: Any) -> bool:
    """Whether it is, or was, a Pyro model, and no energy."""
    if isinstance(model, Target):
        return bool(model.sampled)
    return (
        callable(model)
        and not isinstance(model, torch.nn.Module)
        and not hasattr(model, "log_prob")
    )


def _program(target: Target) -> DiscreteProgram:
    assert isinstance(target.program, DiscreteProgram)
    return target.program
