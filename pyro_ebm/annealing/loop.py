"""Passes as loops over states: who runs one may look at each state, keep it, and go on from it.

A state is a NamedTuple of tensors, numbers and lists of these. Nothing is changed in place: a loop
that is stopped in the middle of a step still has the state before it. All that a step draws comes
from the loop's generator, so that a state and the generator's own are all there is to know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

S = TypeVar("S")


@dataclass(frozen=True)
class Loop(Generic[S]):
    """From ``begin()`` by ``step`` to the first state that is ``finished``.

    ``kind`` is the class of the states; ``number`` tells how many steps led to one, of a ``total``
    where that is known.
    """

    kind: type[S]
    generator: torch.Generator
    begin: Callable[[], S]
    step: Callable[[S], S]
    finished: Callable[[S], bool]
    number: Callable[[S], int]
    total: int = 0


@runtime_checkable
class Runner(Protocol):
    """Whatever runs loops and gives back their last states."""

    def __call__(self, loop: Loop[S], /) -> S:
        """The last state."""
        ...


def plainly(loop: Loop[S], /) -> S:
    """Run a loop, and nothing besides."""
    state = loop.begin()
    while not loop.finished(state):
        state = loop.step(state)
    return state


def once(kind: type[S], generator: torch.Generator, function: Callable[[], S]) -> Loop[S]:
    """A loop without steps: a function that is called once."""

    def never(state: Any) -> Any:
        raise AssertionError("A loop without steps makes none.")

    return Loop(kind, generator, function, never, lambda _: True, lambda _: 0)
