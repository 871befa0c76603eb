"""How warm-up is cut into windows: few draws of many chains are as good as many of few."""

from __future__ import annotations

# Pooled draws beyond which a longer window teaches little; it bounds the memory of warm-up.
_ENOUGH_DRAWS = 5000


def windows(num_steps: int, num_chains: int) -> tuple[int, ...]:
    """Transitions per chain of each window; the last one adapts the step size alone.

    >>> windows(180, 64)
    (10, 15, 22, 33, 73, 27)
    """
    if num_steps < 20:
        return (num_steps,) if num_steps > 0 else ()
    last = min(50, max(10, (3 * num_steps) // 20))
    remaining = num_steps - last
    length = 10 if num_chains >= 8 else 20
    enough = max(length, -(-_ENOUGH_DRAWS // num_chains))
    found: list[int] = []
    while remaining > 0:
        following = min(length + length // 2, enough)
        if remaining < length + following:
            length = remaining
        found.append(length)
        remaining -= length
        length = following
    return (*found, last)
