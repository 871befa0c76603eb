"""Is the answer right? Means and sds of a run against what is known of the posterior.

Each is held against its own standard error, the run's and the reference's together. The run's is
taken with the true sd in place of its own, as draws that happen to lie close together would have
too small an error. The limit is one that a right answer exceeds, in any figure, once in a thousand
runs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from pyro_ebm.diagnostics import mcse_mean, mcse_sd

from .statistics import Effective, joined, worst
from .targets import outside_support, reference

FALSE_ALARMS = 1e-3
# Standard errors that come from fewer effective draws say little themselves.
LEAST_ESS = 50.0


class Answer(NamedTuple):
    """``wrong`` says why an answer does not count, "" where it does.

    ``squared_error`` is the average over the parameters of (mean - truth)^2 over what the effective
    sample size promises: about 1.
    """

    effective: Effective
    wrong: str
    squared_error: float


def judge(target: str, draws: np.ndarray) -> Answer:
    """Judge draws [chain, draw, parameter] of a target."""
    if not np.isfinite(draws).all():
        return Answer(Effective(0.0, 0.0, 0.0), "draws that are not finite", math.nan)
    if (np.ptp(draws, axis=(0, 1)) == 0).any():
        return Answer(Effective(0.0, 0.0, 0.0), "a parameter that never moves", math.nan)
    outside = outside_support(target, draws)
    known, one = reference(target), joined(draws.astype(float))
    effective = worst(draws)
    mean, sd = one.mean((0, 1)), one.std((0, 1))
    kurtosis = (((one - mean) / sd) ** 4).mean((0, 1))
    # A reference of n independent draws errs by sd / sqrt(n) in the mean.
    sd_error = known.mean_error * np.sqrt((kurtosis - 1) / 4)
    truly = known.sd / sd
    distances = {
        "mean": (mean - known.mean) / np.hypot(truly * mcse_mean(one), known.mean_error),
        "sd": (sd - known.sd) / np.hypot(truly * mcse_sd(one), sd_error),
    }
    squared_error = float((distances["mean"] ** 2).mean())
    wrong = _wrong(known.parameters, distances, effective)
    if outside > 0:
        wrong = f"{outside:.1%} of the draws lie outside the support"
    return Answer(effective, wrong, squared_error)


def _wrong(
    parameters: tuple[str, ...], distances: dict[str, np.ndarray], effective: Effective
) -> str:
    least = min(effective.mean, effective.bulk)
    if least < LEAST_ESS:
        return f"{least:.0f} effective draws are too few to judge the answer"
    figures = sum(distance.size for distance in distances.values())
    limit = float(norm.isf(FALSE_ALARMS / (2 * figures)))
    figure = max(distances, key=lambda key: np.abs(distances[key]).max())
    place = int(np.abs(distances[figure]).argmax())
    farthest = float(distances[figure][place])
    if abs(farthest) > limit:
        return f"the {figure} of {parameters[place]} is {farthest:.1f} standard errors off"
    return ""
