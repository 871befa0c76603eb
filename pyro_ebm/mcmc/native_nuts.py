"""NUTS with its bookkeeping in C: the sampler of :mod:`.nuts`, the same decisions, in place.

A step of :func:`.nuts.nuts` passes some fifteen arrays of all chains through memory, most of which
it leaves as they are, and its checkpoints besides. The C code goes through the chains in small
blocks and touches what changes; the gradient alone is left to torch. Momenta come from a
counter-based generator with one key a step, and are made for the chains that need one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from .metric import DenseMetric, DiagonalMetric, LowRankMetric, Metric
from .native.library import library
from .trajectory import num_rows

_DIAGONAL, _DENSE, _LOW_RANK = 0, 1, 2
_NUMBERS = (
    *("chains", "dim", "rows", "metric", "versions", "rank"),
    *("step_stride", "published_version", "published_depth", "key"),
)
_STATE = (
    *("moving_position", "moving_momentum", "moving_force"),
    *("idle_position", "idle_momentum", "idle_force"),
    *("tree_position", "tree_gradient", "half_position", "half_gradient", "tree_sum", "half_sum"),
    *("tree_density", "tree_energy", "half_density", "half_energy"),
    *("tree_weight", "half_weight", "initial_energy", "acceptance_sum", "step_size"),
    *("leaf", "depth", "max_depth", "n_steps", "version", "fresh", "forward", "turning"),
    *("checkpoints", "position", "gradient", "log_density"),
)
# What the code in C alone reads and writes is kept by blocks of chains; as nuts.c has it.
_BLOCK, _BLOCKED = 16, 12
# Deeper trees have more leaves than can be counted.
_MOST_DEPTH = 60
_SETTINGS = ("published_step", "scale", "factor", "directions", "stretch")
_REPORT = (
    *("acceptance_rate", "energy", "energy_error"),
    *("tree_depth", "reported_steps", "diverging", "reached"),
)
_DTYPES = {torch.float32: "float", torch.float64: "double"}


class _Step(ctypes.Structure):
    """What a step works on, as nuts.c declares it."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _STATE),
        *((name, ctypes.c_void_p) for name in (*_REPORT, "next", "work", *_SETTINGS, "uniform")),
    )


class NativeNUTSState(NamedTuple):
    """Everything a chain needs in the middle of its tree, as :class:`.nuts.NUTSState`.

    Positions, gradients, momenta and their sums are [blocks, dim, chains of a block]; checkpoints
    are [chains, rows, 2, dim]: momentum, and sum of momenta up to it. The last three are those of
    the latest draw, [dim, chains] and [chains].
    """

    moving_position: Tensor
    moving_momentum: Tensor
    moving_force: Tensor
    idle_position: Tensor
    idle_momentum: Tensor
    idle_force: Tensor
    tree_position: Tensor
    tree_gradient: Tensor
    half_position: Tensor
    half_gradient: Tensor
    tree_sum: Tensor
    half_sum: Tensor
    tree_density: Tensor
    tree_energy: Tensor
    half_density: Tensor
    half_energy: Tensor
    tree_weight: Tensor
    half_weight: Tensor
    initial_energy: Tensor
    acceptance_sum: Tensor
    step_size: Tensor
    leaf: Tensor
    depth: Tensor
    max_depth: Tensor
    n_steps: Tensor
    version: Tensor
    fresh: Tensor
    forward: Tensor
    turning: Tensor
    checkpoints: Tensor
    position: Tensor
    gradient: Tensor
    log_density: Tensor


