"""What chains show that begin at rows of data and follow exp(-beta E): a look at one beta.

Chains that mix tell <E> at this beta, whose slope in beta is minus the variance of E. Chains that
do not cross from one part of space to another keep how the data are shared among the parts, and
answer by less. Where exp(-beta E) is the density of the data, the mean energy of the chains after a
time t changes with beta by

    d <E>_t / d beta = -(Var E - Cov(E_0, E_t)),

for any kernel that leaves exp(-beta E) invariant, as starts weighted by exp(-d E) would stay where
they are. What the covariance takes from the slope it takes from the scatter of the rows, too, as
rows and chains have it in common: sharing that is not crossed costs accuracy, and makes no bias.

Source: Kubo (1966), The fluctuation-dissipation theorem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

# Moves chains on by so many transitions: energies [transitions, chains].
Advance = Callable[[int], Tensor]
# beta -> energies [chains] of chains that begin anew, at rows of data, and what moves them.
Begin = Callable[[float], tuple[Tensor, Advance]]

# Standard errors beyond which a difference is seen.
SEEN = 3.0
# Transitions before those that are looked at.
_SETTLE = 20
# Of the variance, what chains must have lost of where they began to answer beta at all.
_LEAST_ANSWER = 0.05
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


class Look(NamedTuple):
    """What chains show at one beta.

    :ivar apart: their mean energy over that of the data, with its standard error ``error``.
    :ivar slope: by how much ``apart`` falls with beta.
    :ivar wanted: the mean energy of the data.
    :ivar mean, variance, lowest: of the energies of the chains.
    :ivar answers: whether chains have moved enough to tell anything of beta.
    :ivar drifts: whether their mean energy still changes, by more than ``error``.
    :ivar forgets: whether late energies have nothing to do with early ones of the same chain.
    :ivar stays: whether energies are spread as those of the data.
    """

    apart: float
    error: float
    slope: float
    wanted: float
    mean: float
    variance: float
    lowest: float
    answers: bool
    drifts: bool
    forgets: bool
    stays: bool


def look(begin: Begin, beta: float, *, draws: int, of_data: Tensor) -> Look:
    """Chains at beta, after a while that grows with the number of draws that are looked at."""
    started, advance = begin(beta)
    advance(max(_SETTLE, draws // 2))
    found = advance(draws)
    num_chains, num_rows = found.shape[1], len(of_data)
    wanted, means, variance = float(of_data.mean()), found.mean(0), float(found.var())
    spread = float(started.var())
    common = float(_covariance(means, started))
    # Starts are a sample of the rows: what chains keep of that is taken out.
    left = means - (common / spread if spread > 0.0 else 0.0) * (started - wanted)
    kept = max(common, 0.0)
    slope = max(variance - kept, 1e-3 * variance)
    of_rows = float(of_data.var()) if num_rows > 1 else variance
    error = math.hypot(
        float(left.std()) / math.sqrt(num_chains),
        math.sqrt(max(of_rows - kept, 0.0) / num_rows),
    )
    half, third = draws // 2, max(draws // 3, 1)
    change = found[half:].mean(0) - found[:half].mean(0)
    drift = abs(float(change.mean()))
    early, late = found[:third].mean(0), found[-third:].mean(0)
    scale = math.sqrt(float(early.var()) * float(late.var()))
    return Look(
        apart=float(left.mean()) - wanted,
        error=error,
        slope=slope,
        wanted=wanted,
        mean=float(found.mean()),
        variance=variance,
        lowest=float(found.min()),
        answers=slope > _LEAST_ANSWER * variance,
        drifts=drift > max(SEEN * float(change.std()) / math.sqrt(num_chains), error),
        forgets=float(_covariance(early, late)) < SEEN / math.sqrt(num_chains) * scale,
        stays=_spread_alike(found, of_data),
    )


def _spread_alike(found: Tensor, of_data: Tensor) -> bool:
    """Whether as large a share of the energies lies below each quantile of those of the data."""
    num_chains, num_rows = found.shape[1], len(of_data)
    for level in _LEVELS:
        bound = of_data.kthvalue(max(1, round(level * num_rows))).values
        share = float((of_data <= bound).double().mean())
        below = (found <= bound).double().mean(0)
        error = math.sqrt(float(below.var()) / num_chains + share * (1.0 - share) / num_rows)
        if abs(float(below.mean()) - share) > SEEN * error:
            return False
    return True


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - a.mean()) * (b - b.mean())).sum() / (len(a) - 1)
