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
    n, m = len(forward), len(backward)
    independent = float(m) if num_backward_independent is None else num_backward_independent
    share_forward, share_backward = n / (n + independent), independent / (n + independent)
    log_forward, log_backward = math.log(share_forward), math.log(share_backward)
    forward, backward = forward.double(), backward.double()

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
            return log_z, math.inf
        top, bottom = split(log_z)
        following = float(log_mean_exp(top) - log_mean_exp(bottom))
        done = abs(following - log_z) < _TOLERANCE * max(1.0, abs(following))
        log_z = following
        if done:
            break
    top, bottom = split(log_z)
    square = _relative_variance(top) / n + _relative_variance(bottom) / independent
    return log_z, math.sqrt(square)


def _relative_variance(log_values: Tensor) -> float:
    scaled = (log_values - log_values.max()).exp()
    mean = scaled.mean()
    return float(scaled.var() / mean.square()) if len(log_values) > 1 else math.inf