def native_nuts(*, max_tree_depth: int = 10) -> Kernel:
    """NUTS on the CPU in float32 or float64, its trees as those of :func:`.nuts.nuts`.

    ``step`` changes the state that it is given, and reports views of it: what is to be kept has to
    be copied before the next step. ``make_room`` copies.

    :raises NoLibrary: where no C compiler makes the code.
    """
    if max_tree_depth < 1:
        raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}.")
    native = library("nuts")
    workbench = _Workbench(native)

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> NativeNUTSState:
        if position.dtype not in _DTYPES or position.device.type != "cpu":
            raise ValueError(
                "expected positions on the CPU in float32 or float64, got "
                f"{position.dtype} on {position.device}."
            )
        dim, chains = position.shape
        zero = torch.zeros_like(log_density)
        count = torch.zeros(chains, dtype=torch.long)
        no = torch.zeros(chains, dtype=torch.bool)
        x, g = _by_blocks(position), _by_blocks(gradient)
        empty = torch.zeros_like(x)
        first = NativeNUTSState(
            *(x, empty, empty, x, empty, empty, x, g, x, g, empty, empty),
            *(log_density, zero, log_density, zero, zero, zero - torch.inf, zero, zero),
            settings.step_size.expand(chains).to(position),
            *(count, count, count + max_tree_depth, count, settings.version.expand(chains)),
            *(~no, ~no, no),
            position.new_zeros(chains, num_rows(1), 2, dim),
            *(position.contiguous(), gradient.contiguous(), log_density),
        )
        return NativeNUTSState(*(part.clone() for part in first))

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: NativeNUTSState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[NativeNUTSState, Transition]:
        made = workbench.prepared(state, noise, settings, max_tree_depth)
        made.open(made.pointer)
        log_density, gradient = log_density_and_gradient(made.next)
        # Named, so that they live until the call is over.
        log_density, gradient = log_density.contiguous(), gradient.contiguous()
        made.close(made.pointer, log_density.data_ptr(), gradient.data_ptr())
        return state, made.transition

    def make_room(state: NativeNUTSState, num_steps: int) -> NativeNUTSState:
        """A copy with as many rows of checkpoints as the trees can need in so many steps.

        The state that it is given stays as it is, whatever becomes of the steps.
        """
        levels = max(int(state.depth.max()), (num_steps - 1).bit_length(), 1)
        more = max(0, num_rows(levels) - state.checkpoints.shape[1])
        checkpoints = torch.nn.functional.pad(state.checkpoints, (0, 0, 0, 0, 0, more))
        copied = (part.clone() for part in state._replace(checkpoints=checkpoints))
        return NativeNUTSState(*copied)

    return Kernel(init, step, uniforms=3, make_room=make_room, normals=False)


class _Prepared(NamedTuple):
    """The C functions, the structure they take, and the arrays in which they report."""

    pointer: Any
    open: Callable
    close: Callable
    next: Tensor
    transition: Transition


class _Workbench:
    """The structure that C works on, made anew where a state or settings are others than before."""

    def __init__(self, native: ctypes.CDLL) -> None:
        self._native = native
        self._state: NativeNUTSState | None = None
        self._settings: Settings | None = None
        self._step = _Step()
        # What the structure points to and nothing else owns.
        self._report: tuple[Tensor, ...] = ()
        self._held: list[Tensor] = []
        self._prepared: _Prepared | None = None

    def prepared(
        self, state: NativeNUTSState, noise: Noise, settings: Settings, max_tree_depth: int
    ) -> _Prepared:
        if state is not self._state:
            self._take(state)
        if settings is not self._settings:
            self._publish(settings, max_tree_depth)
        self._step.key = int(noise.normal)
        self._step.uniform = noise.uniform.data_ptr()
        assert self._prepared is not None
        return self._prepared

    def _take(self, state: NativeNUTSState) -> None:
        dim, chains = state.position.shape
        step, like = self._step, state.position
        step.chains, step.dim, step.rows = chains, dim, state.checkpoints.shape[1]
        _check(state)
        for name in _STATE:
            setattr(step, name, getattr(state, name).data_ptr())
        kind = _DTYPES[like.dtype]
        real, whole = like.new_empty(3, chains), torch.empty(2, chains, dtype=torch.long)
        flags = torch.empty(2, chains, dtype=torch.bool)
        report, following = (*real, *whole, *flags), torch.empty_like(like)
        step.next = following.data_ptr()
        for name, part in zip(_REPORT, report, strict=True):
            setattr(step, name, part.data_ptr())
        self._report = report
        self._state, self._settings = state, None
        transition = Transition(
            done=state.fresh,
            position=state.position,
            gradient=state.gradient,
            log_density=state.log_density,
            acceptance_rate=real[0],
            energy=real[1],
            energy_error=real[2],
            tree_depth=whole[0],
            n_steps=whole[1],
            diverging=flags[0],
            reached_max_treedepth=flags[1],
            step_size=state.step_size,
        )
        opening, closing = (getattr(self._native, f"{name}_{kind}") for name in ("open", "close"))
        opening.argtypes, opening.restype = [ctypes.c_void_p], None
        closing.argtypes, closing.restype = [ctypes.c_void_p] * 3, None
        self._prepared = _Prepared(ctypes.addressof(step), opening, closing, following, transition)

    def _publish(self, settings: Settings, max_tree_depth: int) -> None:
        assert self._state is not None
        step, like = self._step, self._state.position
        kind, arrays = _arrays(settings.metric)
        sizes = settings.step_size.to(like).contiguous()
        held = [sizes, *(part.to(like).contiguous() for part in arrays.values())]
        for name, part in zip(("published_step", *arrays), held, strict=True):
            setattr(step, name, part.data_ptr())
        step.metric, step.versions = kind, settings.metric[0].shape[0]
        step.rank = arrays["stretch"].shape[-1] if "stretch" in arrays else 0
        step.step_stride = int(sizes.dim() > 0)
        step.published_version = int(settings.version)
        step.published_depth = min(int(settings.max_tree_depth), max_tree_depth)
        work_size = getattr(self._native, f"work_size_{_DTYPES[like.dtype]}")
        work_size.argtypes, work_size.restype = [ctypes.c_int64] * 2, ctypes.c_int64
        work = like.new_empty(work_size(step.dim, step.rank))
        step.work = work.data_ptr()
        self._settings, self._held = settings, [*held, work]


