"""Sums, extremes and what is made of them along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import blocks
from .arrays import Array
from .building import Build, reshaped
from .call import Call
from .expressions import literal

_REDUCTIONS = {"sum": "sum", "mean": "sum", "amax": "max", "amin": "min", "prod": "prod"}


def reduced(build: Build, call: Call, example: Any) -> Any:
    """The array of an operation along axes, None of any other."""
    name = call.base_name
    if name in ("logsumexp", "_log_softmax", "_softmax"):
        return _soft(build, call, example)
    if name in ("_log_softmax_backward_data", "_softmax_backward_data"):
        return _soft_backward(build, call, example)
    if name in ("max", "min") and call.overload == "dim":
        return _greatest(build, call, example)
    if name in ("var", "std", "linalg_vector_norm"):
        return _squares(build, call, example)
    if name in ("max", "min") and len(call.schema.arguments) == 1:
        kind: Any = name
    elif name in ("any", "all"):
        kind = "max" if name == "any" else "min"
    elif name in _REDUCTIONS:
        kind = _REDUCTIONS[name]
    else:
        return None
    array = build.array(call.at(0))
    axes = call.given("dim") if any(a.name == "dim" for a in call.schema.arguments) else None
    call.given("keepdim")
    axes = _positive(axes, array.shape)
    if name in ("any", "all"):
        array = build.pointwise(
            "{0} != 0", torch.bool, [array], array.shape, computed_in=array.dtype
        )
    elif array.dtype != example.dtype:
        array = build.pointwise("{0}", example.dtype, [array], array.shape)
    found = build.reduce(kind, array, axes)
    if name == "mean":
        count = math.prod(array.shape[axis] for axis in axes)
        scale = literal(1.0 / count, example.dtype)
        found = build.pointwise(f"{{0}} * {scale}", example.dtype, [found], found.shape)
    return reshaped(found, example)


def _greatest(build: Build, call: Call, example: Any) -> Any:
    """The greatest or least along an axis, and where it is."""
    source, (values, places) = build.array(call.at(0)), example
    if not source.shape:
        return None
    axis, sign = call.at(1) % len(source.shape), ">" if call.base_name == "max" else "<"
    call.given("keepdim")
    shape = tuple(1 if i == axis else size for i, size in enumerate(source.shape))
    where = build.result(torch.int64, shape, source)
    build.block(where, [source], lambda: blocks.place_of_greatest(where, source, axis, sign))
    assert where.store is not None
    build.bounds[where.store] = (0, source.shape[axis] - 1)
    found = build.result(values.dtype, shape, source, where)
    build.block(found, [source, where], lambda: blocks.gathered(found, source, where, axis))
    return [reshaped(found, values), reshaped(where, places)]


def _squares(build: Build, call: Call, example: Tensor) -> Array | None:
    """Variances, standard deviations and Euclidean norms."""
    name, dtype = call.base_name, example.dtype
    array = build.array(call.at(0))
    axes = _positive(call.given("dim"), array.shape)
    call.given("keepdim")
    count = math.prod(array.shape[axis] for axis in axes)
    scale = 1.0
    if name == "linalg_vector_norm":
        if call.given("ord", 2) != 2:
            return None
        squares = build.pointwise("{0} * {0}", dtype, [array], array.shape)
    else:
        if call.overload != "correction":
            return None
        correction = call.given("correction", 1)
        if count <= correction:
            return None
        total = build.reduce("sum", array, axes)
        shared = literal(1.0 / count, dtype)
        template = f"({{0}} - {{1}} * {shared}) * ({{0}} - {{1}} * {shared})"
        squares = build.pointwise(template, dtype, [array, total], array.shape)
        scale = 1.0 / (count - correction)
    found = build.reduce("sum", squares, axes)
    template = f"{{0}} * {literal(scale, dtype)}"
    if name != "var":
        template = f"sqrt{{f}}({template})"
    return reshaped(build.pointwise(template, dtype, [found], found.shape), example)


def _soft(build: Build, call: Call, example: Tensor) -> Array:
    name, dtype = call.base_name, example.dtype
    array = build.array(call.at(0))
    for argument in call.schema.arguments:
        call.given(argument.name)
    if array.dtype != dtype:
        array = build.pointwise("{0}", dtype, [array], array.shape)
    axes = _positive(call.given("dim"), array.shape)
    most = build.reduce("max", array, axes)
    # Where all are minus infinity, so is the result.
    most = build.pointwise("(fabs{f}({0}) == INFINITY ? 0 : {0})", dtype, [most], most.shape)
    powers = build.pointwise("exp{f}({0} - {1})", dtype, [array, most], array.shape)
    total = build.reduce("sum", powers, axes)
    if name == "_softmax":
        return build.pointwise("{0} / {1}", dtype, [powers, total], array.shape)
    log_total = build.pointwise("log{f}({0}) + {1}", dtype, [total, most], total.shape)
    if name == "logsumexp":
        return reshaped(log_total, example)
    return build.pointwise("{0} - {1}", dtype, [array, log_total], array.shape)


def _soft_backward(build: Build, call: Call, example: Tensor) -> Array:
    dtype = example.dtype
    gradient, output = build.array(call.at(0)), build.array(call.at(1))
    call.given("input_dtype")
    axes = _positive(call.given("dim"), output.shape)
    if call.base_name == "_softmax_backward_data":
        weighed = build.pointwise("{0} * {1}", dtype, [gradient, output], output.shape)
        total = build.reduce("sum", weighed, axes)
        operands = [gradient, output, total]
        return build.pointwise("({0} - {2}) * {1}", dtype, operands, output.shape)
    wide = build.pointwise("{0}", dtype, [gradient], output.shape)
    total = build.reduce("sum", wide, axes)
    operands = [wide, output, total]
    return build.pointwise("{0} - exp{f}({1}) * {2}", dtype, operands, output.shape)


def _positive(axes: Any, shape: Sequence[int]) -> list[int]:
    if axes is None or axes == []:
        return list(range(len(shape)))
    axes = [axes] if isinstance(axes, int) else axes
    return [axis % max(1, len(shape)) for axis in axes]
