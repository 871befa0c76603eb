"""Which inverse temperatures an annealed run visits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Optimized(NamedTuple):
    """Equal local barriers, learned in rounds of doubling length with fresh particles.

    When the weights of a round promise a relative variance below ``relative_variance`` in the next,
    that one is the last, and nothing in it is adapted: its estimate of Z is unbiased.

    Source: Syed, Bouchard-Côté, Chern, Doucet (2024), Optimised annealed sequential Monte Carlo
    samplers.
    """

    relative_variance: float = 0.2
    max_temperatures: int = 512


class Linear(NamedTuple):
    """Evenly spaced inverse temperatures; the moves are tuned in one round before."""

    num_temperatures: int = 100


class InverseTemperatures(NamedTuple):
    """Inverse temperatures from 0 to 1, ascending; the moves are tuned in one round before."""

    betas: Sequence[float]


Schedule = Optimized | Linear | InverseTemperatures


def check_optimized(schedule: Optimized) -> None:
    """Refuse numbers out of range.

    :raises ValueError: such a number.
    """
    variance, most = schedule.relative_variance, schedule.max_temperatures
    if not variance > 0.0:
        raise ValueError(f"expected relative_variance to be positive, got {variance}.")
    if not isinstance(most, int) or most < 1:
        raise ValueError(f"expected max_temperatures to be a whole number from 1, got {most}.")


def fixed_betas(schedule: Linear | InverseTemperatures) -> list[float]:
    """The inverse temperatures of a schedule that does not learn.

    :raises ValueError: when they do not rise from 0 to 1.
    """
    if isinstance(schedule, Linear):
        if schedule.num_temperatures < 1:
            raise ValueError(f"expected at least one temperature, got {schedule.num_temperatures}.")
        return np.linspace(0.0, 1.0, schedule.num_temperatures + 1).tolist()
    try:
        betas = [float(beta) for beta in schedule.betas]
    except (TypeError, ValueError):
        raise ValueError(
            f"expected inverse temperatures to be numbers, got {schedule.betas!r}."
        ) from None
    rising = all(a < b for a, b in pairwise(betas))
    if len(betas) < 2 or betas[0] != 0.0 or betas[-1] != 1.0 or not rising:
        raise ValueError(
            "expected inverse temperatures that rise from 0 (the base) to 1 (the target), got "
            f"{betas if len(betas) < 8 else f'{betas[:3]} ... {betas[-3:]}'}."
        )
    return betas


def equal_barriers(
    betas: Sequence[float], barriers: Sequence[float], num_temperatures: int
) -> list[float]:
    """Inverse temperatures between which the barrier grows by equal amounts.

    :param barriers: the local barrier of each step between ``betas``.
    """
    finite = np.nan_to_num(np.asarray(barriers, dtype=float), nan=1.0, posinf=1.0)
    cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(finite, 1e-6))])
    wanted = np.linspace(0.0, cumulative[-1], num_temperatures + 1)
    found = _monotone(cumulative, np.asarray(betas, dtype=float), wanted)
    found[0], found[-1] = 0.0, 1.0
    # Steps that rounding has closed are opened again.
    return np.unique(found).tolist()


def _monotone(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone cubic interpolation of rising values.

    Source: Fritsch, Carlson (1980), with the harmonic-mean slopes of Fritsch, Butland (1984).
    """
    width, slope = np.diff(x), np.diff(y) / np.diff(x)
    tangent = np.concatenate([slope[:1], slope[-1:]]) if len(slope) == 1 else np.empty(len(x))
    if len(slope) > 1:
        first, second = width[:-1] + 2 * width[1:], 2 * width[:-1] + width[1:]
        with np.errstate(divide="ignore"):
            inner = (first + second) / (first / slope[1:] + second / slope[:-1])
        tangent[1:-1] = np.where(slope[1:] * slope[:-1] > 0, inner, 0.0)
        tangent[0], tangent[-1] = slope[0], slope[-1]
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(width) - 1)
    t = (at - x[i]) / width[i]
    cubic = y[i] * (1 + 2 * t) * (1 - t) ** 2 + y[i + 1] * t**2 * (3 - 2 * t)
    cubic += width[i] * (tangent[i] * t * (1 - t) ** 2 + tangent[i + 1] * t**2 * (t - 1))
    return np.clip(np.maximum.accumulate(cubic), 0.0, 1.0)
