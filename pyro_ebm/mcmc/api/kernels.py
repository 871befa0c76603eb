"""NUTS and HMC as Pyro's users write them: what to sample, and how to adapt."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_uniform
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.target import Target

from ..adaptation import Auto, Dense, Diagonal, LowRank, MetricKind, Warmup
from ..hmc import hmc
from ..hmc import restarted as restarted_hmc
from ..kernel import Kernel, Settings
from ..native_nuts import native_nuts
from ..nuts import nuts
from ..nuts import restarted as restarted_nuts
from .gears import check_gear
from .record import RunRecord

# Beyond it torch's products of matrices outweigh all else that a step does.
_LARGEST_DENSE = 500


class _PyroKernel:
    """What all kernels share: the target they are given, and how it is adapted to."""

    lacks_log_z = False

    def __init__(
        self,
        model: Any,
        potential_fn: Callable | None,
        step_size: float | int,
        *,
        adapt_step_size: bool,
        adapt_mass_matrix: bool,
        full_mass: Any,
        transforms: Mapping[str, Any] | None,
        max_plate_nesting: int | None,
        jit_compile: Any,
        target_accept_prob: float,
        init_strategy: Callable,
    ) -> None:
        if (model is None) == (potential_fn is None):
            raise ValueError("Give exactly one of model and potential_fn.")
        if (
            model is not None
            and not isinstance(model, Target)
            and not (callable(model) or hasattr(model, "log_prob"))
        ):
            raise TypeError(
                "Expected a Pyro model, an EnergyDistribution, an Energy or a Target, got "
                f"{type(model).__name__}."
            )
        if not 0.0 < float(step_size) < math.inf:
            raise ValueError(f"step_size must be a positive number, got {step_size}.")
        if not 0.0 < target_accept_prob < 1.0:
            raise ValueError(f"target_accept_prob must lie in (0, 1), got {target_accept_prob}.")
        check_gear(jit_compile)
        self.model = model
        self.potential_fn = potential_fn
        self.step_size = float(step_size)
        self.adapt_step_size = adapt_step_size
        self.adapt_mass_matrix = adapt_mass_matrix
        self.full_mass = full_mass
        self.transforms = transforms
        self.max_plate_nesting = max_plate_nesting
        self.jit_compile = jit_compile
        self.target_accept_prob = target_accept_prob
        self.init_strategy = init_strategy
        self.max_tree_depth = 10
        # None: discrete sites of models are summed out, and refused where they cannot be.
        self.discrete: Mapping[str, str] | None = None
        self.why: str | None = None

    def target(
        self, args: tuple, kwargs: Mapping[str, Any], initial_params: Mapping[str, Tensor] | None
    ) -> Target:
        """Freeze what the kernel was given, with the model's arguments."""
        target = self._frozen(args, kwargs, initial_params, discrete=self.discrete)
        if target.sampled and not hasattr(self, "restarted"):
            raise TypeError(
                f"{type(self).__name__} does not sample the discrete sites {list(target.sampled)} "
                "of this target. Use NUTS or HMC."
            )
        if target.num_states is not None:
            raise TypeError(
                f"{type(self).__name__} moves along a gradient, and this energy is discrete: its "
                "sites have states. Use Gibbs, GibbsWithGradients, PathAuxiliary, "
                "DiscreteLangevin or SwendsenWang; auto_kernel(energy) chooses one."
            )
        return target

    def marginal_target(self, args: tuple, kwargs: Mapping[str, Any]) -> Target:
        """Freeze what the kernel was given with all discrete sites summed out.

        :raises ValueError: there are some that cannot be.
        """
        target = self._frozen(args, kwargs, None, discrete=None)
        if target.sampled:
            raise ValueError(
                f"The discrete sites {list(target.sampled)} of this target are sampled, which MCMC "
                "alone can do: freeze the model without discrete=."
            )
        return target

    def _frozen(
        self,
        args: tuple,
        kwargs: Mapping[str, Any],
        initial_params: Mapping[str, Tensor] | None,
        *,
        discrete: Mapping[str, str] | None,
    ) -> Target:
        model = self.model
        if model is None:
            if initial_params is None:
                raise ValueError(
                    "potential_fn needs initial_params= in MCMC: a dictionary of unconstrained "
                    "tensors, whose names and shapes are the variables."
                )
            assert self.potential_fn is not None
            return Target.from_potential(
                self.potential_fn, initial_params, transforms=self.transforms
            )
        bare = isinstance(model, Target | Energy) or hasattr(model, "log_prob")
        if bare and (args or kwargs):
            raise TypeError(f"A {type(model).__name__} takes no model arguments; run() it without.")
        if isinstance(model, Target):
            return model
        if isinstance(model, Energy):
            return Target.from_energy(model)
        if hasattr(model, "log_prob"):
            return Target.from_distribution(model)
        return Target.freeze(
            model,
            args,
            kwargs,
            transforms=self.transforms,
            max_plate_nesting=self.max_plate_nesting,
            discrete=discrete,
        )

    def warmup(self, target: Target, num_steps: int) -> Warmup:
        """The plan of warm-up for a target."""
        return Warmup(
            num_steps,
            target_acceptance=self.target_accept_prob,
            step_size=self.step_size,
            adapt_step_size=self.adapt_step_size,
            adapt_metric=self.adapt_mass_matrix,
            kind=_metric_kind(self.full_mass, target),
            max_tree_depth=self.max_tree_depth,
        )

    def kernel(self) -> Kernel:
        """The pure kernel behind the class."""
        raise TypeError(f"{type(self).__name__} is not a kernel; use NUTS or HMC.")

    def native_kernel(self, target: Target) -> Kernel | None:
        """The same with its bookkeeping in C; None where there is no such, or it is no faster.

        :raises NoLibrary: where it cannot be compiled.
        """
        return None

    def check_num_chains(self, num_chains: int) -> None:
        """Refuse a number of chains that the kernel cannot adapt with."""

    def learned(self, settings: Settings) -> dict[str, Any]:
        """What this kernel alone has learned, for the attributes of a run."""
        return {} if self.why is None else {"why_this_kernel": self.why}

    def adopted(self, settings: Settings) -> Settings:
        """What a run with any kernel has learned, for a run with this one."""
        return settings

    def examined(self, record: RunRecord, generator: torch.Generator) -> dict[str, Any]:
        """What is looked at after a run, for its attributes: nothing."""
        return {}


