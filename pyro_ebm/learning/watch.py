"""Watching learning: when it has diverged, and when its chains tell too little.

Divergence is what no further step mends: numbers that are not finite, chains beyond a thousand
widths of the data, energies of data and chains further apart than any sampling error explains, a
held-out loss far above its best, or in the end above that of the start. Other findings are
warnings, told once at the end with what to do: chains that lag behind the energy, that never
accept, or that keep to themselves.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.diagnostics import split_rhat

# Energies of data and chains apart, in units of their spread plus the root of the dimension.
_LAGS, _DIVERGED = 5.0, 100.0
_AWAY = 1e3
# A held-out loss that has risen by so many times what learning had gained, and at least one.
_RISEN = 10.0
# By how much the loss at the end is worse than at the start, as a share of one and of itself.
_WORSE = 0.02
# Looks in a row that have to be bad.
_PATIENCE = 3
# The share of what was gained on held-out rows that may be lost again.
_LOST = 0.2
# The share that the loss may jump by from look to look.
_JUMPS = 0.1
# The share of what was gained on held-out rows that the last quarter of the looks still adds, and
# that many standard errors, where it is not over.
_STILL_GAINING, _CERTAIN = 0.05, 4.0
_LEAST_ACCEPTANCE = 0.02
_RECENT = 20
_MOST_RHAT = 1.2


class Look(NamedTuple):
    """What was seen at one look.

    ``gap`` is the mean energy of the chains over that of the data, ``spread`` the standard
    deviation of the energies of the data; ``held_out`` the loss of the rows held out; ``watched``
    that of the rows by which learning is watched, which are the same where there are any.
    """

    step: int
    loss: float
    gradient_norm: float
    data_energy: float
    gap: float
    spread: float
    held_out: float
    acceptance: float
    watched: float


def divergence(looks: list[Look], start: float, dim: int, *, patient: bool = False) -> str | None:
    """Why learning has diverged, a sentence; None while it has not.

    :param start: the loss that it is watched by before the first step.
    :param patient: whether rows that are learned by heart end it as well, so that a loss which
        rises with them is no divergence.
    """
    now = looks[-1]
    if not (math.isfinite(now.loss) and math.isfinite(now.gradient_norm)):
        return f"the loss was {now.loss:g} and the norm of its gradient {now.gradient_norm:g}"
    if len(looks) < _PATIENCE:
        return None
    # One bad look may mend itself.
    reasons = [
        doubt(looks[: len(looks) - back], start, dim, patient=patient) for back in range(_PATIENCE)
    ]
    return reasons[0] if all(reasons) else None


def ended_worse(looks: list[Look], start: float) -> str | None:
    """Whether what was learned is worse than what was there before, a sentence; None if not."""
    if len(looks) < _PATIENCE or math.isnan(start):
        return None
    last = [look.watched for look in looks[-_PATIENCE:]]
    # Small steps around what was good from the first are no loss.
    if all(not loss <= start + _WORSE * (1.0 + abs(start)) for loss in last):
        return f"the loss ended at {last[-1]:.4g}, where it was {start:.4g} before the first step"
    return None


def doubt(looks: list[Look], start: float, dim: int, *, patient: bool = False) -> str | None:
    """What is wrong at the last look, a sentence; None where it is a good one."""
    now = looks[-1]
    if not math.isnan(now.acceptance) and not math.isnan(now.gap):
        spread = min(look.spread for look in looks) + math.sqrt(dim)
        if abs(now.gap) > _DIVERGED * spread:
            return (
                f"the energies of chains and data were {abs(now.gap):.3g} apart, where those of "
                f"the data spread by {now.spread:.3g}"
            )
    if not math.isnan(start):
        best = min([start, *(look.watched for look in looks if look.watched == look.watched)])
        risen = _RISEN * (10.0 if patient else 1.0)
        if not now.watched <= best + risen * max(1.0, start - best):
            return f"the loss of rows set aside was {now.watched:.4g} after a best of {best:.4g}"
    return None


def ran_away(positions: Tensor, center: Tensor, scale: Tensor) -> bool:
    """Whether chains [dim, n] are beyond a thousand widths of the data, or not finite."""
    off = ((positions - center[:, None]) / scale[:, None]).abs()
    return not bool((off < _AWAY).all())


def advice(
    looks: list[Look], start: float, energies: list[Tensor], *, dim: int, best: bool
) -> list[str]:
    """Sentences on what to mend.

    :param start: the loss that it is watched by before the first step.
    :param energies: of the lasting chains at each look [n].
    :param best: whether the parameters are put back to those of the best look.
    """
    found = []
    recent = looks[-_RECENT:]
    gaps = [look.gap for look in recent if not math.isnan(look.gap + look.acceptance)]
    spread = float(np.median([look.spread for look in recent])) + math.sqrt(dim)
    if len(gaps) >= 3 and abs(float(np.median(gaps))) > _LAGS * spread:
        found.append(
            f"The chains lag behind: their energies stay {float(np.median(gaps)):.3g} from those "
            "of the data. Take more transitions (steps=), or a smaller learning rate."
        )
    scored = [start, *(look.watched for look in looks if math.isfinite(look.watched))]
    if math.isfinite(start) and len(scored) > 3 and not best:
        last, least = float(np.median(scored[-3:])), min(scored)
        jumps = float(np.median(np.abs(np.diff(scored[-_RECENT:]))))
        if last - least > _LOST * (start - least):
            found.append(
                f"The held-out loss ended at {last:.4g}, after a best of {least:.4g} and "
                f"{start:.4g} before the first step: the learning rate is too high, or the energy "
                "learns rows by heart. Take smaller steps, or fewer."
            )
        elif jumps > _JUMPS * (start - least):
            found.append(
                f"The held-out loss still jumps by {jumps:.3g} from look to look: the learning "
                "rate is too high. Take a smaller one, or a scheduler that lowers it."
            )
    gain = still_gaining(scored[1:])
    if gain is not None:
        found.append(
            f"It was not at its end: over the last quarter of the steps the held-out loss still "
            f"fell by {gain:.3g}. Take more steps, or a larger learning "
            "rate."
        )
    rates = [look.acceptance for look in recent if look.acceptance == look.acceptance]
    if rates and float(np.median(rates)) < _LEAST_ACCEPTANCE:
        found.append(
            f"The chains accept {100 * float(np.median(rates)):.1f} % of their moves: they hardly "
            "follow the energy. Take another sampler, smaller steps, or energy_penalty=0.01, which "
            "keeps the energy smooth."
        )
    rhat = _rhat(energies[-_RECENT:])
    if rhat > _MOST_RHAT:
        found.append(
            f"The chains keep to themselves: R-hat of their energies is {rhat:.2f} over the last "
            f"{len(energies[-_RECENT:])} looks. Take more transitions (steps=), let some begin "
            "anew (restart=0.02), or take a sampler that crosses between modes."
        )
    return found


def still_gaining(scored: list[float]) -> float | None:
    """By how much held-out losses still fall from the third quarter to the last; None: hardly.

    :param scored: a loss at each look, in their order.
    """
    quarter = len(scored) // 4
    if quarter < 3:
        return None
    before, after = np.asarray(scored[-2 * quarter : -quarter]), np.asarray(scored[-quarter:])
    gain = float(before.mean() - after.mean())
    # Steps from one look to the next tell the noise, whatever the trend.
    noise = float(np.std(np.diff(scored[-2 * quarter :]))) / math.sqrt(quarter)
    total = scored[0] - min(scored)
    return gain if gain > max(_STILL_GAINING * total, _CERTAIN * noise) else None


def _rhat(energies: list[Tensor]) -> float:
    if len(energies) < _RECENT or len(energies[0]) < 2:
        return math.nan
    draws = torch.stack(energies, 1).double()
    if not bool(draws.isfinite().all()) or float(draws.std()) == 0.0:
        return math.nan
    # What all chains share is the energy that changes; what is left tells them apart.
    return float(split_rhat(draws - draws.mean(0)))
