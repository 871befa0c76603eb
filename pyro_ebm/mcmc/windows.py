"""How warm-up is cut into windows: few draws of many chains are as good as many of few."""

from __future__ import annotations

# Pooled draws beyond which a longer window teaches little; it bounds the memory of warm-up.
_ENOUGH_DRAWS, _LEAST_BOUND = 5000, 10
# By the least number of chains the first window: the sooner it ends, the fewer transitions are made
# with a metric that knows no draw.
_FIRST = ((32, 5), (8, 10), (1, 20))


def windows(num_steps: int, num_chains: int) -> tuple[int, ...]:
    """Transitions per chain of each window; the last one adapts the step size alone.

    >>> windows(180, 64)
    (5, 7, 10, 15, 22, 33, 61, 27)
    """
    if num_steps < 20:
        return (num_steps,) if num_steps > 0 else ()
    last = min(50, max(10, (3 * num_steps) // 20))
    remaining = num_steps - last
    length = next(first for few, first in _FIRST if num_chains >= few)
    enough = max(_LEAST_BOUND, -(-_ENOUGH_DRAWS // num_chains))
    found: list[int] = []
    while remaining > 0:
        following = min(length + length // 2, enough)
        if remaining < length + following:
            length = remaining
        found.append(length)
        remaining -= length
        length = following
    return (*found, last)
