"""One log density and gradient for all chains, traced once where the model allows it.

The function of one position is mapped over chains by :func:`torch.func.vmap`, differentiated by
plain autograd, and recorded as a flat list of tensor operations: no Pyro, no Python of the model's
is left in the inner loop. The recording is bound to the number of chains, and it
reads data and parameters where they lie, so that a change in place is seen. Positions are
[dim, chains]: chains last, contiguous, so that per-chain scalars broadcast.

A model that vmap cannot take (a Python ``if`` on a value, some distributions) is evaluated chain by
chain instead: slower, and right.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.recording import recorded

from .compiled import compiled
from .cuda_graph import captured, on_cuda
from .side import NO_SIDE, Side

Density = Callable[[Tensor, Side], Tensor]
BatchedDensity = Callable[[Tensor, Side], tuple[Tensor, Tensor]]

NUM_PROBES = 3


def vectorized(density: Density, *, has_gradient: bool = True) -> BatchedDensity:
    """Map a density of one position over chains: [dim, chains] to ([chains], [dim, chains]).

    :param has_gradient: False where no coordinate is continuous: all zeros then.
    """

    def batched(positions: Tensor, side: Side = NO_SIDE) -> tuple[Tensor, Tensor]:
        leaves, rebuild = tensors_of(side)

        def single(position: Tensor, *parts: Tensor) -> Tensor:
            return density(position, rebuild(parts))

        mapped = torch.func.vmap(single, in_dims=(1,) + (0,) * len(leaves))
        if not has_gradient:
            with torch.no_grad():
                return mapped(positions, *leaves), torch.zeros_like(positions)
        # The chains do not meet, so the gradient of the sum holds every chain's own gradient.
        with torch.enable_grad():
            z = positions.detach().requires_grad_()
            value = mapped(z, *leaves)
            (gradient,) = torch.autograd.grad(value.sum(), z)
        # One transposed array would make every operation that meets it a slow one.
        return value.detach(), gradient.contiguous()

    return batched


def in_pieces(
    density: Callable[..., tuple[Tensor, Tensor]], positions: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """A batched density of so many chains at a time: what one piece needs of memory is free again
    before the next."""
    found = [density(part.contiguous()) for part in positions.split(size, dim=1)]
    values, gradients = zip(*found, strict=True)
    return torch.cat(values), torch.cat(gradients, dim=-1)


def looped(density: Density, *, has_gradient: bool = True) -> BatchedDensity:
    """The same function by a Python loop over chains, for models that vmap refuses."""

    def batched(positions: Tensor, side: Side = NO_SIDE) -> tuple[Tensor, Tensor]:
        values, gradients = [], []
        for chain in range(positions.shape[1]):
            one = Side(
                None if side.beta is None else side.beta[chain],
                {name: value[chain] for name, value in side.values.items()},
            )
            if has_gradient:
                value, gradient = value_and_gradient(density, positions[:, chain], one)
            else:
                with torch.no_grad():
                    value, gradient = density(positions[:, chain], one), positions[:, chain] * 0
            values.append(value)
            gradients.append(gradient)
        return torch.stack(values), torch.stack(gradients, dim=1)

    return batched


def value_and_gradient(density: Density, position: Tensor, side: Side) -> tuple[Tensor, Tensor]:
    """Log density and gradient at one position by plain autograd."""
    with torch.enable_grad():
        z = position.detach().clone().requires_grad_(True)
        value = density(z, side)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, z, allow_unused=True)
    if gradient is None:
        raise ValueError(_no_gradient(density, z.detach(), side))
    return value.detach(), gradient


def _no_gradient(density: Density, position: Tensor, side: Side) -> str:
    with torch.no_grad():
        values = [density(scale * position, side) for scale in (1.0, -1.0, 3.0)]
    if all(torch.equal(value, values[0]) for value in values):
        return (
            f"The log density is {float(values[0]):.6g} at every position tried, without a "
            "gradient: it is flat. A flat density on an unbounded space cannot be normalised, so "
            "there is nothing to sample. Give the latent sites proper priors, a bounded support, "
            "or data that depend on them."
        )
    return (
        "The log density has no gradient path to the latent values: something in the "
        "model or energy detaches them (.detach(), .item(), numpy, torch.no_grad), or it is a "
        "step function (a comparison, an argmax). Write it with differentiable torch operations "
        "of the values."
    )


def tensors_of(tree: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any]]:
    """The tensors of a nest, and the function that puts others in their places."""

    def rebuild(tensors: Sequence[Tensor]) -> Any:
        return _filled(tree, iter(tensors))

    return _tensors(tree, []), rebuild


def _tensors(tree: Any, found: list[Tensor]) -> list[Tensor]:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, tuple):
        for branch in tree:
            _tensors(branch, found)
    elif isinstance(tree, Mapping):
        for branch in tree.values():
            _tensors(branch, found)
    return found


def _filled(tree: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, tuple):
        branches = [_filled(branch, tensors) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    if isinstance(tree, Mapping):
        return {name: _filled(branch, tensors) for name, branch in tree.items()}
    return tree


def traced(function: Callable, *example: Any, compile_graph: bool = False) -> Callable:
    """Record a function of nested tensors once; the result takes and gives the same nests.

    The recording holds for the shapes of the example only.

    :param compile_graph: also compile the recording (:mod:`.compiled`): half a minute the first
        time on a machine, and calls that are many times faster. On CUDA it is captured either way.
    """
    leaves, rebuild = tensors_of(example)
    rebuild_output: list[Callable] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        outputs, found = tensors_of(function(*rebuild(tensors)))
        rebuild_output.append(found)
        return outputs

    with torch.no_grad():
        # Inputs are told apart by identity: one tensor in two places would become one input.
        try:
            graph = recorded(flat, [leaf.clone() for leaf in leaves])
        except RuntimeError:
            # Some operations take numbers out of tensors, which no recording can hold: run as is.
            return function
    graph.graph.eliminate_dead_code()
    graph.recompile()
    run = None
    if compile_graph and not on_cuda(leaves):
        run = compiled(graph, leaves)
    is_compiled = run is not None
    return Recording(run or _run_of(graph, leaves), rebuild_output[-1], compiled=is_compiled)


def _run_of(graph: torch.fx.GraphModule, leaves: list[Tensor]) -> Callable:
    """What runs a recording fastest without a compiler."""
    if on_cuda(leaves):
        return captured(graph.forward, leaves)
    run = _interpreted(graph, leaves)
    return graph.forward if run is None else run


class Recording:
    """A recorded function, called as the function is.

    ``module`` is what TorchScript's interpreter runs, None where something else runs it;
    ``compiled`` tells whether it was compiled.
    """

    def __init__(self, run: Callable, restore: Callable, *, compiled: bool = False) -> None:
        self._run, self._restore, self.compiled = run, restore, compiled
        self.module = run if isinstance(run, torch.jit.ScriptModule) else None

    def __call__(self, *args: Any) -> Any:
        with torch.no_grad():
            return self._restore(self._run(*_tensors(args, [])))


class RecordedDensity:
    """A batched function of positions [dim, chains] and more, recorded for some numbers of chains.

    Called with another number, it runs as it is.
    """

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._recordings: dict[int, Callable] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process records for itself.
        return type(self), (self._function,)

    def __call__(self, positions: Tensor, *more: Any) -> Any:
        # While it is recorded itself, a size is a tensor.
        found = self._recordings.get(int(positions.shape[1]), self._function)
        return found(positions, *more)

    def at(self, positions: Tensor, *more: Any) -> Callable:
        """The recording for as many chains, made now if need be."""
        chains = int(positions.shape[1])
        if chains not in self._recordings:
            self._recordings[chains] = traced(self._function, positions, *more)
        return self._recordings[chains]


def composed(function: Callable, parts: Sequence[Callable], *example: Any) -> Callable:
    """Record a function of tensor operations, none of which branches on a value, and of recordings.

    The parts are not recorded anew, and the rest without the care that a user's code needs: this
    takes a tenth of the time of :func:`traced`, and gives the same.
    """
    modules = [part.module for part in parts if isinstance(part, Recording)]
    if len(modules) < len(parts) or any(module is None for module in modules):
        return traced(function, *example)
    leaves, rebuild = tensors_of(example)
    restore: list[Callable] = []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs, found = tensors_of(function(*rebuild(tensors)))
        restore.append(found)
        return tuple(outputs)

    run = _interpreted(_Composition(flat, modules), leaves)
    return traced(function, *example) if run is None else Recording(run, restore[-1])


class _Composition(torch.nn.Module):
    """A function that calls modules which TorchScript has to know of."""

    def __init__(self, function: Callable, parts: Sequence[Any]) -> None:
        super().__init__()
        self._function = function
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._function(*tensors)


def _interpreted(module: torch.nn.Module, example: list[Tensor]) -> torch.jit.ScriptModule | None:
    """The module run by TorchScript's interpreter, which costs less per operation than Python.

    None where TorchScript is no longer to be had.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings(), _unit_of_its_own():
            warnings.simplefilter("ignore")
            inputs = tuple(leaf.clone() for leaf in example)
            interpreted: Any = torch.jit.trace(module, inputs, check_trace=False)
            return interpreted
    except Exception:
        return None


