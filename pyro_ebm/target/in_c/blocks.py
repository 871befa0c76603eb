"""Steps with loops of their own: products of matrices, factors, copies into parts of an array."""

from __future__ import annotations

from collections.abc import Sequence

from .arrays import Array
from .expressions import C_TYPES, literal

# Sums of so many numbers are added to a longer sum, so that rounding does not grow with the length.
RUN = 128
# So many rows of a product share what is read of the other matrix.
_ROWS = 4


def loops(shape: Sequence[int], prefix: str = "j") -> tuple[list[str], list[str]]:
    """The heads of nested loops over a shape, and the names of their counters."""
    names = [f"{prefix}{axis}" if size > 1 else "0" for axis, size in enumerate(shape)]
    heads = [
        f"for (long {name} = 0; {name} < {size}; {name}++)"
        for name, size in zip(names, shape, strict=True)
        if size > 1
    ]
    return heads, names


def lanes(result: Array, statement: str) -> str:
    """A statement for every chain of a block, where the result depends on the chain."""
    return f"LANES {{ {statement} }}" if result.per_chain else f"{{ {statement} }}"


def copied(
    target: Array, parts: Sequence[tuple[Array, Array]], *, background: float | int | None
) -> list[str]:
    """Copies into parts of a target, each with what it is copied from, over one number or none."""
    lines = []
    if background == 0:
        lines.append(filled_with_zeros(target))
    elif background is not None:
        heads, index = loops(target.shape)
        number = literal(background, target.dtype)
        lines += [*heads, lanes(target, f"{target.at(index)} = {number};")]
    for part, source in parts:
        heads, index = loops(part.shape)
        lines += [*heads, lanes(target, f"{part.at(index)} = {source.at(index)};")]
    return lines


def added(target: Array, part: Array, source: Array) -> list[str]:
    """Added to a part of zeros whose places may be one, one after the other."""
    heads, index = loops(part.shape)
    statement = f"{part.at(index)} += {source.at(index)};"
    return [filled_with_zeros(target), *heads, lanes(target, statement)]


def filled_with_zeros(target: Array) -> str:
    """Nothing but zeros."""
    assert target.store is not None
    lanes_of = " * B" if target.per_chain else ""
    name = target.store.name
    return f"memset({name}, 0, sizeof(*{name}) * {target.store.size}{lanes_of});"


def picked(result: Array, source: Array, indices: Sequence[Array], *, first: int) -> list[str]:
    """Elements of a source at indices of its axes from the ``first`` on."""
    heads, index = loops(result.shape)
    inside, lines = _picked_index(result, source, indices, index, first)
    return [*heads, lanes(result, f"{lines} {result.at(index)} = {source.at(inside)};")]


def put(
    result: Array, source: Array, indices: Sequence[Array], *, first: int, adding: bool
) -> list[str]:
    """The other way: values of a source put where indices say, one after the other."""
    heads, index = loops(source.shape)
    inside, lines = _picked_index(source, result, indices, index, first)
    sign = "+=" if adding else "="
    return [*heads, lanes(result, f"{lines} {result.at(inside)} {sign} {source.at(index)};")]


def _picked_index(
    shaped: Array, indexed: Array, indices: Sequence[Array], index: list[str], first: int
) -> tuple[list[str], str]:
    """Where in an indexed array an element lies, and the statements that find it."""
    width = len(indices[0].shape)
    own = index[first : first + width]
    found, statements = [], []
    for i, chosen in enumerate(indices):
        size = indexed.shape[first + i]
        name = f"k{i}"
        statements.append(f"long {name} = {chosen.at(own)}; {name} += {name} < 0 ? {size} : 0;")
        found.append(name)
    inside = [*index[:first], *found, *index[first + width :]]
    return inside, " ".join(statements)


def product(result: Array, left: Array, right: Array) -> list[str]:
    """Matrices [*batch, m, k] times [*batch, k, n]."""
    *batch, rows, columns = result.shape
    length, kind = left.shape[-1], C_TYPES[result.dtype]
    heads, index = loops(batch, "q")
    lines = [*heads, "{"]
    full = rows - rows % _ROWS
    for begin, end, width in ((0, full, _ROWS), (full, rows, 1)):
        if end > begin:
            head = f"for (long m = {begin}; m < {end}; m += {width})"
            lines += [head, f"for (long n = 0; n < {columns}; n++) {{"]
            lines += _rows_of(result, left, right, index, (width, length, kind))
            lines.append("}")
    return [*lines, "}"]


def _rows_of(
    result: Array, left: Array, right: Array, batch: list[str], sizes: tuple[int, int, str]
) -> list[str]:
    width, length, kind = sizes
    per_chain = result.per_chain
    lane, many = ("[l]", "[B]") if per_chain else ("", "")
    rows = [f"(m + {row})" if row else "m" for row in range(width)]
    long_sum = length > RUN
    names = range(width)
    lines = []
    if long_sum:
        lines.append("double " + ", ".join(f"t{row}{many}" for row in names) + ";")
        lines.append(lanes(result, " ".join(f"t{row}{lane} = 0;" for row in names)))
        lines.append(f"for (long s = 0; s < {length}; s += {RUN}) {{")
        lines.append(f"const long e = s + {RUN} < {length} ? s + {RUN} : {length};")
    else:
        lines.append("{")
        lines.append(f"const long s = 0, e = {length};")
    lines.append(f"{kind} " + ", ".join(f"a{row}{many}" for row in names) + ";")
    lines.append(lanes(result, " ".join(f"a{row}{lane} = 0;" for row in names)))
    terms = " ".join(
        f"a{row}{lane} += {left.at([*batch, text, 'k'])} * other;" for row, text in enumerate(rows)
    )
    other = f"const {kind} other = {right.at([*batch, 'k', 'n'])};"
    lines.append(f"for (long k = s; k < e; k++) {lanes(result, f'{other} {terms}')}")
    if long_sum:
        lines.append(lanes(result, " ".join(f"t{row}{lane} += a{row}{lane};" for row in names)))
        lines.append("}")
    total = "t" if long_sum else "a"
    ends = " ".join(
        f"{result.at([*batch, text, 'n'])} = {total}{row}{lane};" for row, text in enumerate(rows)
    )
    lines.append(lanes(result, ends))
    if not long_sum:
        lines.append("}")
    return lines


