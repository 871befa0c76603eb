"""From steps to C: the text of a density."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from .arrays import Array, Block, Pointwise, Reduction, Store, index_of
from .blocks import RUN, in_range, lanes
from .expressions import literal
from .grouping import Group, Part, scheduled, stores_of
from .placing import kept_stores, places_by_life, places_of_all
from .reading import Program

_LEAST = {"max": "-INFINITY", "min": "INFINITY"}
_PREAMBLE = Path(__file__).with_name("preamble.h")


def source(program: Program, lanes_in_block: int) -> tuple[str, int, int]:
    """The C code, and the bytes it needs for what depends on the chain, and for what does not."""
    number = program.position.c_type
    first = [step for step in program.steps if not step.store.per_chain]
    common = scheduled(first)
    of_chains = scheduled((step for step in program.steps if step.store.per_chain), first)
    kept = kept_stores([*common, *of_chains], program)
    places, common_bytes = places_of_all(common, kept)
    chain_places, chain_bytes = places_by_life(of_chains, kept, program, lanes_in_block)
    writer = _Writer(places | chain_places, kept)
    functions = [writer.function(f"common_{i}", part) for i, part in enumerate(common)]
    functions += [writer.function(f"part_{i}", part) for i, part in enumerate(of_chains)]
    text = [
        _PREAMBLE.read_text(),
        f"#define B {lanes_in_block}",
        '#define LANES _Pragma("omp simd") for (int l = 0; l < B; l++)',
        "#define PART static ALONE",
        *functions,
        *writer.check("check_given", [pair for pair in program.checked if _is_given(pair[0])]),
        *writer.check("check_computed", [p for p in program.checked if not _is_given(p[0])]),
        writer.output(program),
        "int density(const void *given, long chains, void *values_, void *gradients_,",
        "            const void *const *held, char *chain, char *common) {",
        f"const {number} *positions = given;",
        f"{number} *values = values_, *gradients = gradients_;",
        "if (check_given(held, common)) return 1;",
        *[f"common_{i}(held, chain, common);" for i in range(len(common))],
        "if (check_computed(held, common)) return 1;",
        "for (long first = 0; first < chains; first += B) {",
        "const long n = chains - first < B ? chains - first : B;",
        f"{number} *x = ({number} *)(chain + {chain_places[program.position]});",
        f"for (long d = 0; d < {program.position.size}; d++)",
        "for (long l = 0; l < B; l++)",
        "x[d * B + l] = positions[d * chains + first + (l < n ? l : n - 1)];",
        *[f"part_{i}(held, chain, common);" for i in range(len(of_chains))],
        "out(held, chain, common, n, first, chains, values, gradients);",
        "}",
        "return 0;",
        "}",
    ]
    return "\n".join(text) + "\n", chain_bytes, common_bytes


def _is_given(array: Array) -> bool:
    return array.store is None or array.store.held is not None


def _declared_held(store: Store) -> str:
    return f"const {store.c_type} *{store.name} = held[{store.held}];"


class _Writer:
    """Writes functions, given where arrays lie."""

    def __init__(self, places: dict[Store, int], kept: set[Store]) -> None:
        self._places, self._kept = places, kept

    def function(self, name: str, part: Part) -> str:
        """One part as a function of its own."""
        head = f"PART void {name}(const void *const *held, char *chain, char *common) {{"
        body = part.write() if isinstance(part, Block) else self._loop(part)
        return "\n".join([head, *self._declared(stores_of(part)), *body, "}"])

    def check(self, name: str, pairs: Sequence[tuple[Array, int]]) -> list[str]:
        """A function that tells whether indices lie outside of axes of such lengths."""
        stores = [array.store for array, _ in pairs if array.store is not None]
        lines = [f"static int {name}(const void *const *held, const char *common) {{"]
        lines += self._declared(stores)
        for array, size in pairs:
            lines += in_range(array, size)
        return [*lines, "return 0;", "}"]

    def output(self, program: Program) -> str:
        """The function that hands over the results of a block."""
        number = program.position.c_type
        value, gradient = program.outputs
        stores = [array.store for array in program.outputs if array.store is not None]
        dim = program.position.size
        index = ["d"] if dim > 1 else ["0"]
        lines = [
            "PART void out(const void *const *held, char *chain, char *common, long n, long first,",
            f"                long chains, {number} *values, {number} *gradients) {{",
            *self._declared(stores),
            f"for (long l = 0; l < n; l++) values[first + l] = {value.at([])};",
            f"for (long d = 0; d < {dim}; d++)",
            "for (long l = 0; l < n; l++)",
            f"gradients[d * chains + first + l] = {gradient.at(index)};",
            "}",
        ]
        return "\n".join(lines)

    def _declared(self, stores: Iterable[Store]) -> list[str]:
        lines = []
        for store in dict.fromkeys(stores):
            if store.held is not None:
                lines.append(_declared_held(store))
            elif store in self._places:
                base = "chain" if store.per_chain else "common"
                kind = store.c_type
                lines.append(f"{kind} *{store.name} = ({kind} *)({base} + {self._places[store]});")
        return lines

    def _loop(self, group: Group) -> list[str]:
        names = index_of(group.shape)
        reduced = sorted(group.reduced or ())
        outer = [axis for axis in range(len(group.shape)) if axis not in reduced]
        sums = [step for step in group.steps if isinstance(step, Reduction)]
        per_chain = group.steps[0].store.per_chain
        lines = [_head(names[axis], group.shape[axis]) for axis in outer]
        statements = " ".join(self._statement(step, group) for step in group.steps)
        body = f"LANES {{ {statements} }}" if per_chain else f"{{ {statements} }}"
        if not sums:
            return [*lines, body]
        total = math.prod(group.shape[axis] for axis in reduced)
        lines.append("{")
        split = total > RUN
        if split:
            lines += [_declared_sum(step, "t") for step in sums]
        cut, width = _cut([group.shape[axis] for axis in reduced])
        for axis in reduced[:cut]:
            lines.append(_head(names[axis], group.shape[axis]))
        size, counter = group.shape[reduced[cut]], names[reduced[cut]]
        if split:
            lines.append(f"for (long s = 0; s < {size}; s += {width}) {{")
            lines.append(f"const long e = s + {width} < {size} ? s + {width} : {size};")
        else:
            lines.append(f"{{ const long s = 0, e = {size};")
        lines += [_declared_sum(step, "a") for step in sums]
        lines.append(f"for (long {counter} = s; {counter} < e; {counter}++)")
        lines += [_head(names[axis], group.shape[axis]) for axis in reduced[cut + 1 :]]
        lines.append(body)
        if split:
            lines += [_joined(step) for step in sums]
            lines.append("}")
        lines += [self._written(step, "t" if split else "a") for step in sums]
        if not split:
            lines.append("}")
        return [*lines, "}"]

    def _statement(self, step: Pointwise | Reduction, group: Group) -> str:
        operands = [self._operand(array, group) for array in step.inputs]
        kind = step.store.c_type
        if isinstance(step, Reduction):
            return _taken(step, operands[0])
        name = f"v{step.store.name[1:]}"
        value = step.write(operands, index_of(step.loop))
        # Booleans of the breadth of the numbers that they choose between keep vectors whole.
        text = f"const {'int' if kind == 'flag' else kind} {name} = {value};"
        if step.store in self._kept:
            text += f" {step.result.at(index_of(step.loop))} = {name};"
        return text

    def _operand(self, array: Array, group: Group) -> str:
        store = array.store
        if store is not None and store.step in group.steps:
            return f"v{store.name[1:]}"
        return array.at(index_of(array.shape)) if store is not None else _constant(array)

    def _written(self, step: Reduction, prefix: str) -> str:
        lane = "[l]" if step.store.per_chain else ""
        shape = step.loop
        kept = [
            name if new > 1 or old == 1 else "0"
            for name, old, new in zip(index_of(shape), shape, step.result.shape, strict=True)
        ]
        name = f"{prefix}{step.store.name[1:]}{lane}"
        return lanes(step.result, f"{step.result.at(kept)} = {name};")


def _constant(array: Array) -> str:
    return literal(array.constant, array.dtype)


def _head(name: str, size: int) -> str:
    return f"for (long {name} = 0; {name} < {size}; {name}++)"


def _cut(sizes: Sequence[int]) -> tuple[int, int]:
    """The axis whose steps are counted in runs, and how many of its steps make a run."""
    inner, axis = 1, len(sizes) - 1
    while axis > 0 and inner * sizes[axis] <= RUN // 2:
        inner *= sizes[axis]
        axis -= 1
    return axis, max(1, RUN // inner)


def _declared_sum(step: Reduction, prefix: str) -> str:
    name, many = f"{prefix}{step.store.name[1:]}", "[B]" if step.store.per_chain else ""
    lane = "[l]" if step.store.per_chain else ""
    real = step.store.dtype.is_floating_point
    kind = step.store.c_type
    if prefix == "t" and step.kind == "sum" and real:
        kind = "double"
    first = {"sum": "0", "prod": "1"}.get(step.kind)
    if first is None:
        first = _LEAST[step.kind] if real else _least_whole(step)
    return f"{kind} {name}{many}; {lanes(step.result, f'{name}{lane} = {first};')}"


def _least_whole(step: Reduction) -> str:
    if step.store.c_type == "flag":
        return "0" if step.kind == "max" else "1"
    return "INT64_MIN" if step.kind == "max" else "INT64_MAX"


def _taken(step: Reduction, value: str, prefix: str = "a") -> str:
    lane = "[l]" if step.store.per_chain else ""
    name = f"{prefix}{step.store.name[1:]}{lane}"
    if step.kind == "sum":
        return f"{name} += {value};"
    if step.kind == "prod":
        return f"{name} *= {value};"
    sign = ">" if step.kind == "max" else "<"
    # What is not a number stays so.
    return f"{name} = {value} {sign} {name} || {value} != {value} ? {value} : {name};"


def _joined(step: Reduction) -> str:
    lane = "[l]" if step.store.per_chain else ""
    return lanes(step.result, _taken(step, f"a{step.store.name[1:]}{lane}", "t"))
