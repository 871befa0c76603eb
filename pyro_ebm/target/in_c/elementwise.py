"""Operations that work element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from .arrays import Array
from .building import Build
from .call import Call
from .expressions import BINARY, BITWISE, COMPARISONS, SPECIAL, UNARY, NotInC, literal, power


def elementwise(build: Build, call: Call, example: Any) -> Any:
    """The array of an operation element by element, None of any other."""
    name, dtype = call.base_name, getattr(example, "dtype", None)
    if name == "log_sigmoid_forward":
        inputs = [build.array(call.at(0))]
        found = build.pointwise(UNARY[name], example[0].dtype, inputs, example[0].shape)
        return [found, None]
    if dtype is None:
        return None
    if name in UNARY and (name == "_to_copy" or len(call.node.args) == 1):
        return build.pointwise(UNARY[name], dtype, [build.array(call.at(0))], example.shape)
    if name in BINARY or name in BITWISE:
        template = BINARY.get(name) or BITWISE[name]
        if name in BITWISE and dtype.is_floating_point:
            return None
        operands = _operands(build, call, 2, dtype)
        return build.pointwise(template, dtype, operands, example.shape)
    if name in COMPARISONS:
        template = COMPARISONS[name]
        count = 2 if "{1}" in template else 1
        given = [build.example(call.at(i)) for i in range(count)]
        inner = torch.result_type(*given) if count == 2 else given[0].dtype
        operands = _operands(build, call, count, inner)
        return build.pointwise(template, dtype, operands, example.shape, computed_in=inner)
    if name == "bitwise_not" and dtype == torch.bool:
        inputs = [build.array(call.at(0))]
        return build.pointwise("{0} == 0", dtype, inputs, example.shape)
    if name in SPECIAL:
        special = SPECIAL[name]
        count = 2 if name in ("add", "sub", "rsub") or name.endswith("_backward") else 1
        operands = _operands(build, call, count, dtype)

        def argument(_: int, named: str, default: Any) -> Any:
            value = call.given(named, default)
            if isinstance(value, Node):
                raise NotInC(f"{name} with a tensor for {named}")
            return value

        # Read before the step is, so that arguments count as read.
        special(["a"] * count, argument, dtype)
        return build.pointwise(
            lambda texts, _: special(list(texts), argument, dtype), dtype, operands, example.shape
        )
    if name == "pow":
        return _power(build, call, example)
    if name in ("where", "masked_fill"):
        return _chosen(build, call, example)
    if name in ("tril", "triu", "eye", "arange"):
        return _by_index(build, call, example)
    if name in ("addcmul", "addcdiv"):
        operands = [build.array(call.at(i)) for i in range(3)]
        value = literal(call.given("value", 1), dtype)
        sign = "*" if name == "addcmul" else "/"
        template = f"{{0}} + {value} * {{1}} {sign} {{2}}"
        return build.pointwise(template, dtype, operands, example.shape)
    if name == "copy" and call.in_place:
        return build.pointwise("{0}", dtype, [build.array(call.at(1))], example.shape)
    if name == "binary_cross_entropy_with_logits":
        return _cross_entropy(build, call, example)
    if name in ("gelu", "gelu_backward"):
        if call.given("approximate", "none") != "none":
            return None
        count = len(call.node.args)
        operands = [build.array(call.at(i)) for i in range(count)]
        template = "{0} * normal_below_{f}({0})" if count == 1 else "{0} * gelu_slope_{f}({1})"
        return build.pointwise(template, dtype, operands, example.shape)
    if name == "log_sigmoid_backward":
        operands = [build.array(call.at(i)) for i in range(2)]
        call.given("buffer")
        template = "{0} / (1 + exp{f}({1}))"
        return build.pointwise(template, dtype, operands, example.shape)
    return None


def _operands(build: Build, call: Call, count: int, dtype: torch.dtype) -> list[Array]:
    found = []
    for i in range(count):
        value = call.at(i)
        if isinstance(value, Node):
            found.append(build.array(value))
        elif isinstance(value, (bool, int, float)):
            found.append(Array(None, dtype, (), (), 0, value))
        else:
            raise NotInC(f"{call.name} of {type(value).__name__}")
    return found


def _cross_entropy(build: Build, call: Call, example: Tensor) -> Array | None:
    if call.given("weight") is not None or call.given("pos_weight") is not None:
        return None
    if call.given("reduction", 1) != 0:
        return None
    operands = [build.array(call.at(i)) for i in range(2)]
    template = "({0} > 0 ? {0} : 0) - {0} * {1} + log1p{f}(exp{f}(-fabs{f}({0})))"
    return build.pointwise(template, example.dtype, operands, example.shape)


def _power(build: Build, call: Call, example: Tensor) -> Array:
    base, exponent = call.at(0), call.at(1)
    if isinstance(exponent, (int, float)):

        def write(texts: Sequence[str], _: Sequence[str]) -> str:
            return power(texts[0], exponent, example.dtype)

        return build.pointwise(write, example.dtype, [build.array(base)], example.shape)
    operands = _operands(build, call, 2, example.dtype)
    return build.pointwise("pow{f}({0}, {1})", example.dtype, operands, example.shape)


def _chosen(build: Build, call: Call, example: Tensor) -> Array | None:
    if call.base_name == "where" and len(call.node.args) < 3:
        return None
    values = [call.at(i) for i in range(3)]
    mask, yes, no = values if call.base_name == "where" else (values[1], values[2], values[0])
    operands = [
        build.array(value)
        if isinstance(value, Node)
        else Array(None, example.dtype, (), (), 0, value)
        for value in (mask, yes, no)
    ]
    template = "({0} != 0 ? {1} : {2})"
    return build.pointwise(template, example.dtype, operands, example.shape)


def _by_index(build: Build, call: Call, example: Tensor) -> Array:
    name, dtype = call.base_name, example.dtype
    if name == "arange":
        for argument in call.schema.arguments:
            call.given(argument.name)
        start, step = example[0].item(), (example[1] - example[0]).item() if len(example) > 1 else 0
        first, apart = literal(start, dtype), literal(step, dtype)
        return build.pointwise(
            lambda _, index: f"{first} + {apart} * {index[0]}", dtype, [], example.shape
        )
    if name == "eye":
        for argument in call.schema.arguments:
            call.given(argument.name)
        return build.pointwise(
            lambda _, index: f"({index[0]} == {index[1]})", dtype, [], example.shape
        )
    sign, diagonal = "<=" if name == "tril" else ">=", call.given("diagonal", 0)

    def write(texts: Sequence[str], index: Sequence[str]) -> str:
        return f"({index[-1]} - ({index[-2]}) {sign} {diagonal} ? {texts[0]} : 0)"

    return build.pointwise(write, dtype, [build.array(call.at(0))], example.shape)
