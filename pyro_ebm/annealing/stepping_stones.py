"""log Z from draws at every inverse temperature: stepping stones from one to the next.

The ratio of the normalisers of neighbours is a mean over draws of either,

    Z' / Z = E_beta[exp((beta' - beta) U)] = 1 / E_beta'[exp(-(beta' - beta) U)],

the stepping stone forwards and backwards; Bennett's acceptance ratio takes both. log Z is the sum
over neighbours. Its error comes from independent ladders: each has its own influence on the sum, in
which draws that depend on one another, in time or between temperatures, stand together.

Source: Xie, Lewis, Fan, Kuo, Chen (2011), Improving marginal likelihood estimation for Bayesian
phylogenetic model selection; Bennett (1976); Shirts, Chodera (2008).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_BISECTIONS = 60

Slopes = Float[Tensor, "draws temperatures ladders"]


class Estimate(NamedTuple):
    """log Z and its standard error."""

    log_z: float
    std_error: float


class SteppingStones(NamedTuple):
    """log Z from the draws below, from those above, and from both by Bennett's ratio."""

    forward: Estimate
    reverse: Estimate
    bennett: Estimate


def stepping_stones(slope: Slopes, betas: Float[Tensor, " temperatures"]) -> SteppingStones:
    """log Z from slopes U of draws at inverse temperatures from 0 to 1, of two ladders or more."""
    width = betas.diff()[:, None]
    below, above = width * slope[:, :-1], width * slope[:, 1:]
    # Draws from above never meet what the base has outside of the support of the target.
    inside = torch.where(slope[:, :1] > -torch.inf, 0.0, -torch.inf)
    falls, kept = _means(-above), _means(inside)
    reverse = _estimate(torch.cat([-falls[0], kept[0]]), torch.cat([-falls[1], kept[1]]))
    return SteppingStones(_estimate(*_means(below)), reverse, _bennett(below, above))


def _means(increments: Tensor) -> tuple[Tensor, Tensor]:
    """log mean exp of increments [draws, steps, ladders], and the ladders' influence on each."""
    draws, _, ladders = increments.shape
    log_mean = increments.logsumexp((0, 2)) - math.log(draws * ladders)
    of_ladder = increments.logsumexp(0) - math.log(draws)
    return log_mean, (of_ladder - log_mean[:, None]).exp() - 1.0


def _bennett(below: Tensor, above: Tensor) -> Estimate:
    """The sum over steps of the c at which sigma(u - c) below and sigma(c - u) above are equal."""
    # Where but a few draws of the base lie inside of the support, c is below all finite increments.
    margin = math.log(below.shape[0] * below.shape[2]) + 1.0
    low = torch.minimum(_lowest(below), _lowest(above)) - margin
    high = torch.maximum(_highest(below), _highest(above))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        more = _difference(below, above, middle).mean(1) > 0.0
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    middle = 0.5 * (low + high)
    difference = _difference(below, above, middle)
    up, down = (torch.sigmoid(part - middle[:, None]) for part in (below, above))
    slope = (up * (1.0 - up)).mean((0, 2)) + (down * (1.0 - down)).mean((0, 2))
    found = torch.where((below > -torch.inf).any(0).any(1), middle, -torch.inf)
    return _estimate(found, difference / slope[:, None])


def _difference(below: Tensor, above: Tensor, middle: Tensor) -> Tensor:
    """Per step and ladder: falls as ``middle`` [steps] rises through the ratio."""
    shift = middle[:, None]
    return torch.sigmoid(below - shift).mean(0) - torch.sigmoid(shift - above).mean(0)


def _lowest(increments: Tensor) -> Tensor:
    finite = torch.where(increments.isfinite(), increments, torch.inf)
    return torch.nan_to_num(finite.amin((0, 2)), posinf=0.0)


def _highest(increments: Tensor) -> Tensor:
    finite = torch.where(increments.isfinite(), increments, -torch.inf)
    return torch.nan_to_num(finite.amax((0, 2)), neginf=0.0)


def _estimate(steps: Tensor, influence: Tensor) -> Estimate:
    """From the log ratio of each step and the influence [steps, ladders] of the ladders on it."""
    total = influence.sum(0)
    error = float(total.std()) / math.sqrt(len(total))
    log_z = float(steps.sum())
    finite = math.isfinite(log_z) and math.isfinite(error)
    return Estimate(log_z, error if finite else math.inf)