def _check(state: NativeNUTSState) -> None:
    """Refuse a state that would lead the code in C out of its arrays, as a damaged file may hold.

    :raises ValueError: such a state.
    """
    dim, chains = state.position.shape
    blocked, own = (-(-chains // _BLOCK), dim, _BLOCK), {"position": (dim, chains)}
    own |= {"gradient": (dim, chains), "checkpoints": (chains, *state.checkpoints.shape[1:])}
    for number, (name, part) in enumerate(state._asdict().items()):
        shape = own.get(name, blocked if number < _BLOCKED else (chains,))
        if part.shape != shape or not part.is_contiguous():
            raise ValueError(f"expected {name} of shape {shape} in a state, got {part.shape}.")
    rows = state.checkpoints.shape[1]
    deepest = torch.clamp(state.depth, 0, _MOST_DEPTH)
    sound = (
        (state.leaf >= 0)
        & (state.leaf < torch.ones_like(state.leaf) << deepest)
        & (state.depth == deepest)
        & (num_rows(1) + 2 * (state.depth - 1) <= rows)
        & (state.version >= 0)
        & (state.version <= 1)
    )
    if state.checkpoints.shape[2:] != (2, dim) or not bool(sound.all()):
        raise ValueError("expected a state of trees, got counters that no tree can have.")


def _by_blocks(x: Tensor) -> Tensor:
    """[dim, chains] as [blocks, dim, chains of a block]; the last block is filled with zeros."""
    dim, chains = x.shape
    filled = torch.nn.functional.pad(x, (0, -chains % _BLOCK))
    return filled.reshape(dim, -1, _BLOCK).transpose(0, 1).contiguous()


def _arrays(metric: Metric) -> tuple[int, dict[str, Tensor]]:
    """The kind of a metric as nuts.c counts them, and its arrays by their names there."""
    if isinstance(metric, DiagonalMetric):
        return _DIAGONAL, {"scale": metric.scale}
    if isinstance(metric, DenseMetric):
        return _DENSE, {"factor": metric.factor}
    assert isinstance(metric, LowRankMetric)
    arrays = {"scale": metric.scale, "directions": metric.directions, "stretch": metric.stretch}
    return _LOW_RANK, arrays


def momenta(key: int, like: Tensor) -> Tensor:
    """The standard normal numbers [dim, chains] that chains which begin at a step with this key
    draw."""
    dim, chains = like.shape
    out, work = torch.empty_like(like).contiguous(), like.new_empty(dim)
    fill = getattr(library("nuts"), f"momenta_{_DTYPES[like.dtype]}")
    fill.argtypes = [ctypes.c_uint64, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 2]
    fill.restype = None
    fill(key, dim, chains, out.data_ptr(), work.data_ptr())
    return out
