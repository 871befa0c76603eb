"""NUTS with its bookkeeping in C: the sampler of :mod:`.nuts`, the same decisions, in place.

A step of :func:`.nuts.nuts` passes some fifteen arrays of all chains through memory, most of which
it leaves as they are, and its checkpoints besides. The C code goes from chain to chain and touches
what changes; it counts transitions and writes draws to where they stay. The gradient alone is left
to torch. Random numbers come from a counter-based generator with one key a step, and are made for
the chains that need one.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .draws import Keeping, Sink
from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from .metric import DenseMetric, DiagonalMetric, LowRankMetric, Metric
from .native.library import library
from .trajectory import num_rows

_DIAGONAL, _DENSE, _LOW_RANK = 0, 1, 2
_NUMBERS = (
    *("chains", "dim", "size", "rows", "metric", "rank"),
    *("step_stride", "published_version", "published_depth", "thinning", "kept_coordinates"),
)
_STATE = (
    *("vectors", "checkpoints"),
    *("tree_density", "tree_energy", "half_density", "half_energy"),
    *("tree_weight", "half_weight", "initial_energy", "acceptance_sum", "step_size"),
    *("leaf", "depth", "max_depth", "n_steps", "version", "fresh", "forward", "turning"),
)
_REPORT = (
    *("log_density", "acceptance_rate", "energy", "energy_error"),
    *("tree_depth", "reported_steps", "diverging", "reached"),
)
_SETTINGS = ("published_step", "scale", "factor", "transposed", "directions", "stretch")
_COUNTED = ("keys", "transitions", "keep_from", "coordinates")
# A chain's vectors in their order, and bytes to whole multiples of which they are filled up.
_VECTORS, _TREE_POSITION, _TREE_GRADIENT, _LATEST = 13, 6, 7, 12
_VECTOR_BYTES = 64
# Deeper trees have more leaves than can be counted.
_MOST_DEPTH = 60
# What a block of steps costs besides, above all the copy of the state, is shared by so many.
_BLOCK = 64
_DTYPES = {torch.float32: "float", torch.float64: "double"}


class _Sink(ctypes.Structure):
    """Where draws go, as step.h declares it."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("buffer", "kept", "written")),
        *((name, ctypes.c_int64) for name in ("rows", "chain_stride")),
    )

    @classmethod
    def of(cls, sink: Sink | None) -> _Sink:
        if sink is None:
            return cls()
        addresses = (part.data_ptr() for part in (sink.buffer, sink.kept, sink.written))
        return cls(*addresses, sink.rows, sink.buffer.stride(0))