def _metric_kind(full_mass: Any, target: Target) -> MetricKind:
    """Pyro's ``full_mass``: a flag, a list of tuples of sites, or one of our metric objects."""
    if isinstance(full_mass, Diagonal | Dense | LowRank):
        return full_mass
    if full_mass == "auto":
        return Auto()
    if isinstance(full_mass, bool):
        return Dense() if full_mass else Diagonal()
    by_name = {site.name: site for site in target.sites if site.states is None}
    dim = target.continuous_dim
    blocks = torch.eye(dim, dtype=torch.bool, device=target.device)
    seen: set[str] = set()
    for names in full_mass:
        if isinstance(names, str) or not all(name in by_name for name in names):
            raise ValueError(
                'full_mass must be "auto", a bool, Diagonal(), Dense(), LowRank(), or a list of '
                f"tuples of the latent sites {sorted(by_name)}; got {full_mass!r}."
            )
        if seen & set(names):
            raise ValueError(f"full_mass names a site twice: {sorted(seen & set(names))}.")
        seen |= set(names)
        inside = torch.zeros(dim, dtype=torch.bool, device=target.device)
        for name in names:
            inside[by_name[name].slice] = True
        blocks |= inside[:, None] & inside
    return Dense(blocks)


class NUTS(_PyroKernel):
    """The no-U-turn sampler, with the arguments of :class:`pyro.infer.NUTS`.

    :param model: a Pyro model, an EnergyDistribution, an Energy (its variable is called ``x``) or
        a Target; or give ``potential_fn``, minus a log density of unconstrained tensors by name.
    :param step_size: the first guess; kept when ``adapt_step_size`` is False.
    :param full_mass: False for a diagonal inverse mass matrix, True for a dense one, a list of
        tuples of sites for dense blocks, or ``LowRank(rank)``. "auto" learns a dense one of up to
        128 dimensions where warm-up has draws enough for it, five a dimension in its longest
        window, all chains together; else a diagonal one.
    :param use_multinomial_sampling: must be True; slice sampling is not offered.
    :param transforms: per site a map from its support to unconstrained space.
    :param jit_compile: False records the step and runs it as it is; True also compiles what a step
        does and the gradient, in a minute the first time (both are kept on disk); "auto" does the
        former of these, and the latter where the run is so long that it pays.
    :param jit_options, ignore_jit_warnings: accepted and ignored.
    :param target_accept_prob: the acceptance rate that the step size is adapted to.
    :param max_tree_depth: trees have at most 2^max_tree_depth - 1 leapfrog steps.
    :param init_strategy: one of pyro.infer.autoguide's ``init_to_...`` functions.
    :param discrete: by discrete latent site of a model "sample" or "marginalise". Those left out
        are summed out where that can be done and their joint table is small, and else sampled: a
        transition is then a trajectory of the continuous sites at fixed states, and a sweep that
        draws states given all else. Sites that the model marks ``infer={"enumerate": ...}`` are
        summed out.
    :raises ValueError: for arguments outside their range.

    Source: Hoffman, Gelman (2014), The No-U-Turn Sampler.
    """

    restarted = staticmethod(restarted_nuts)

    def __init__(
        self,
        model: Any = None,
        potential_fn: Callable | None = None,
        step_size: float | int = 1,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: Any = "auto",
        use_multinomial_sampling: bool = True,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool | str = "auto",
        jit_options: Any = None,
        ignore_jit_warnings: bool = False,
        target_accept_prob: float = 0.8,
        max_tree_depth: int = 10,
        init_strategy: Callable = init_to_uniform,
        *,
        discrete: Mapping[str, str] | None = None,
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
        if not use_multinomial_sampling:
            raise ValueError(
                "use_multinomial_sampling=False is not offered: slice sampling within the tree is "
                "less efficient than multinomial sampling. Leave the argument out."
            )
        if max_tree_depth < 1:
            raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}.")
        self.max_tree_depth = max_tree_depth
        self.discrete = dict(discrete or {})

    def kernel(self) -> Kernel:
        """The pure kernel: multinomial NUTS."""
        return nuts(max_tree_depth=self.max_tree_depth)

    def native_kernel(self, target: Target) -> Kernel | None:
        """The same with its bookkeeping in C, but for large dense metrics: torch is faster."""
        if target.dtype not in (torch.float32, torch.float64):
            return None
        if target.dim > _LARGEST_DENSE and isinstance(_metric_kind(self.full_mass, target), Dense):
            return None
        return native_nuts(target.dtype, max_tree_depth=self.max_tree_depth)


