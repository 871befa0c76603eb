"""Products of matrices, factors, triangular systems, and running sums."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from . import blocks
from .arrays import Array
from .building import Build, reshaped
from .call import Call
from .expressions import NotInC, literal

# Products of a chain's own matrices that take more multiplications are torch's: measured, a net of
# 64 units on 1,000 rows takes twice the time here, one of 32 on 200 two thirds.
_LARGE = 2**20


def linear(build: Build, call: Call, example: Any) -> Any:
    """The array of an operation of linear algebra, None of any other."""
    name = call.base_name
    if name in ("mm", "bmm", "mv", "dot"):
        return _product(build, build.array(call.at(0)), build.array(call.at(1)), example)
    if name in ("addmm", "addmv", "baddbmm"):
        added, left, right = (build.array(call.at(i)) for i in range(3))
        beta, alpha = call.given("beta", 1), call.given("alpha", 1)
        found = _product(build, left, right, example)
        dtype = example.dtype
        template = f"{literal(beta, dtype)} * {{0}} + {literal(alpha, dtype)} * {{1}}"
        return build.pointwise(template, dtype, [added, found], example.shape)
    if name in ("cumsum", "cumprod"):
        source = build.array(call.at(0))
        axis = call.at(1) % max(1, len(source.shape))
        if not source.shape:
            return None
        if source.dtype != example.dtype:
            source = build.pointwise("{0}", example.dtype, [source], source.shape)
        result = build.result(example.dtype, example.shape, source)
        sign = "+" if name == "cumsum" else "*"
        return build.block(result, [source], lambda: blocks.running(result, source, axis, sign))
    if name == "linalg_cholesky_ex":
        if call.given("upper", False):
            raise NotInC("upper factors")
        call.given("check_errors")
        matrix, factor = build.array(call.at(0)), example[0]
        result = build.result(factor.dtype, factor.shape, matrix)
        found = build.block(result, [matrix], lambda: blocks.cholesky(result, matrix))
        return [found, None]
    if name == "linalg_solve_triangular":
        return _triangular(build, call, example)
    return None


def _triangular(build: Build, call: Call, example: Tensor) -> Array:
    matrix, right = (build.array(call.at(i)) for i in range(2))
    upper, unit = bool(call.given("upper")), bool(call.given("unitriangular", False))
    batch = tuple(example.shape[:-2])
    matrix = matrix.expanded((*batch, *matrix.shape[-2:]))
    right = right.expanded((*batch, *right.shape[-2:]))
    result = written = build.result(example.dtype, example.shape, matrix, right)
    if not call.given("left", True):
        # X A = B is A' X' = B'.
        matrix, right, written, upper = matrix.turned, right.turned, result.turned, not upper
    return build.block(
        result,
        [matrix, right],
        lambda: blocks.triangular_solution(written, matrix, right, upper=upper, unit=unit),
    )


def _product(build: Build, left: Array, right: Array, example: Tensor) -> Array:
    """Of matrices and vectors, as matrices."""
    if len(left.shape) == 1:
        left = _with_axis(left, 0)
    if len(right.shape) == 1:
        right = _with_axis(right, 1)
    shape = (*left.shape[:-1], right.shape[-1])
    if left.per_chain and right.per_chain and math.prod(shape) * left.shape[-1] > _LARGE:
        raise NotInC("large products of matrices, which torch does faster")
    result = build.result(example.dtype, shape, left, right)
    found = build.block(result, [left, right], lambda: blocks.product(result, left, right))
    return reshaped(found, example)


def _with_axis(array: Array, axis: int) -> Array:
    shape, strides = list(array.shape), list(array.strides)
    shape.insert(axis, 1)
    strides.insert(axis, 0)
    return array._replace(shape=tuple(shape), strides=tuple(strides))