class _Step(ctypes.Structure):
    """What a step works on, as step.h declares it."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _STATE),
        *((name, ctypes.c_void_p) for name in (*_REPORT, "next", "work", "along", *_SETTINGS)),
        *((name, ctypes.c_void_p) for name in _COUNTED),
        *((name, _Sink) for name in ("draws", "before")),
    )


class NativeNUTSState(NamedTuple):
    """Everything a chain needs in the middle of its tree, as :class:`.nuts.NUTSState`.

    ``vectors`` are those of a chain in the order of step.h, [chains, 13, size], with coordinates
    filled up by zeros to ``size``; ``checkpoints`` are [chains, rows, 2, size]: momentum, and sum
    of momenta up to it; all else is [chains].
    """

    vectors: Tensor
    checkpoints: Tensor
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


def native_nuts(dtype: torch.dtype = torch.float64, *, max_tree_depth: int = 10) -> Kernel:
    """NUTS on the CPU in float32 or float64, its trees as those of :func:`.nuts.nuts`.

    ``step`` changes the state that it is given, and reports views of it: what is to be kept has to
    be copied before the next step. ``make_room`` copies.

    :raises NoLibrary: where no C compiler makes the code.
    """
    if max_tree_depth < 1:
        raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}.")
    workbench = _Workbench(_library(dtype), max_tree_depth)

    def init(
        position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings
    ) -> NativeNUTSState:
        if position.dtype != dtype or position.device.type != "cpu":
            raise ValueError(
                f"expected positions on the CPU in {dtype}, got {position.dtype} on "
                f"{position.device}."
            )
        dim, chains = position.shape
        vectors = position.new_zeros(chains, _VECTORS, _padded(dim, position.dtype))
        vectors[:, _TREE_POSITION, :dim] = vectors[:, _LATEST, :dim] = position.T
        vectors[:, _TREE_GRADIENT, :dim] = gradient.T
        zero = torch.zeros_like(log_density)
        count = torch.zeros(chains, dtype=torch.long)
        no = torch.zeros(chains, dtype=torch.bool)
        first = NativeNUTSState(
            *(vectors, vectors.new_zeros(chains, num_rows(1), 2, vectors.shape[-1])),
            *(log_density, zero, log_density, zero, zero, zero - torch.inf, zero, zero),
            settings.step_size.expand(chains).to(position),
            *(count, count, count + max_tree_depth, count, settings.version.expand(chains)),
            *(~no, ~no, no),
        )
        return NativeNUTSState(*(part.clone() for part in first))

    def step(
        log_density_and_gradient: LogDensityAndGradient,
        state: NativeNUTSState,
        noise: Noise,
        settings: Settings,
    ) -> tuple[NativeNUTSState, Transition]:
        made = workbench.prepared(state, noise.normal, settings)
        made.open()
        made.close(*log_density_and_gradient(made.next))
        return state, made.transition

    def keep_block(
        log_density_and_gradient: LogDensityAndGradient,
        state: NativeNUTSState,
        noise: Noise,
        settings: Settings,
        keeping: Keeping,
    ) -> tuple[NativeNUTSState, Tensor]:
        made = workbench.prepared(state, noise.normal, settings, keeping)
        made.open()
        for _ in range(len(noise.normal) - 1):
            made.turn(*log_density_and_gradient(made.next))
        made.close(*log_density_and_gradient(made.next))
        return state, made.transition.position

    def make_room(state: NativeNUTSState, num_steps: int) -> NativeNUTSState:
        """A copy with as many rows of checkpoints as the trees can need in so many steps.

        The state that it is given stays as it is, whatever becomes of the steps.
        """
        levels = max(int(state.depth.max()), (num_steps - 1).bit_length(), 1)
        more = max(0, num_rows(levels) - state.checkpoints.shape[1])
        copied = NativeNUTSState(*(part.clone() for part in state))
        if not more:
            return copied
        checkpoints = torch.nn.functional.pad(state.checkpoints, (0, 0, 0, 0, 0, more))
        return copied._replace(checkpoints=checkpoints)

    return Kernel(
        init,
        step,
        uniforms=0,
        make_room=make_room,
        normals=False,
        block=_BLOCK,
        keep_block=keep_block,
    )


class _Calls(NamedTuple):
    """The C functions on the structure they take, and the tensors on either side of them."""

    open: Callable[[], None]
    turn: Callable[[Tensor, Tensor], None]
    close: Callable[[Tensor, Tensor], None]
    next: Tensor
    transition: Transition


class _Workbench:
    """The structure that C works on, made anew where a state or settings are others than before."""

    def __init__(self, native: ctypes.CDLL, max_tree_depth: int) -> None:
        self._native, self._max_tree_depth = native, max_tree_depth
        self._state: NativeNUTSState | None = None
        self._settings: Settings | None = None
        self._step = _Step()
        # What the structure points to and nothing else owns.
        self._report: tuple[Tensor, ...] = ()
        self._held: list[Tensor] = []
        self._calls: _Calls | None = None

    def prepared(
        self,
        state: NativeNUTSState,
        keys: Tensor,
        settings: Settings,
        keeping: Keeping | None = None,
    ) -> _Calls:
        """The calls for steps with these keys; the tensors given must live until they are over."""
        if state is not self._state:
            self._take(state, settings.metric[0].shape[-1])
        if settings is not self._settings:
            self._publish(settings)
        self._step.keys = keys.data_ptr()
        self._step.transitions = None
        if keeping is not None:
            self._count(keeping)
        assert self._calls is not None
        return self._calls

    def _take(self, state: NativeNUTSState, dim: int) -> None:
        step, like = self._step, state.vectors
        _check(state, dim)
        step.chains, step.dim, step.size = len(like), dim, like.shape[-1]
        step.rows = state.checkpoints.shape[1]
        for name in _STATE:
            setattr(step, name, getattr(state, name).data_ptr())
        real, whole = like.new_zeros(4, len(like)), torch.zeros(2, len(like), dtype=torch.long)
        flags = torch.zeros(2, len(like), dtype=torch.bool)
        self._report = (*real, *whole, *flags)
        for name, part in zip(_REPORT, self._report, strict=True):
            setattr(step, name, part.data_ptr())
        transition = Transition(
            done=state.fresh,
            position=like[:, _LATEST, :dim].T,
            # The tree's draw is that of the transition until the next half joins.
            gradient=like[:, _TREE_GRADIENT, :dim].T,
            log_density=real[0],
            acceptance_rate=real[1],
            energy=real[2],
            energy_error=real[3],
            tree_depth=whole[0],
            n_steps=whole[1],
            diverging=flags[0],
            reached_max_treedepth=flags[1],
            step_size=state.step_size,
        )
        following = like.new_empty(dim, len(like))
        step.next = following.data_ptr()
        self._calls = self._calls_on(following, transition)
        self._state, self._settings = state, None

    def _calls_on(self, following: Tensor, transition: Transition) -> _Calls:
        kind, pointer = _DTYPES[following.dtype], ctypes.addressof(self._step)
        opening, turning, closing = (
            getattr(self._native, f"{name}_{kind}") for name in ("open", "turn", "close")
        )
        opening.argtypes, opening.restype = [ctypes.c_void_p], None

        def on_gradient(function: Any) -> Callable[[Tensor, Tensor], None]:
            function.argtypes, function.restype = [ctypes.c_void_p] * 3, None

            def call(log_density: Tensor, gradient: Tensor) -> None:
                # Named, so that they live until the call is over.
                log_density, gradient = log_density.contiguous(), gradient.contiguous()
                function(pointer, log_density.data_ptr(), gradient.data_ptr())

            return call

        return _Calls(
            functools.partial(opening, pointer),
            on_gradient(turning),
            on_gradient(closing),
            following,
            transition,
        )

    def _publish(self, settings: Settings) -> None:
        assert self._state is not None
        step, like = self._step, self._state.vectors
        kind, arrays = _arrays(settings.metric, like)
        sizes = settings.step_size.to(like).contiguous()
        held = [sizes, *arrays.values()]
        for name, part in zip(("published_step", *arrays), held, strict=True):
            setattr(step, name, part.data_ptr())
        step.metric = kind
        step.rank = arrays["stretch"].shape[-1] if "stretch" in arrays else 0
        step.step_stride = int(sizes.dim() > 0)
        step.published_version = int(settings.version)
        step.published_depth = min(int(settings.max_tree_depth), self._max_tree_depth)
        work_size = getattr(self._native, f"work_size_{_DTYPES[like.dtype]}")
        work_size.argtypes, work_size.restype = [ctypes.c_int64], ctypes.c_int64
        # Coordinates that are filled up stay zero.
        work, along = like.new_zeros(work_size(step.size)), like.new_empty(step.rank)
        step.work, step.along = work.data_ptr(), along.data_ptr()
        self._settings, self._held = settings, [*held, work, along]

    def _count(self, keeping: Keeping) -> None:
        step = self._step
        chosen = keeping.coordinates
        step.transitions, step.keep_from = (
            part.data_ptr() for part in (keeping.transitions, keeping.keep_from)
        )
        step.coordinates = None if chosen is None else chosen.data_ptr()
        step.kept_coordinates = step.dim if chosen is None else len(chosen)
        step.thinning = keeping.thinning
        step.draws, step.before = _Sink.of(keeping.draws), _Sink.of(keeping.before)


def _check(state: NativeNUTSState, dim: int) -> None:
    """Refuse a state that would lead the code in C out of its arrays, as a damaged file may hold.

    :raises ValueError: such a state.
    """
    chains, size = len(state.fresh), _padded(dim, state.vectors.dtype)
    rows = state.checkpoints.shape[1]
    own = {"vectors": (chains, _VECTORS, size), "checkpoints": (chains, rows, 2, size)}
    for name, part in state._asdict().items():
        shape = own.get(name, (chains,))
        if part.shape != shape or not part.is_contiguous():
            raise ValueError(f"expected {name} of shape {shape} in a state, got {part.shape}.")
    deepest = torch.clamp(state.depth, 0, _MOST_DEPTH)
    sound = (
        (state.leaf >= 0)
        & (state.leaf < torch.ones_like(state.leaf) << deepest)
        & (state.depth == deepest)
        & (num_rows(1) + 2 * (state.depth - 1) <= rows)
        & (state.version >= 0)
        & (state.version <= 1)
        # Which of two ends moves: a byte that is neither leads to a third.
        & (state.forward.view(torch.uint8) <= 1)
    )
    if not bool(sound.all()):
        raise ValueError("expected a state of trees, got counters that no tree can have.")


def _library(dtype: torch.dtype) -> ctypes.CDLL:
    """Compiled for numbers of this kind alone, which halves the wait.

    :raises ValueError: neither float32 nor float64.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"NUTS in C takes float32 or float64, got {dtype}.")
    return library(f"nuts_{_DTYPES[dtype]}")


