"""Arrays put together of parts: copies into what is zero elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import blocks
from .arrays import Array
from .building import Build
from .call import Call
from .expressions import NotInC


def assembled(build: Build, call: Call, example: Any) -> Array | None:
    """Copies into parts of a result."""
    name = call.base_name
    if name == "unfold_backward":
        return _unfolded(build, call, example)
    if name == "roll":
        return _rolled(build, call, example)
    parts_of = _PARTS.get(name)
    if parts_of is None:
        return None
    # A tensor of places, so that torch tells where the parts lie.
    places = torch.empty(tuple(example.shape))
    sources, parts = parts_of(build, call, places)
    result = build.result(example.dtype, example.shape, *sources)
    pairs = [
        (_seen(result, part), source.expanded(part.shape))
        for part, source in zip(parts, sources, strict=True)
    ]
    background: Any = None
    if sum(part.numel() for part in parts) < places.numel():
        background = call.given("value", 0) if name == "constant_pad_nd" else 0
    return build.block(result, sources, lambda: blocks.copied(result, pairs, background=background))


def _cat(build: Build, call: Call, places: Tensor) -> Any:
    sources = [build.array(each) for each in call.at(0)]
    axis = call.given("dim", 0)
    sources = [each for each in sources if each.shape != (0,)]
    return sources, places.split([each.shape[axis] for each in sources], dim=axis)


def _stack(build: Build, call: Call, places: Tensor) -> Any:
    return [build.array(each) for each in call.at(0)], places.unbind(call.given("dim", 0))


def _slice_backward(build: Build, call: Call, places: Tensor) -> Any:
    call.at(1)
    axis, start, end, step = (call.at(i) for i in (2, 3, 4, 5))
    part = torch.ops.aten.slice(places, axis, start, end, step)
    return [build.array(call.at(0))], [part]


def _select_backward(build: Build, call: Call, places: Tensor) -> Any:
    call.at(1)
    return [build.array(call.at(0))], [places.select(call.at(2), call.at(3))]


def _diagonal_backward(build: Build, call: Call, places: Tensor) -> Any:
    call.at(1)
    part = places.diagonal(call.at(2), call.at(3), call.at(4))
    return [build.array(call.at(0))], [part]


def _diag_embed(build: Build, call: Call, places: Tensor) -> Any:
    part = places.diagonal(call.at(1), call.at(2), call.at(3))
    return [build.array(call.at(0))], [part]


def _flip(build: Build, call: Call, places: Tensor) -> Any:
    source = build.array(call.at(0))
    strides, offset = list(source.strides), source.offset
    for axis in call.at(1):
        offset += (source.shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
    return [source._replace(strides=tuple(strides), offset=offset)], [places]


def _rolled(build: Build, call: Call, example: Tensor) -> Array:
    array, shifts, axes = build.array(call.at(0)), call.at(1), call.given("dims", [])
    if not axes:
        if len(array.shape) != 1:
            raise NotInC("roll of all axes together")
        axes = [0]
    places = torch.empty(tuple(example.shape))
    for shift, axis in zip(shifts, axes, strict=True):
        size = array.shape[axis]
        cut = size - shift % size if size else 0
        target = build.result(example.dtype, example.shape, array)
        # Behind the cut comes first.
        lengths = [(cut, size - cut, 0), (0, cut, size - cut)]
        pairs = [
            (
                _seen(target, places.narrow(axis, to, length)),
                _narrowed(array, axis, begin, length),
            )
            for begin, length, to in lengths
            if length
        ]
        array = build.block(target, [array], _copier(target, pairs))
    return array


def _unfolded(build: Build, call: Call, example: Tensor) -> Array:
    """What comes back from windows, added where they overlap."""
    source = build.array(call.at(0))
    call.at(1)
    places = torch.empty(tuple(example.shape)).unfold(call.at(2), call.at(3), call.at(4))
    result = build.result(example.dtype, example.shape, source)
    part = _seen(result, places)
    return build.block(result, [source], lambda: blocks.added(result, part, source))


def _copier(target: Array, pairs: Sequence[tuple[Array, Array]]) -> Callable[[], list[str]]:
    return lambda: blocks.copied(target, pairs, background=None)


def _seen(target: Array, part: Tensor) -> Array:
    """The part of a whole array that a view of a like tensor is."""
    return target._replace(
        shape=tuple(part.shape), strides=tuple(part.stride()), offset=part.storage_offset()
    )


def _narrowed(array: Array, axis: int, begin: int, length: int) -> Array:
    shape = list(array.shape)
    shape[axis] = length
    return array._replace(shape=tuple(shape), offset=array.offset + begin * array.strides[axis])


def _padded(build: Build, call: Call, places: Tensor) -> Any:
    source, pad = build.array(call.at(0)), call.at(1)
    part = places
    for i in range(len(pad) // 2):
        axis = places.dim() - 1 - i
        before, behind = pad[2 * i : 2 * i + 2]
        if before < 0 or behind < 0:
            # Cut, not padded.
            length = source.shape[axis] + min(before, 0) + min(behind, 0)
            source = _narrowed(source, axis, max(-before, 0), length)
        part = part.narrow(axis, max(before, 0), source.shape[axis])
    return [source], [part]


_PARTS: dict[str, Callable[[Build, Call, Tensor], Any]] = {
    "cat": _cat,
    "stack": _stack,
    "slice_backward": _slice_backward,
    "select_backward": _select_backward,
    "diagonal_backward": _diagonal_backward,
    "diag_embed": _diag_embed,
    "flip": _flip,
    "constant_pad_nd": _padded,
}
