"""What an element of a result is, as an expression in C of the elements that it is made from.

One entry for each of torch's operations that work element by element. ``{0}``, ``{1}`` stand for
the operands, converted to the type in which torch computes; ``{f}`` ends the name of a function of
C's mathematics for that type (``expf``, ``exp``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

# Of one and two operands, by the name of the operation without its overload.
UNARY = {
    "neg": "-{0}",
    "abs": "fabs{f}({0})",
    "exp": "exp{f}({0})",
    "exp2": "exp2{f}({0})",
    "expm1": "expm1{f}({0})",
    "log": "log{f}({0})",
    "log2": "log2{f}({0})",
    "log10": "log10{f}({0})",
    "log1p": "log1p{f}({0})",
    "sqrt": "sqrt{f}({0})",
    "rsqrt": "1 / sqrt{f}({0})",
    "reciprocal": "1 / {0}",
    "square": "{0} * {0}",
    "sin": "sin{f}({0})",
    "cos": "cos{f}({0})",
    "tan": "tan{f}({0})",
    "asin": "asin{f}({0})",
    "acos": "acos{f}({0})",
    "atan": "atan{f}({0})",
    "sinh": "sinh{f}({0})",
    "cosh": "cosh{f}({0})",
    "tanh": "tanh{f}({0})",
    **{name: name + "{f}({0})" for name in ("asinh", "acosh", "atanh")},
    "erf": "erf{f}({0})",
    "erfc": "erfc{f}({0})",
    "floor": "floor{f}({0})",
    "ceil": "ceil{f}({0})",
    "trunc": "trunc{f}({0})",
    "lgamma": "lgamma{f}({0})",
    "digamma": "digamma_{f}({0})",
    "sigmoid": "1 / (1 + exp{f}(-{0}))",
    "silu": "{0} / (1 + exp{f}(-{0}))",
    "relu": "({0} <= 0 ? 0 : {0})",
    "sgn": "(({0} > 0) - ({0} < 0))",
    "sign": "(({0} > 0) - ({0} < 0))",
    "log_sigmoid_forward": "(({0} < 0 ? {0} : 0) - log1p{f}(exp{f}(-fabs{f}({0}))))",
    **dict.fromkeys(("clone", "detach", "alias", "lift_fresh_copy", "_to_copy", "positive"), "{0}"),
}
BINARY = {
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "maximum": "({0} != {0} || {0} > {1} ? {0} : {1})",
    "minimum": "({0} != {0} || {0} < {1} ? {0} : {1})",
    "atan2": "atan2{f}({0}, {1})",
    "hypot": "hypot{f}({0}, {1})",
    "fmod": "fmod{f}({0}, {1})",
    "remainder": "({0} - {1} * floor{f}({0} / {1}))",
    "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "tanh_backward": "{0} * (1 - {1} * {1})",
    "silu_backward": "{0} * silu_slope_{f}({1})",
    "xlogy": "xlogy_{f}({0}, {1})",
    "xlog1py": "xlog1py_{f}({0}, {1})",
    "logaddexp": "logaddexp_{f}({0}, {1})",
}
# Of booleans, or of numbers with a boolean as result.
COMPARISONS = {
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "logical_and": "({0} != 0) & ({1} != 0)",
    "logical_or": "({0} != 0) | ({1} != 0)",
    "logical_xor": "({0} != 0) ^ ({1} != 0)",
    "logical_not": "{0} == 0",
    "isnan": "{0} != {0}",
    "isinf": "fabs{f}({0}) == INFINITY",
    "isfinite": "fabs{f}({0}) <= {largest}",
}
BITWISE = {"bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}"}

# As torch names types, so C does.
C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bool: "flag",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.uint8: "uint8_t",
}
_OF_FUNCTIONS = {torch.float32: "f", torch.float64: ""}


class NotInC(Exception):
    """Why something recorded has no counterpart in C, in a few words."""


def c_type(dtype: torch.dtype) -> str:
    """C's name of a type of numbers."""
    if dtype not in C_TYPES:
        raise NotInC(f"numbers of {dtype}")
    return C_TYPES[dtype]


def literal(value: float | int | bool, dtype: torch.dtype) -> str:
    """A number as C writes it."""
    if dtype.is_floating_point:
        number = float(value)
        if math.isnan(number):
            return "NAN"
        if math.isinf(number):
            return "INFINITY" if number > 0 else "(-INFINITY)"
        written = number.hex() + ("f" if dtype == torch.float32 else "")
        if dtype == torch.float32:
            written = float(torch.tensor(number, dtype=dtype)).hex() + "f"
            if "inf" in written:
                return "INFINITY" if number > 0 else "(-INFINITY)"
        return f"({written})" if number < 0 else written
    written = str(int(value))
    return f"({written})" if int(value) < 0 else written