class HMC(_PyroKernel):
    """Hamiltonian Monte Carlo, with the arguments of :class:`pyro.infer.HMC`.

    The trajectory has a length in time (2 pi unless given), or a number of leapfrog steps. Other
    arguments are those of :class:`NUTS`.

    :param trajectory_length: the length in units of the whitened flow.
    :param num_steps: a number of steps, kept whatever the step size becomes.
    :param min_stepsize, max_stepsize: bounds on the adapted step size, as in Pyro.
    :param length_jitter: each transition's length is uniform within 1 -+ this fraction of it.
    :param discrete: as of :class:`NUTS`.

    Source: Neal (2011), MCMC using Hamiltonian dynamics.
    """

    restarted = staticmethod(restarted_hmc)

    def __init__(
        self,
        model: Any = None,
        potential_fn: Callable | None = None,
        step_size: float | int = 1,
        trajectory_length: float | int | None = None,
        num_steps: int | None = None,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: Any = "auto",
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool | str = "auto",
        jit_options: Any = None,
        ignore_jit_warnings: bool = False,
        target_accept_prob: float = 0.8,
        init_strategy: Callable = init_to_uniform,
        *,
        min_stepsize: float | int = 1e-10,
        max_stepsize: float | int = 1e10,
        length_jitter: float | int = 0.0,
        discrete: Mapping[str, str] | None = None,
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
        if trajectory_length is not None and num_steps is not None:
            warnings.warn("trajectory_length is given, so num_steps is ignored.", stacklevel=2)
            num_steps = None
        if trajectory_length is None and num_steps is None:
            trajectory_length = 2 * math.pi
        self.trajectory_length, self.num_steps = trajectory_length, num_steps
        self.length_jitter = length_jitter
        self.discrete = dict(discrete or {})
        self.step_size_range = (min_stepsize, max_stepsize)
        self.kernel()

    def warmup(self, target: Target, num_steps: int) -> Warmup:
        """The plan of warm-up, with Pyro's bounds on the step size."""
        low, high = self.step_size_range
        return super().warmup(target, num_steps)._replace(min_step_size=low, max_step_size=high)

    def kernel(self) -> Kernel:
        """The pure kernel: HMC of the given length."""
        return hmc(
            trajectory_length=self.trajectory_length,
            num_steps=self.num_steps,
            jitter=self.length_jitter,
        )
