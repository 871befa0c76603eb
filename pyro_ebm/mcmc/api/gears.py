"""How a run is driven: what is recorded, what is compiled, chosen before it begins by its size.

Three gears. *Traced*: the step and the gradient as recorded, which starts at once. *Native*: the
gradient as recorded, the bookkeeping of NUTS in C, compiled in seconds once for a machine.
*Compiled*: the gradient compiled too, in a minute once for a model and its shapes. What is compiled
is kept on disk, and costs a later process next to nothing.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced

from ..kernel import Kernel
from ..native.library import NoLibrary
from ..run import Problem

# Seconds that compilation takes, and those that it saves a step and a step and number: orders of
# magnitude, measured once, so that the choice depends on the run alone.
_COMPILATION, _A_STEP, _A_NUMBER = 60.0, 3e-4, 2e-9
_STEPS_A_TRANSITION = 8


@runtime_checkable
class Sampler(Protocol):
    """What a gear asks of a kernel as users write it."""

    jit_compile: Any

    def kernel(self) -> Kernel:
        """The pure kernel, in torch."""
        ...

    def native_kernel(self) -> Kernel | None:
        """The same with its bookkeeping in C; None where there is no such.

        :raises NoLibrary: where it cannot be compiled.
        """
        ...


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


def gear_of(sampler: Sampler, target: Target, start: Tensor, transitions: int) -> Gear:
    """The gear of a run from these starts [dim, chains].

    :param transitions: of a chain, warm-up too.
    """
    wanted = sampler.jit_compile
    if wanted is False or not target.vectorized or start.device.type != "cpu":
        return _traced(sampler, target, start)
    native = _native(sampler, start)
    if wanted is True or _is_worth_it(target, start.shape[1], transitions):
        return _compiled(sampler, native, target, start)
    if native is None:
        return _traced(sampler, target, start)
    return Gear("native", native, Problem(target.recorded.at(start), _as_it_is))


def same_gear(name: str, sampler: Sampler, target: Target, start: Tensor) -> Gear:
    """The gear of that name, in which a run was begun that now goes on.

    :raises ValueError: where this machine has no C compiler, which the gear needs.
    """
    if name == "traced":
        return _traced(sampler, target, start)
    native = _native(sampler, start)
    if name == "compiled":
        return _compiled(sampler, native, target, start)
    if native is None:
        raise ValueError(
            f"The run was begun in the gear {name!r}, with bookkeeping in C, and here is no C "
            "compiler: go on with it where there is one."
        )
    return Gear("native", native, Problem(target.recorded.at(start), _as_it_is))


def _traced(sampler: Sampler, target: Target, start: Tensor) -> Gear:
    problem = Problem(target.recorded, target.recorder(start))
    return Gear("traced", sampler.kernel(), problem)


def _compiled(sampler: Sampler, native: Kernel | None, target: Target, start: Tensor) -> Gear:
    if native is not None:
        density = traced(target.log_density_and_gradient, start, compile_graph=True)
        return Gear("compiled", native, Problem(density, _as_it_is))
    record = functools.partial(traced, compile_graph=True)
    return Gear("compiled", sampler.kernel(), Problem(target.log_density_and_gradient, record))


def _as_it_is(function: Callable, *_: Any) -> Callable:
    return function


def _is_worth_it(target: Target, chains: int, transitions: int) -> bool:
    a_step = _A_STEP + _A_NUMBER * target.numbers_per_run * chains
    return _STEPS_A_TRANSITION * transitions * a_step > _COMPILATION


def _native(sampler: Sampler, start: Tensor) -> Kernel | None:
    """The same sampler with its bookkeeping in C, where there is one and the machine can."""
    if start.dtype not in (torch.float32, torch.float64):
        return None
    try:
        return sampler.native_kernel()
    except NoLibrary as error:
        _tell(str(error))
        return None


@functools.cache
def _tell(why: str) -> None:
    warnings.warn(
        f"The bookkeeping of NUTS runs in torch, some times slower, because {why}.", stacklevel=3
    )
