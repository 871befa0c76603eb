"""Which steps share a loop.

Steps that run over the same indices and read each other's results only at their own index become
one loop, in which those results are variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .arrays import Array, Block, Pointwise, Reduction, Step, Store, axes_of

# Loops of more steps take the compiler too long.
_MOST_STEPS = 250


class Group:
    """Steps that share one loop."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.steps: list[Pointwise | Reduction] = []
        # The axes along which all sums of the loop run; None while there is none.
        self.reduced: frozenset[int] | None = None

    def takes(self, step: Step, done: set[Step]) -> bool:
        """Whether a step may join."""
        if not isinstance(step, (Pointwise, Reduction)) or axes_of(step.loop) != self.shape:
            return False
        if len(self.steps) >= _MOST_STEPS:
            return False
        if isinstance(step, Reduction) and self.reduced not in (None, step.reduced):
            return False
        return all(self._reads(array, done) for array in step.inputs)

    def _reads(self, array: Array, done: set[Step]) -> bool:
        maker = array.store.step if array.store is not None else None
        if maker is None or maker in done:
            return True
        inside = maker in self.steps and isinstance(maker, Pointwise)
        return inside and array.whole and axes_of(array.shape) == self.shape

    def add(self, step: Pointwise | Reduction) -> None:
        """One more step."""
        self.steps.append(step)
        if isinstance(step, Reduction):
            self.reduced = step.reduced


Part = Group | Block


def scheduled(steps: Iterable[Step], before: Iterable[Step] = ()) -> list[Part]:
    """Parts in an order in which they can be done, as few as a greedy choice finds.

    :param before: steps that are done already.
    """
    left, done, parts = list(steps), set(before), list[Part]()
    while left:
        ready = [step for step in left if _is_ready(step, done)]
        blocks = [step for step in ready if isinstance(step, Block)]
        if blocks:
            parts += blocks
            done.update(blocks)
        else:
            parts.append(_gathered(ready, left, done))
            done.update(parts[-1].steps)  # pyright: ignore[reportAttributeAccessIssue]
        left = [step for step in left if step not in done]
    return parts


def _gathered(ready: Sequence[Step], left: Sequence[Step], done: set[Step]) -> Group:
    # The shortest loop first, as the longest then finds most of what it waits for.
    shapes = [axes_of(step.loop) for step in ready if isinstance(step, (Pointwise, Reduction))]
    group = Group(min(shapes, key=lambda shape: (math.prod(shape), shape)))
    for step in left:
        if group.takes(step, done) and isinstance(step, (Pointwise, Reduction)):
            group.add(step)
    return group


def _is_ready(step: Step, done: set[Step]) -> bool:
    makers = (array.store.step for array in step.inputs if array.store is not None)
    return all(maker is None or maker in done for maker in makers)


def steps_of(part: Part) -> Sequence[Pointwise | Reduction | Block]:
    """What a part does."""
    return [part] if isinstance(part, Block) else part.steps


def stores_of(part: Part) -> list[Store]:
    """What a part fills and what it reads."""
    steps = steps_of(part)
    read = [array.store for step in steps for array in step.inputs if array.store is not None]
    return [step.store for step in steps] + read
