"""Estimates of log Z over seeds: how a worker hands them over, and how they are judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.worker import Stopwatch, hand_over, options

# Some of the truths are certain to no more digits than this.
ROUNDING = 1e-6


class Estimate(NamedTuple):
    """log Z, and what else the library says of it; NaN where it says nothing."""

    log_z: float
    std_error: float = math.nan
    reliable: float = math.nan


def estimate_all(estimate: Callable[[int], Estimate], watch: Stopwatch) -> None:
    """Time the estimates of all seeds; each is handed over with those before it.

    What a process has made when its time is up is so not lost.
    """
    rows = []
    for seed in range(*options()["seeds"]):
        began = time.perf_counter()
        found = estimate(seed)
        rows.append([*found, time.perf_counter() - began])
        hand_over(rows, watch)


class Truth(NamedTuple):
    """The known log Z with its standard error, and the most that an estimate may be off."""

    log_z: float
    log_z_error: float
    most_error: float


class Estimates(NamedTuple):
    """What a library made of a target, each [run]; ``seeds`` runs were asked for.

    ``compilation`` is in seconds and in no run's ``seconds``.
    """

    truth: Truth
    seeds: int
    log_z: np.ndarray
    std_error: np.ndarray
    reliable: np.ndarray
    seconds: np.ndarray
    compilation: float

    @property
    def complete(self) -> bool:
        """Whether all runs came to an end."""
        return len(self.log_z) == self.seeds

    @property
    def errors(self) -> np.ndarray:
        """The errors in nats, [run]."""
        return self.log_z - self.truth.log_z

    @property
    def rms(self) -> float:
        """The root mean square of the errors."""
        return root_mean_square(self.errors)

    @property
    def greatest(self) -> float:
        """The greatest error, whatever its sign."""
        return float(np.abs(self.errors).max())

    @property
    def z(self) -> np.ndarray:
        """The errors in units of the reported ones, [run]."""
        return self.errors / np.hypot(self.std_error, math.hypot(self.truth.log_z_error, ROUNDING))

    def numbers(self) -> dict[str, Any]:
        """Every number, for JSON."""
        columns = ("log_z", "std_error", "reliable", "seconds")
        runs = {name: [_or_none(value) for value in getattr(self, name)] for name in columns}
        return {**runs, "compilation": self.compilation, "truth": self.truth._asdict()}


def root_mean_square(values: np.ndarray) -> float:
    """The root of the mean of squares: of errors that should be about 0."""
    return float(np.sqrt(np.square(values).mean()))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
