"""Numbers that a learning curve is asked for."""

from __future__ import annotations

import math
from typing import Any

import torch


def checked_numbers(name: str, given: Any, *, above: float | None) -> list[float]:
    """Finite numbers, descending: above a bound, or at least 0 for None.

    :raises TypeError: no numbers.
    :raises ValueError: none, two that are equal, or one out of range.
    """
    try:
        values = torch.as_tensor(given, dtype=torch.float64).reshape(-1).tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected {name} to be a sequence of numbers, got {given!r}.") from error
    wrong = [
        v for v in values if not math.isfinite(v) or v < 0 or (above is not None and v <= above)
    ]
    if not values or wrong:
        least = "of at least 0" if above is None else f"above {above:g}"
        raise ValueError(f"expected finite {name} {least}, got {wrong or 'none'}.")
    if len(set(values)) != len(values):
        raise ValueError(f"expected {name} that differ, got {values}.")
    return sorted(values, reverse=True)


def numbers_of_examples(alphas: list[float], num_weights: int) -> list[int]:
    """P = round(alpha N) of each.

    :raises ValueError: less than one example, or as many of two.
    """
    numbers = [round(alpha * num_weights) for alpha in alphas]
    if min(numbers) < 1:
        raise ValueError(
            f"expected alphas of at least one example, got {alphas} for {num_weights} weights."
        )
    if len(set(numbers)) < len(numbers):
        raise ValueError(
            f"expected alphas that differ by an example of {num_weights} weights, got {alphas}, "
            f"which are {numbers} examples."
        )
    return numbers