def _padded(dim: int, dtype: torch.dtype) -> int:
    """Coordinates filled up to whole vectors of the machine."""
    lanes = _VECTOR_BYTES // dtype.itemsize
    return -(-dim // lanes) * lanes


def _arrays(metric: Metric, like: Tensor) -> tuple[int, dict[str, Tensor]]:
    """The kind of a metric as step.h counts them, and its arrays by their names there."""

    def padded(part: Tensor) -> Tensor:
        more = like.shape[-1] - part.shape[-1]
        return torch.nn.functional.pad(part.to(like), (0, more)).contiguous()

    if isinstance(metric, DiagonalMetric):
        return _DIAGONAL, {"scale": padded(metric.scale)}
    if isinstance(metric, DenseMetric):
        factor = metric.factor
        return _DENSE, {"factor": padded(factor), "transposed": padded(factor.mT)}
    assert isinstance(metric, LowRankMetric)
    arrays = {"scale": padded(metric.scale), "directions": padded(metric.directions.mT)}
    return _LOW_RANK, {**arrays, "stretch": metric.stretch.to(like).contiguous()}


def random_numbers(key: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What a step with this key draws: the momenta [dim, chains] of the chains that begin, and
    uniform numbers [3, chains], as :func:`.nuts.nuts` takes them."""
    dim, chains = like.shape
    normal, uniform = torch.empty_like(like).contiguous(), like.new_empty(3, chains)
    work = like.new_empty(_padded(dim, like.dtype))
    fill = getattr(_library(like.dtype), f"drawn_{_DTYPES[like.dtype]}")
    fill.argtypes, fill.restype = [*[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 3], None
    fill(key, dim, chains, *(part.data_ptr() for part in (normal, uniform, work)))
    return normal, uniform
