"""Which ends of many searches are one and the same minimum.

Two ends are one minimum when their values agree and their positions do, in units of how widely the
searches began. Both are needed: mirrored minima agree in value, and on a slope many ends lie close.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class DistinctMinima(NamedTuple):
    """Distinct minima, lowest first.

    ``representatives``: the run that stands for each, its lowest converged one; ``labels``: to
    which minimum each run belongs; ``counts``: how many runs each has.
    """

    representatives: Int[Tensor, " minima"]
    labels: Int[Tensor, " runs"]
    counts: Int[Tensor, " minima"]


def distinct_minima(
    positions: Float[Tensor, "dim runs"],
    values: Float[Tensor, " runs"],
    *,
    converged: Bool[Tensor, " runs"],
    spread: Float[Tensor, " dim"],
    position_tolerance: float | None = None,
    value_tolerance: float | None = None,
) -> DistinctMinima:
    """Group the ends of runs into distinct minima.

    The lowest converged end that belongs to none founds a minimum, and whatever lies within the
    tolerances of it joins; ends that did not converge come last, so that they join where they can.

    Args:
        positions: where the runs ended.
        values: the values there.
        converged: which runs ended at a minimum.
        spread: how far apart two positions usually are, by coordinate: the standard deviation of
            the starts, say.
        position_tolerance: the greatest difference of a coordinate in units of the spread;
            eps^(1/5) unless given (7e-4 in double precision: a minimum of fourth order is found no
            more closely).
        value_tolerance: the greatest difference of values in units of max(1, |value|); sqrt(eps)
            unless given.
    """
    eps = torch.finfo(positions.dtype).eps
    near = eps**0.2 if position_tolerance is None else position_tolerance
    level = eps**0.5 if value_tolerance is None else value_tolerance
    reach = near * spread[:, None] + eps**0.5 * positions.abs()
    by_value = values.argsort(stable=True)
    order = by_value[(~converged)[by_value].to(torch.uint8).argsort(stable=True)]
    labels = torch.full_like(order, -1)
    founders: list[int] = []
    for run in order.tolist():
        if labels[run] >= 0:
            continue
        close = ((positions - positions[:, run : run + 1]).abs() <= reach).all(0)
        same = (values - values[run]).abs() <= level * values[run].abs().clamp(min=1.0)
        joins = (labels < 0) & close & same
        joins[run] = True
        labels[joins] = len(founders)
        founders.append(run)
    representatives = torch.tensor(founders, dtype=torch.long, device=values.device)
    ranked = values[representatives].argsort(stable=True)
    labels = ranked.argsort()[labels]
    counts = torch.bincount(labels, minlength=len(founders))
    return DistinctMinima(representatives[ranked], labels, counts)