@contextlib.contextmanager
def _unit_of_its_own() -> Iterator[None]:
    """TorchScript keeps what it has compiled, constants and all, in one unit for the whole process,
    which only grows; in a unit of its own it is gone with the module that uses it."""
    state: Any = getattr(torch.jit, "_state", None)
    common = getattr(state, "_python_cu", None)
    if common is None:
        yield
        return
    state._python_cu = type(common)()
    try:
        yield
    finally:
        state._python_cu = common


def probe(
    density: Density, positions: Tensor, side: Side, *, has_gradient: bool = True
) -> str | None:
    """Compare vmap with the loop at a few positions; None when they agree, else the reason.

    :raises ValueError: when the density is random: two evaluations at one position differ.
    """
    loop = looped(density, has_gradient=has_gradient)
    value, gradient = loop(positions, side)
    again, _ = loop(positions, side)
    if not torch.allclose(value, again, equal_nan=True):
        raise ValueError(
            "Two evaluations of the log density at the same values differ "
            f"({value.tolist()} and {again.tolist()}): something in the model draws random numbers "
            "outside of pyro.sample (dropout, torch.rand, an energy that samples). Draw it as a "
            "latent site, or fix it before the run."
        )
    try:
        mapped = vectorized(density, has_gradient=has_gradient)
        mapped_value, mapped_gradient = mapped(positions, side)
    except Exception as error:  # vmap raises whatever the model's operations raise
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    if mapped_value.shape != value.shape:
        return f"vmap gives shape {tuple(mapped_value.shape)} where {tuple(value.shape)} is right"
    scale = gradient.abs().amax().clamp(min=1.0)
    if not _close(mapped_value, value):
        return "vmap gives another log density than a loop"
    if not _close(mapped_gradient / scale, gradient / scale):
        return "vmap gives another gradient than a loop"
    return None


def _close(a: Tensor, b: Tensor) -> bool:
    # A number written in a model is of torch's default dtype, and so are the terms of a site that
    # has no other parameters, also where the data are float64. Sums over such terms run in another
    # order under vmap, which the coarser of the two dtypes rounds.
    rounding = max(torch.finfo(dtype).eps for dtype in (a.dtype, torch.get_default_dtype()))
    tolerance = 1e3 * rounding
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
