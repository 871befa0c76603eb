"""Draws from an unnormalised distribution by Markov chains, for the times when Pyro asks for one.

Every draw is the end of a chain of its own: all elements of the sample shape and of the batch run
side by side, each from its own start, and only the last state is given. The chains are those of
the package's one sampling loop, in the unconstrained space of the support.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cache
from math import prod
from types import FrameType
from typing import TYPE_CHECKING

import torch
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.infer.inspect import TrackProvenance
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.distributions import Distribution, biject_to, transform_to
from torch.distributions.constraints import Constraint

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.couplings import ferromagnet
from pyro_ebm.mcmc.discrete_adaptation import DiscreteWarmup
from pyro_ebm.mcmc.gibbs import gibbs
from pyro_ebm.mcmc.kernel import Kernel
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.path_auxiliary import path_auxiliary
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.mcmc.swendsen_wang import swendsen_wang
from pyro_ebm.normalizers import broadcasts_to
from pyro_ebm.shapes import unconstrained_shape
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram, is_discrete

if TYPE_CHECKING:
    from .distribution import EnergyDistribution

# Transitions of every chain, the last of which is the draw; 20 of them follow the adaptation.
NUM_TRANSITIONS = 120
_MAX_TREE_DEPTH = 6
_MAX_TRIES = 100
_RADIUS = 2.0
# Blocks of a sweep of Gibbs beyond which paths of changes get farther in as many steps.
_MOST_BLOCKS = 16


class ApproximateSampleWarning(UserWarning):
    """`EnergyDistribution.sample()` ran a short Markov chain: its draws are approximate."""


@cache
def warn_approximate() -> None:
    """Tell once that draws are the ends of short chains.

    Python's own once-per-line forgets whenever a library touches the warning filters.
    """
    warnings.warn(
        f"EnergyDistribution.sample() gives the state of a Markov chain after {NUM_TRANSITIONS} "
        "transitions from its start: approximate where the chain is slow or the modes are far "
        "apart. For draws with diagnostics run MCMC; an energy with an exact sampler is drawn "
        "from exactly.",
        ApproximateSampleWarning,
        stacklevel=3,
    )


def only_a_start_is_wanted() -> bool:
    """Whether Pyro calls `sample` to learn shapes, dependences or initial values.

    It does under InitMessenger and TrackProvenance, and where it guesses how deep plates nest.
    """
    if any(isinstance(messenger, InitMessenger | TrackProvenance) for messenger in _PYRO_STACK):
        return True
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        guessing = frame.f_code.co_name == "_guess_max_plate_nesting"
        if guessing and str(frame.f_globals.get("__name__")).startswith("pyro."):
            return True
        frame = frame.f_back
    return False


def checked_reference(
    reference: object, batch: torch.Size, event: torch.Size
) -> Distribution | Tensor | None:
    """A place to start that fits the configurations.

    Args:
        reference: a distribution over events, a tensor [*sample, *batch, *event], or None.
        batch: the batch shape.
        event: the shape of one configuration.

    Raises:
        TypeError: the reference is neither a distribution nor a tensor.
        ValueError: its events have another shape, or its batch does not broadcast to this one.
    """
    if reference is None:
        return None
    if isinstance(reference, Distribution):
        given_batch, given = reference.batch_shape, reference.event_shape
    elif isinstance(reference, Tensor):
        split = max(reference.dim() - len(event), 0)
        given_batch = reference.shape[max(split - len(batch), 0) : split]
        given = reference.shape[split:]
    else:
        raise TypeError(
            f"expected reference to be a distribution or a tensor, got {type(reference).__name__}."
        )
    if given != event:
        raise ValueError(
            f"expected a reference over events of shape {tuple(event)}, got {tuple(given)}. "
            "Write reference.to_event(n) for a distribution whose batch is part of one event."
        )
    if not broadcasts_to(given_batch, batch):
        raise ValueError(
            f"expected a reference whose batch shape broadcasts to {tuple(batch)}, got "
            f"{tuple(given_batch)}. It gives one start for each element of the batch."
        )
    return reference


def propose_starts(distribution: EnergyDistribution, sample_shape: torch.Size) -> Tensor:
    """Where chains start: the reference, else transform_to(support) of a uniform(-2, 2), or random
    states of a discrete support.

    Returns:
        A tensor [*sample, *batch, *event].

    Raises:
        ValueError: the support has no transform.
    """
    reference, like = distribution.reference, distribution.like
    batch, event = distribution.batch_shape, distribution.event_shape
    shape = sample_shape + batch + event
    if reference is None and is_discrete(distribution.support):
        program = DiscreteProgram(distribution.energy, torch.ones(()), exact_changes=None)
        generator = torch.Generator(like.device).manual_seed(int(torch.randint(2**62, ())))
        positions = program.starts((sample_shape + batch).numel(), generator)
        return program.values(positions.T).to(program.sites[0].dtype).reshape(shape)
    if reference is None:
        try:
            transform = transform_to(distribution.support)
        except NotImplementedError:
            raise ValueError(
                f"The support {distribution.support} has no transform from an unconstrained "
                "space to start from. Give reference=, a distribution or tensor inside it."
            ) from None
        unconstrained = torch.rand(
            unconstrained_shape(transform, shape), dtype=like.dtype, device=like.device
        )
        return transform((2.0 * unconstrained - 1.0) * _RADIUS).expand(shape).detach()
    if isinstance(reference, Distribution):
        return reference.expand(batch).sample(sample_shape).detach()
    return reference.detach().expand(shape).clone()


def draw(
    log_density: Callable[[Tensor], Tensor],
    propose: Callable[[], Tensor],
    support: Constraint,
    *,
    num_transitions: int = NUM_TRANSITIONS,
    generator: torch.Generator,
) -> Tensor:
    """The last states of one short NUTS chain per element.

    Args:
        log_density: of configurations [*batch, *event], one number per element of the batch.
        propose: gives starts [*batch, *event] inside the support, anew at every call.
        support: where the configurations live, with its bijection.
        num_transitions: transitions of every chain, adaptation included.
        generator: the random stream.

    Returns:
        A tensor [*batch, *event], without gradient.

    Raises:
        ValueError: no start of finite density in 100 tries; the support has no bijection.
    """
    transform = _bijection(support)
    start = propose()
    shape = transform.inv(start).shape
    batch = start.shape[: start.dim() - support.event_dim]
    chains = prod(batch)

    def constrain(positions: Tensor) -> tuple[Tensor, Tensor]:
        unconstrained = positions.T.reshape(shape)
        return unconstrained, transform(unconstrained)

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            moving = positions.detach().requires_grad_(True)
            unconstrained, x = constrain(moving)
            log_det = transform.log_abs_det_jacobian(unconstrained, x)
            value = (log_density(x) + log_det).reshape(chains)
            (gradient,) = torch.autograd.grad(value.sum(), moving)
        return value.detach(), gradient.contiguous()

    def positions_of(x: Tensor) -> Tensor:
        return transform.inv(x).reshape(chains, -1).T.contiguous()

    positions = _finite_start(log_density_and_gradient, lambda: positions_of(propose()))
    result = run_chains(
        Problem(log_density_and_gradient, lambda function, *example: function),
        nuts(max_tree_depth=_MAX_TREE_DEPTH),
        positions,
        Plan(1, Warmup(num_transitions - 1, max_tree_depth=_MAX_TREE_DEPTH)),
        generator=generator,
    )
    if result.error is not None:
        raise result.error
    return constrain(result.draws.positions[0])[1].detach()


def draw_states(
    energy: Energy, temperature: Tensor, number: int, *, generator: torch.Generator
) -> Tensor:
    """The last states of as many short chains over the states of a discrete energy.

    Args:
        energy: the energy.
        temperature: one number.
        number: how many draws.
        generator: the random stream.

    Returns:
        A tensor [number, *event].

    Raises:
        ValueError: no start of finite energy in 100 tries.
    """
    target = Target.from_energy(energy, temperature=temperature)
    guess = max(1.0, target.dim ** (2 / 3) / 4)
    warmup = DiscreteWarmup(
        NUM_TRANSITIONS - 1,
        step_size=guess,
        adapt_step_size=True,
        min_step_size=1.0,
        max_step_size=max(1.0, target.dim / 2),
    )
    result = run_chains(
        Problem(target.log_density_and_changes, lambda function, *example: function),
        _over_states(target),
        target.initial_positions(number, generator=generator),
        Plan(1, warmup),
        generator=generator,
    )
    if result.error is not None:
        raise result.error
    return target.constrain(result.draws.positions[0].T)["x"]


def _over_states(target: Target) -> Kernel:
    """Clusters where bonds attract, sweeps of few blocks, else paths of changes."""
    try:
        return swendsen_wang(ferromagnet(target))
    except ValueError:
        program = target.program
        assert isinstance(program, DiscreteProgram)
        if target.exact_changes and int(program.blocks.max()) < _MOST_BLOCKS:
            return gibbs(program.blocks)
        return path_auxiliary(target.dim)


def _bijection(support: Constraint):
    try:
        return biject_to(support)
    except NotImplementedError:
        raise ValueError(
            f"The support {support} has no bijection from an unconstrained space, so no chain can "
            "move on it. Give the energy a support that has one."
        ) from None


def _finite_start(
    log_density_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    propose: Callable[[], Tensor],
) -> Tensor:
    positions = propose()
    bad = positions.shape[1]
    for _ in range(_MAX_TRIES):
        value, gradient = log_density_and_gradient(positions)
        good = value.isfinite() & gradient.isfinite().all(0)
        bad = int((~good).sum())
        if bad == 0:
            return positions
        positions = torch.where(good, positions, propose())
    raise ValueError(
        f"expected starts of finite energy and gradient, found none for {bad} of "
        f"{positions.shape[1]} chains in {_MAX_TRIES} tries. Give reference= where the energy is "
        "finite."
    )
