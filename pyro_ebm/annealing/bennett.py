"""Bennett's acceptance ratio: Z from weights of the base and of the target at once.

With weights w of paths from either end (or importance weights p/q of draws of q and of p), Z solves

    Z = mean_F[w / (s_R w + s_F Z)] / mean_R[1 / (s_R w + s_F Z)],

s_F and s_R the shares of forward and backward ones. Between independent draws no other combination
has a smaller variance.

Source: Bennett (1976), Efficient estimation of free energy differences from Monte Carlo data; Meng,
Wong (1996), Simulating ratios of normalizing constants; the error: Frühwirth-Schnatter (2004).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .weights import log_mean_exp

_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-10


def bennett(
    forward: Tensor,
    backward: Tensor,
    *,
    num_backward_independent: float | None = None,
) -> tuple[float, float]:
    """log Z and its standard error.

    :param forward: log weights [n] of paths or draws from the base.
    :param backward: log weights [m] of paths or draws from the target; the mean of exp(-backward)
        is 1/Z.
    :param num_backward_independent: how many independent draws the backward ones are worth.
    """
    n = len(forward)
    independent = float(
        len(backward) if num_backward_independent is None else num_backward_independent
    )
    log_z, top, bottom = _solve(forward.double(), backward.double(), independent)
    if not math.isfinite(log_z):
        return log_z, math.inf
    square = _variance(_shares(top)) / n + _variance(_shares(bottom)) / independent
    return log_z, math.sqrt(square)


def forward_discrepancy(
    forward: Tensor, backward: Tensor, *, num_backward_independent: float | None = None
) -> tuple[float, float]:
    """log Z of both ends together minus that of the forward weights alone, and its error.

    What the forward ones have missed and the backward ones have met shows here. The forward weights
    enter both estimates, and only what they do not share counts in the error.
    """
    forward, backward = forward.double(), backward.double()
    independent = float(
        len(backward) if num_backward_independent is None else num_backward_independent
    )
    log_z, top, bottom = _solve(forward, backward, independent)
    if not math.isfinite(log_z):
        return math.inf, math.inf
    apart = _shares(top) - _shares(forward)
    square = _variance(apart) / len(forward) + _variance(_shares(bottom)) / independent
    return log_z - float(log_mean_exp(forward)), math.sqrt(square)


def _solve(forward: Tensor, backward: Tensor, independent: float) -> tuple[float, Tensor, Tensor]:
    """log Z, and the logarithms of what is averaged forwards and backwards at it."""
    n = len(forward)
    share_forward, share_backward = n / (n + independent), independent / (n + independent)
    log_forward, log_backward = math.log(share_forward), math.log(share_backward)

    def split(log_z: float) -> tuple[Tensor, Tensor]:
        top = forward - torch.logaddexp(
            log_backward + forward, forward.new_tensor(log_forward + log_z)
        )
        bottom = -torch.logaddexp(log_backward + backward, backward.new_tensor(log_forward + log_z))
        return top, bottom

    finite = forward[forward > -torch.inf]
    log_z = float(finite.median()) if len(finite) else -math.inf
    for _ in range(_MAX_ITERATIONS):
        if not math.isfinite(log_z):
            break
        top, bottom = split(log_z)
        following = float(log_mean_exp(top) - log_mean_exp(bottom))
        done = abs(following - log_z) < _TOLERANCE * max(1.0, abs(following))
        log_z = following
        if done:
            break
    return log_z, *split(log_z)


def _variance(values: Tensor) -> float:
    return float(values.var()) if len(values) > 1 else math.inf


def _shares(log_values: Tensor) -> Tensor:
    """Values over their mean."""
    return (log_values - log_mean_exp(log_values)).exp()
