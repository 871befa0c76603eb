"""How a run is driven: what is recorded, what is compiled, chosen before it begins by its size.

Three gears. *Traced*: the step and the gradient as recorded, which starts at once. *Native*: the
gradient as recorded, the bookkeeping of NUTS in C, compiled in seconds once for a machine.
*Compiled*: the gradient compiled too, once for a model and its shapes: written in C and compiled in
a second or so, or, where an operation of it is not known there, by torch's own compiler in half a
minute. What is compiled is kept on disk, and costs a later process next to nothing.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from pyro_ebm.c_compiler import NoLibrary
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import in_pieces, traced

from ..kernel import Kernel
from ..run import Problem
from .mixed import mixed_kernel

# Seconds that compilation takes, in C and by torch, and those that it saves a step and a step and
# number: orders of magnitude, measured once, so that the choice depends on the run alone.
_IN_C, _BY_TORCH, _A_STEP, _A_NUMBER = 0.2, 25.0, 3e-4, 2e-9
_STEPS_A_TRANSITION = 8


@runtime_checkable
class Sampler(Protocol):
    """What a gear asks of a kernel as users write it."""

    jit_compile: Any

    def kernel(self) -> Kernel:
        """The pure kernel, in torch."""
        ...

    def native_kernel(self, target: Target) -> Kernel | None:
        """The same with its bookkeeping in C; None where there is no such, or it is no faster.

        :raises NoLibrary: where it cannot be compiled.
        """
        ...


@runtime_checkable
class DiscreteSampler(Protocol):
    """The same of a kernel over states, which depends on the target."""

    jit_compile: Any
    recorded: bool

    def kernel_of(self, target: Target) -> Kernel:
        """The pure kernel, in torch."""
        ...

    def kernel_in_batches(self, target: Target, size: int) -> Kernel:
        """The same, which evaluates so many chains at a time."""
        ...

    def native_kernel(self, target: Target) -> Kernel | None:
        """The same in C; None where there is no such.

        :raises NoLibrary: where it cannot be compiled.
        """
        ...


class Chains(NamedTuple):
    """Where the chains start [dim, chains], and how many of them are evaluated at a time."""

    positions: Tensor
    batch_size: int | None = None

    @property
    def whole(self) -> bool:
        """Whether all are evaluated at once."""
        return self.batch_size is None or self.batch_size >= self.positions.shape[1]

    def in_batches(self, density_at: Callable[[Tensor], Callable]) -> Callable:
        """A density of all chains from densities for as many as some positions are."""
        if self.batch_size is None or self.whole:
            return density_at(self.positions)
        size = self.batch_size
        parts = self.positions.split(size, dim=1)
        densities = {part.shape[1]: density_at(part.contiguous()) for part in (parts[0], parts[-1])}

        def density(positions: Tensor) -> tuple[Tensor, Tensor]:
            return in_pieces(lambda part: densities[part.shape[1]](part), positions, size)

        return density


class Gear(NamedTuple):
    """What drives a run: its name, the kernel, and the density and recorder for the loop."""

    name: str
    kernel: Kernel
    problem: Problem


def check_gear(jit_compile: Any) -> None:
    """Refuse what is no gear.

    :raises ValueError: neither True, False nor "auto".
    """
    if not (isinstance(jit_compile, bool) or jit_compile == "auto"):
        raise ValueError(f'jit_compile must be True, False or "auto", got {jit_compile!r}.')


def gear_of(
    sampler: Sampler | DiscreteSampler, target: Target, starts: Chains, transitions: int
) -> Gear:
    """The gear of a run.

    :param transitions: of a chain, warm-up too.
    """
    name, native = _chosen(sampler, target, starts.positions.shape[1], transitions)
    return _made(name, native, sampler, target, starts)


def name_of_gear(
    sampler: Sampler | DiscreteSampler, target: Target, num_chains: int, transitions: int
) -> str:
    """What gear :func:`gear_of` would take."""
    return _chosen(sampler, target, num_chains, transitions)[0]


def same_gear(
    name: str, sampler: Sampler | DiscreteSampler, target: Target, starts: Chains
) -> Gear:
    """The gear of that name, in which a run was begun that goes on now, or here.

    :raises ValueError: where this machine has no C compiler, which the gear needs.
    """
    if name == "traced":
        return _made(name, None, sampler, target, starts)
    try:
        native = sampler.native_kernel(target)
    except NoLibrary as error:
        raise ValueError(
            f"The run was begun in the gear {name!r}, which needs a C compiler, and {error}. Go "
            "on with it where there is one."
        ) from error
    if isinstance(sampler, DiscreteSampler) and native is None:
        raise ValueError(f"The run was begun in the gear {name!r}, which this one has not.")
    return _made(name, native, sampler, target, starts)


def _chosen(
    sampler: Sampler | DiscreteSampler, target: Target, num_chains: int, transitions: int
) -> tuple[str, Kernel | None]:
    """The name of a gear, and the kernel in C where it needs one and there is one."""
    wanted, over_states = sampler.jit_compile, isinstance(sampler, DiscreteSampler)
    if target.sampled or wanted is False or target.device.type != "cpu":
        return "traced", None
    if not over_states and not target.vectorized:
        return "traced", None
    try:
        native = sampler.native_kernel(target)
    except NoLibrary as error:
        # Who cannot compile C cannot compile what else there is, either.
        _tell(str(error))
        return "traced", None
    if not over_states:
        in_c = native is not None and target.in_c is not None
        if wanted is True or _saved(target, num_chains, transitions) > (
            _IN_C if in_c else _BY_TORCH
        ):
            return "compiled", native
    return "traced" if native is None else "native", native


def _made(
    name: str,
    native: Kernel | None,
    sampler: Sampler | DiscreteSampler,
    target: Target,
    starts: Chains,
) -> Gear:
    if name == "traced":
        if target.sampled:
            return _mixed(sampler, target, starts)
        if isinstance(sampler, DiscreteSampler):
            return _recorded(sampler, target, starts)
        return _traced(sampler, target, starts)
    if not isinstance(sampler, DiscreteSampler) and (name == "compiled" or native is None):
        return _compiled(sampler, native, target, starts)
    assert native is not None
    return _with_part_in_c(native, target, starts)


def _mixed(sampler: Sampler | DiscreteSampler, target: Target, starts: Chains) -> Gear:
    """Continuous coordinates and states: in torch, recorded."""
    if not starts.whole:
        raise ValueError(
            "chain_batch_size= is not offered where discrete sites are sampled: leave it out."
        )
    problem = Problem(target.recorded, target.recorder(starts.positions))
    return Gear("traced", mixed_kernel(sampler, target), problem)


def _recorded(sampler: DiscreteSampler, target: Target, starts: Chains) -> Gear:
    if starts.whole or starts.batch_size is None:
        kernel = sampler.kernel_of(target)
    else:
        kernel = sampler.kernel_in_batches(target, starts.batch_size)
    if sampler.recorded and starts.whole:
        problem = Problem(target.recorded, target.recorder(starts.positions))
    else:
        problem = Problem(starts.in_batches(target.recorded.at), _as_it_is)
    return Gear("traced", kernel, problem)


def _traced(sampler: Sampler, target: Target, starts: Chains) -> Gear:
    if starts.whole:
        problem = Problem(target.recorded, target.recorder(starts.positions))
    else:
        density = starts.in_batches(lambda _: target.log_density_and_gradient)
        problem = Problem(density, traced if target.vectorized else _as_it_is)
    return Gear("traced", sampler.kernel(), problem)


def _with_part_in_c(native: Kernel, target: Target, starts: Chains) -> Gear:
    return Gear("native", native, Problem(starts.in_batches(target.recorded.at), _as_it_is))


def _compiled(sampler: Sampler, native: Kernel | None, target: Target, starts: Chains) -> Gear:
    compiled = functools.partial(traced, compile_graph=True)
    if native is None:
        density = starts.in_batches(lambda _: target.log_density_and_gradient)
        return Gear("compiled", sampler.kernel(), Problem(density, compiled))
    made: list[Any] = []

    def density_at(positions: Tensor) -> Callable:
        if target.in_c is None:
            made.append(compiled(target.log_density_and_gradient, positions))
        else:
            in_c = target.in_c.at(positions, target.log_density_and_gradient)
            made.append(in_c or target.recorded.at(positions))
        return made[-1]

    density = starts.in_batches(density_at)
    # What could not be compiled runs as recorded, in the gear that this is.
    name = "compiled" if all(getattr(each, "compiled", False) for each in made) else "native"
    return Gear(name, native, Problem(density, _as_it_is))


def _as_it_is(function: Callable, *_: Any) -> Callable:
    return function


def _saved(target: Target, chains: int, transitions: int) -> float:
    """Seconds that compiled code saves in a run."""
    a_step = _A_STEP + _A_NUMBER * target.numbers_per_run * chains
    return _STEPS_A_TRANSITION * transitions * a_step


@functools.cache
def _tell(why: str) -> None:
    warnings.warn(
        f"What a sampler does beside the density runs in torch, some times slower, because {why}.",
        stacklevel=3,
    )
