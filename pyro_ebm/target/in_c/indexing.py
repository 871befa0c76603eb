"""Elements picked by indices, and put where indices say."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from . import blocks
from .arrays import Array
from .building import Build
from .call import Call
from .expressions import NotInC


def indexed(build: Build, call: Call, example: Any) -> Array | None:
    """The array of an operation with indices, None of any other."""
    name = call.base_name
    if name in ("gather", "scatter", "scatter_add"):
        return _gathered(build, call, example)
    names = ("index", "index_put", "_unsafe_index", "_unsafe_index_put")
    if name not in (*names, "index_select", "index_add"):
        return None
    source = build.array(call.at(0))
    if name in ("index_select", "index_add"):
        if not source.shape or call.given("alpha", 1) != 1:
            return None
        first, indices = call.at(1) % len(source.shape), [build.array(call.at(2))]
    else:
        given = _plain_indices(build, call)
        places = [i for i, each in enumerate(given) if each is not None]
        if not places or places != list(range(places[0], places[-1] + 1)):
            raise NotInC(f"{name} with indices apart from each other")
        first, indices = places[0], [given[i] for i in places]
    chosen_ones = [each for each in indices if each is not None]
    if any(each.per_chain or each.dtype not in (torch.int64, torch.int32) for each in chosen_ones):
        raise NotInC(f"{name} with indices that are no plain data")
    shape = torch.broadcast_shapes(*(each.shape for each in chosen_ones))
    wide = [each.expanded(shape) for each in chosen_ones]
    puts = name.endswith(("index_put", "index_add"))
    values = build.array(call.at(3 if name == "index_add" else 2)) if puts else source
    for i, each in enumerate(chosen_ones):
        build.check(each, values, source.shape[first + i])
    if not puts:
        result = build.result(example.dtype, example.shape, source, *wide)
        return build.block(
            result, [source, *wide], lambda: blocks.picked(result, source, wide, first=first)
        )
    inner = source.shape[:first] + tuple(shape) + source.shape[first + len(wide) :]
    values = values.expanded(inner)
    adding = name == "index_add" or bool(call.given("accumulate", False))
    result = build.result(example.dtype, example.shape, source, values, *wide)

    def write() -> list[str]:
        before = blocks.copied(result, [(result, source)], background=None)
        return before + blocks.put(result, values, wide, first=first, adding=adding)

    return build.block(result, [source, values, *wide], write)


def _plain_indices(build: Build, call: Call) -> list[Array | None]:
    """Indices axis by axis; a mask that is known becomes those of its elements."""
    found: list[Array | None] = []
    for each in call.at(1):
        if each is None:
            found.append(None)
        elif build.example(each).dtype != torch.bool:
            found.append(build.array(each))
        elif build.root(each) in build.known:
            places = build.example(each).nonzero(as_tuple=True)
            found += [build.given(place.contiguous()) for place in places]
        else:
            raise NotInC(f"{call.name} with a mask that is given")
    return found


def _gathered(build: Build, call: Call, example: Tensor) -> Array:
    """gather and scatter_add: an index for every element along one axis."""
    source, chosen = build.array(call.at(0)), build.array(call.at(2))
    axis = call.at(1) % max(1, len(source.shape))
    if chosen.dtype != torch.int64 or not source.shape:
        raise NotInC(f"{call.name} with indices that are no plain data")
    size = source.shape[axis]
    if chosen.per_chain:
        assert chosen.store is not None
        low, high = build.bounds.get(chosen.store, (-math.inf, math.inf))
        if low < -size or high >= size:
            raise NotInC(f"{call.name} with indices that are no plain data")
    else:
        moved = source if call.base_name == "gather" else call.at(3)
        build.check(chosen, build.array(moved) if isinstance(moved, Node) else source, size)
    if call.base_name == "gather":
        call.given("sparse_grad")
        result = build.result(example.dtype, example.shape, source, chosen)
        return build.block(
            result, [source, chosen], lambda: blocks.gathered(result, source, chosen, axis)
        )
    given = call.at(3)
    if isinstance(given, Node):
        values = build.array(given)
    else:
        values = Array(None, example.dtype, chosen.shape, (0,) * len(chosen.shape), 0, given)
    if call.given("reduce") is not None:
        raise NotInC(f"{call.name} with a reduction")
    result = build.result(example.dtype, example.shape, source, values, chosen)
    sign = "+=" if call.base_name == "scatter_add" else "="

    def write() -> list[str]:
        before = blocks.copied(result, [(result, source)], background=None)
        return before + blocks.scattered(result, values, chosen, axis, sign)

    return build.block(result, [source, values, chosen], write)