def filled(template: str, dtype: torch.dtype, *operands: str) -> str:
    """A template with its operands."""
    ending = _OF_FUNCTIONS.get(dtype)
    if ending is None:
        if "{f}" in template.replace("fabs{f}", ""):
            raise NotInC(f"a function of numbers of {dtype}")
        template, ending = template.replace("fabs{f}", "llabs"), ""
    largest = "FLT_MAX" if dtype == torch.float32 else "DBL_MAX"
    text = template.replace("{f}", ending).replace("{largest}", largest)
    for i, operand in enumerate(operands):
        text = text.replace("{" + str(i) + "}", operand)
    return text


def power(base: str, exponent: float | int, dtype: torch.dtype) -> str:
    """A power whose exponent is known."""
    simple = {
        0.0: "1",
        1.0: "{0}",
        2.0: "{0} * {0}",
        3.0: "{0} * {0} * {0}",
        4.0: "({0} * {0}) * ({0} * {0})",
        0.5: "sqrt{f}({0})",
        -0.5: "1 / sqrt{f}({0})",
        -1.0: "1 / {0}",
        -2.0: "1 / ({0} * {0})",
        -3.0: "1 / ({0} * {0} * {0})",
    }
    if dtype.is_floating_point and float(exponent) in simple:
        return filled(simple[float(exponent)], dtype, base)
    if not dtype.is_floating_point:
        if float(exponent) in (1.0, 2.0, 3.0):
            return filled(simple[float(exponent)], dtype, base)
        raise NotInC(f"a power of numbers of {dtype}")
    return filled("pow{f}({0}, {1})", dtype, base, literal(exponent, dtype))


# Operations with a number or more among their arguments: they take the operands' texts by
# position, a way to read other arguments, and the type computed in.
Special = Callable[[list[str], Callable[[int, str, Any], Any], torch.dtype], str]


def _scaled(sign: str, swapped: bool = False) -> Special:
    def write(operands: list[str], argument: Callable[[int, str, Any], Any], dtype: Any) -> str:
        left, right = operands[::-1] if swapped else operands
        alpha = argument(2, "alpha", 1)
        if alpha != 1:
            # rsub takes alpha times the first.
            right = f"{literal(alpha, dtype)} * {right}"
        return f"{left} {sign} {right}"

    return write


def _softplus(operands: list[str], argument: Callable[[int, str, Any], Any], dtype: Any) -> str:
    beta = literal(argument(1, "beta", 1), dtype)
    threshold = literal(argument(2, "threshold", 20), dtype)
    template = (
        f"({{0}} * {beta} > {threshold} ? {{0}} : log1p{{f}}(exp{{f}}({{0}} * {beta})) / {beta})"
    )
    return filled(template, dtype, operands[0])


def _softplus_backward(
    operands: list[str], argument: Callable[[int, str, Any], Any], dtype: Any
) -> str:
    beta = literal(argument(2, "beta", 1), dtype)
    threshold = literal(argument(3, "threshold", 20), dtype)
    template = f"({{1}} * {beta} > {threshold} ? {{0}} : {{0}} / (1 + exp{{f}}(-{{1}} * {beta})))"
    return filled(template, dtype, *operands)


def _clamped(operands: list[str], argument: Callable[[int, str, Any], Any], dtype: Any) -> str:
    text = operands[0]
    low, high = argument(1, "min", None), argument(2, "max", None)
    if low is not None:
        text = f"({text} < {literal(low, dtype)} ? {literal(low, dtype)} : {text})"
    if high is not None:
        text = f"({text} > {literal(high, dtype)} ? {literal(high, dtype)} : {text})"
    return text


def _clamped_below(operands: list[str], argument: Any, dtype: Any) -> str:
    low = literal(argument(1, "min", None), dtype)
    return f"({operands[0]} < {low} ? {low} : {operands[0]})"


def _clamped_above(operands: list[str], argument: Any, dtype: Any) -> str:
    high = literal(argument(1, "max", None), dtype)
    return f"({operands[0]} > {high} ? {high} : {operands[0]})"


def _powered(operands: list[str], argument: Any, dtype: Any) -> str:
    return power(operands[0], argument(1, "exponent", None), dtype)


def _leaky(operands: list[str], argument: Any, dtype: Any) -> str:
    slope = literal(argument(1, "negative_slope", 0.01), dtype)
    return f"({operands[0]} > 0 ? {operands[0]} : {slope} * {operands[0]})"


def _leaky_backward(operands: list[str], argument: Any, dtype: Any) -> str:
    slope = literal(argument(2, "negative_slope", 0.01), dtype)
    return f"({operands[1]} > 0 ? {operands[0]} : {slope} * {operands[0]})"


def _threshold_backward(operands: list[str], argument: Any, dtype: Any) -> str:
    return f"({operands[1]} <= {literal(argument(2, 'threshold', 0), dtype)} ? 0 : {operands[0]})"


SPECIAL: dict[str, Special] = {
    "add": _scaled("+"),
    "sub": _scaled("-"),
    "rsub": _scaled("-", swapped=True),
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "clamp": _clamped,
    "clamp_min": _clamped_below,
    "clamp_max": _clamped_above,
    "leaky_relu": _leaky,
    "leaky_relu_backward": _leaky_backward,
    "threshold_backward": _threshold_backward,
}