def cholesky(result: Array, matrix: Array) -> list[str]:
    """Lower factors of symmetric matrices [*batch, n, n], nan where one is not positive."""
    *batch, size, _ = matrix.shape
    heads, index = loops(batch, "q")
    root = "sqrtf" if C_TYPES[result.dtype] == "float" else "sqrt"

    def at(array: Array, row: str, column: str) -> str:
        return array.at([*index, row, column])

    own = at(result, "r", "c")
    start = lanes(result, f"{own} = {at(matrix, 'r', 'c')};")
    taken = f"{own} -= {at(result, 'r', 'k')} * {at(result, 'c', 'k')};"
    scaled = f"{own} = {own} / {at(result, 'c', 'c')};"
    diagonal = at(result, "c", "c")
    lines = [
        filled_with_zeros(result),
        *heads,
        f"for (long c = 0; c < {size}; c++)",
        f"for (long r = c; r < {size}; r++) {{",
        start,
        f"for (long k = 0; k < c; k++) {lanes(result, taken)}",
        f"if (r == c) {lanes(result, f'{diagonal} = {root}({diagonal});')}",
        f"else {lanes(result, scaled)}",
        "}",
    ]
    return lines


def triangular_solution(
    result: Array, matrix: Array, right: Array, *, upper: bool, unit: bool
) -> list[str]:
    """The solution X of A X = B, A triangular."""
    *batch, size, columns = result.shape
    heads, index = loops(batch, "q")

    def at(array: Array, row: str, column: str) -> str:
        return array.at([*index, row, column])

    own = at(result, "r", "n")
    taken = f"{own} -= {at(matrix, 'r', 'k')} * {at(result, 'k', 'n')};"
    order = (
        f"for (long r = {size} - 1; r >= 0; r--)" if upper else f"for (long r = 0; r < {size}; r++)"
    )
    inner = f"for (long k = r + 1; k < {size}; k++)" if upper else "for (long k = 0; k < r; k++)"
    lines = [*heads, order, f"for (long n = 0; n < {columns}; n++) {{"]
    lines.append(lanes(result, f"{own} = {at(right, 'r', 'n')};"))
    lines.append(f"{inner} {lanes(result, taken)}")
    if not unit:
        lines.append(lanes(result, f"{own} = {own} / {at(matrix, 'r', 'r')};"))
    return [*lines, "}"]


def gathered(result: Array, source: Array, chosen: Array, axis: int) -> list[str]:
    """From every place along an axis the element that an index says."""
    heads, index = loops(result.shape)
    found, inside = _along(source, chosen, axis, index)
    return [*heads, lanes(result, f"{found} {result.at(index)} = {source.at(inside)};")]


def scattered(result: Array, source: Array, chosen: Array, axis: int, sign: str) -> list[str]:
    """Elements of a source put, or added, where indices along an axis say."""
    heads, index = loops(chosen.shape)
    found, inside = _along(result, chosen, axis, index)
    return [*heads, lanes(result, f"{found} {result.at(inside)} {sign} {source.at(index)};")]


def place_of_greatest(result: Array, source: Array, axis: int, sign: str) -> list[str]:
    """The first place along an axis of what is greatest, or not a number."""
    heads, index = loops(result.shape)
    own = result.at(index)

    def at(step: str) -> str:
        return source.at([*index[:axis], step, *index[axis + 1 :]])

    here, best = at("s"), at(own)
    better = f"{best} == {best} && ({here} {sign} {best} || {here} != {here})"
    following = lanes(result, f"{own} = {better} ? s : {own};")
    first = lanes(result, f"{own} = 0;")
    size = source.shape[axis]
    return [*heads, "{", first, f"for (long s = 1; s < {size}; s++) {following}", "}"]


def _along(indexed: Array, chosen: Array, axis: int, index: list[str]) -> tuple[str, list[str]]:
    size = indexed.shape[axis]
    found = f"long k0 = {chosen.at(index)}; k0 += k0 < 0 ? {size} : 0;"
    return found, [*index[:axis], "k0", *index[axis + 1 :]]


def running(result: Array, source: Array, axis: int, sign: str) -> list[str]:
    """Cumulative sums or products along an axis."""
    size = source.shape[axis]
    others = [1 if i == axis else n for i, n in enumerate(source.shape)]
    heads, index = loops(others)

    def at(array: Array, step: str) -> str:
        return array.at([*index[:axis], step, *index[axis + 1 :]])

    first = lanes(result, f"{at(result, '0')} = {at(source, '0')};")
    following = lanes(
        result, f"{at(result, 's')} = {at(result, '(s - 1)')} {sign} {at(source, 's')};"
    )
    return [*heads, "{", first, f"for (long s = 1; s < {size}; s++) {following}", "}"]


def in_range(chosen: Array, size: int) -> list[str]:
    """Lines that leave with 1 where an index lies outside of an axis of that length."""
    heads, index = loops(chosen.shape)
    value = chosen.at(index)
    return [*heads, f"if ({value} < -{size} || {value} >= {size}) return 1;"]
