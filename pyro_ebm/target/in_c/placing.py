"""Where arrays lie between loops.

Only what another loop reads is kept in memory, for a block of chains at a time: so all of it stays
near the processor. Memory of arrays that are read no more is used again.
"""

from __future__ import annotations

from collections.abc import Sequence

from .arrays import Pointwise, Store
from .grouping import Part, steps_of, stores_of
from .reading import Program

# Where arrays begin: at a whole vector of any machine.
ALIGNED = 64


def kept_stores(parts: Sequence[Part], program: Program) -> set[Store]:
    """The stores that have to be memory: read by another part than their own, or given out."""
    kept = {array.store for array in program.outputs if array.store is not None}
    for part in parts:
        steps = steps_of(part)
        own = {step.store for step in steps if isinstance(step, Pointwise)}
        for step in steps:
            if not isinstance(step, Pointwise):
                kept.add(step.store)
            kept |= {a.store for a in step.inputs if a.store is not None and a.store not in own}
    return kept


def _bytes(store: Store, lanes_in_block: int) -> int:
    size = store.size * store.dtype.itemsize * lanes_in_block
    return -(-size // ALIGNED) * ALIGNED


def places_of_all(parts: Sequence[Part], kept: set[Store]) -> tuple[dict[Store, int], int]:
    """Where what is the same for all chains lies: every array in a place of its own."""
    places, end = {}, 0
    for part in parts:
        for step in steps_of(part):
            if step.store in kept:
                places[step.store] = end
                end += _bytes(step.store, 1)
    return places, max(end, ALIGNED)


def places_by_life(
    parts: Sequence[Part], kept: set[Store], program: Program, lanes_in_block: int
) -> tuple[dict[Store, int], int]:
    """Where arrays of a block of chains lie: in the memory of others that are read no more."""
    last = {store: i for i, part in enumerate(parts) for store in stores_of(part)}
    last |= {array.store: len(parts) for array in program.outputs if array.store is not None}
    places = {program.position: 0}
    taken: list[tuple[int, int, Store]] = [
        (0, _bytes(program.position, lanes_in_block), program.position)
    ]
    end = taken[0][1]
    for i, part in enumerate(parts):
        for store in dict.fromkeys(stores_of(part)):
            if store in places or store not in kept or not store.per_chain:
                continue
            size = _bytes(store, lanes_in_block)
            begin = _first_gap(taken, size)
            places[store] = begin
            taken.append((begin, begin + size, store))
            taken.sort(key=lambda each: each[0])
            end = max(end, begin + size)
        taken = [each for each in taken if each[2] is program.position or last.get(each[2], 0) > i]
    return places, end


def _first_gap(taken: Sequence[tuple[int, int, Store]], size: int) -> int:
    begin = 0
    for start, stop, _ in taken:
        if start - begin >= size:
            return begin
        begin = max(begin, stop)
    return begin
