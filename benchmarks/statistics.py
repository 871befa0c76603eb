"""How fast, and whether the error agrees: effective draws of the worst parameter, and its test.

The error test: with the true mean m and variance v of a parameter, the mean of a run with effective
sample size ESS should have z^2 = (mean - m)^2 ESS / v of expectation one. Pooled over S seeds and p
parameters, the average of z^2 is tested against a chi-square law. Parameters of one run are
correlated, so it has fewer than S p degrees of freedom: an average of p standard normals' squares
with correlation matrix R has variance 2 tr(R^2) / p^2, as has chi-square over its number of degrees
of freedom when that is p^2 / tr(R^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from pyro_ebm.diagnostics import ess_bulk, ess_mean, ess_tail

CONFIDENCE = 0.998


def joined(draws: np.ndarray) -> np.ndarray:
    """Chains [chain, draw, parameter] end to end, as one chain of all draws.

    ArviZ estimates autocorrelations chain by chain, each about its own mean: too low by about one
    over half the length of a chain, at every lag. Chains of 100 draws that are anticorrelated, as
    NUTS on a Gaussian makes them, are so credited with up to a third more effective draws than
    their errors show. Joined, they lose no more than the pairs across the joints.
    """
    return draws.reshape(1, -1, draws.shape[-1])


class Effective(NamedTuple):
    """Effective sample sizes of the worst parameter: of the mean, of the bulk, of the tails."""

    mean: float
    bulk: float
    tail: float


def worst(draws: np.ndarray) -> Effective:
    """The least effective sample sizes over the parameters of [chain, draw, parameter]."""
    one = joined(draws)
    return Effective(*(float(ess(one).min()) for ess in (ess_mean, ess_bulk, ess_tail)))


class Agreement(NamedTuple):
    """The average of z^2, the interval it should lie in, and the degrees of freedom behind it."""

    ratio: float
    low: float
    high: float
    degrees: float

    @property
    def holds(self) -> bool:
        """Whether the error is what the effective sample sizes say."""
        return self.low <= self.ratio <= self.high


def agreement(
    means: np.ndarray, ess: np.ndarray, true_mean: np.ndarray, true_sd: np.ndarray
) -> Agreement:
    """Compare the errors of means [seed, parameter] with their effective sample sizes.

    The correlation of the errors is taken from the seeds; its squares are freed of the 1/S that
    chance adds to each.

    Source: Satterthwaite (1946), An approximate distribution of estimates of variance components,
    for the degrees of freedom.
    """
    z = (means - true_mean) / true_sd * np.sqrt(ess)
    seeds, p = z.shape
    squared = np.corrcoef(z.T) ** 2
    between = (squared.sum() - p - p * (p - 1) / seeds) / (1 - 1 / seeds)
    degrees = seeds * p**2 / (p + max(between, 0.0))
    low, high = chi2.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], degrees) / degrees
    return Agreement(float((z**2).mean()), float(low), float(high), float(degrees))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    return float(np.median(values)), float(min(values)), float(max(values))
