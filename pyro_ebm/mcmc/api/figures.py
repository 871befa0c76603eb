"""The worst figures of a run: R-hat, effective sample sizes, and how the chains lie to one another.

Everything is judged in unconstrained coordinates, where most figures are those of the sites:
R-hat and ESS rank the draws, and ranks do not see a monotone map. Of very many coordinates, or
draws, all are screened by cheap variance ratios, and the most suspicious ones get the full
diagnostics.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from pyro_ebm.diagnostics import (
    NESTED_FROM_CHAINS,
    ess_bulk,
    ess_is_reliable,
    ess_mean,
    ess_tail,
    half_shift,
    nested_rhat,
    rhat_threshold,
    split_rhat,
    still_moves,
)

from .inputs import as_array
from .record import RunRecord

NESTED, SPLIT = "nested R-hat", "split R-hat"
_SCREENED = 100
# Numbers that full diagnostics look at, and that screening holds at once.
_MOST_NUMBERS, _AT_ONCE = 2**26, 2**24
# A later half of a chain so many times farther out than the earlier one is no fluctuation.
_GROWTH = 30.0
_HUGE = 1e6
# A chain that moves in fewer of its transitions is stuck.
_STILL = 0.05
_FEWEST_DRAWS = 20
_FEWEST_FOR_HALVES = 4
# Standard errors of a chi-square that excuse an R-hat, and that a longer run is to be safe from.
_EXCUSED, _SAFE = 3.0, 2.0
# The share of an autocorrelation time that centred chains hide, in units of time over length.
_HIDDEN = 8.0
# No shortness excuses a split R-hat beyond.
_TRULY_APART = 1.1


class Worst(NamedTuple):
    """The worst value of a figure and the coordinate that has it; NaN when there is none."""

    value: float
    name: str


class Coordinates(NamedTuple):
    """Draws [chain, draw, coordinate] in float64, with the name of each and its place among all."""

    draws: np.ndarray
    names: tuple[str, ...]
    places: np.ndarray


class Rhat(NamedTuple):
    """R-hat by coordinate and of the worst one, the threshold, and whether nested or split."""

    values: np.ndarray
    worst: Worst
    threshold: float
    kind: str

    @property
    def agrees(self) -> bool:
        """Whether the chains agree as far as R-hat can tell."""
        return self.worst.value <= self.threshold


def coordinates(record: RunRecord) -> Coordinates:
    """The stored coordinates, at most about a hundred, the most suspicious of all; of a model with
    sampled discrete sites so many of either kind.

    Of so many draws that a hundred would not fit into memory they are fewer.
    """
    continuous = _is_continuous(record)
    found = [_among(record, continuous), _among(record, ~continuous)]
    together = Coordinates(
        np.concatenate([part.draws for part in found], -1),
        tuple(name for part in found for name in part.names),
        np.concatenate([part.places for part in found]),
    )
    return together if continuous.all() else _with_log_density(together, record)


def continuous(found: Coordinates, record: RunRecord) -> Coordinates:
    """Those among some coordinates that are continuous."""
    kept = (found.places >= 0) & _is_continuous(record)[found.places]
    names = tuple(name for name, keep in zip(found.names, kept, strict=True) if keep)
    return Coordinates(found.draws[:, :, kept], names, found.places[kept])


def _is_continuous(record: RunRecord) -> np.ndarray:
    """Which of the stored coordinates are."""
    stored = np.arange(record.target.dim)
    if record.coordinates is not None:
        stored = as_array(record.coordinates)
    return stored < record.target.continuous_dim


def _among(record: RunRecord, which: np.ndarray) -> Coordinates:
    """The most suspicious of some of the stored coordinates."""
    draws = as_array(record.positions)
    names = _names(record)
    chosen = np.flatnonzero(which)
    number = min(_SCREENED, max(2, _MOST_NUMBERS // max(1, record.num_chains * record.num_draws)))
    if len(chosen) > number and draws.shape[1] > 1:
        chosen = chosen[_suspicious(draws if which.all() else draws[:, :, chosen], number)]
    kept = draws[:, :, chosen].astype(float)
    return Coordinates(kept, tuple(names[i] for i in chosen), chosen)


def _with_log_density(found: Coordinates, record: RunRecord) -> Coordinates:
    """The same and the log density, which says of discrete sites what no single one does."""
    lp = as_array(record.statistics["lp"]).astype(float)[..., None]
    return Coordinates(
        np.concatenate([lp, found.draws], -1),
        ("the log density", *found.names),
        np.concatenate([[-1], found.places]),
    )


def _names(record: RunRecord) -> tuple[str, ...]:
    if record.target.described is not record.target.program:
        # Behind a transport no coordinate is that of a site.
        return tuple(f"z[{i}]" for i in range(record.target.dim))
    names = [
        site.name + (f"[{','.join(map(str, index))}]" if index else "")
        for site in record.target.sites
        for index in np.ndindex(*site.unconstrained_shape)
    ]
    if record.coordinates is None:
        return tuple(names)
    return tuple(names[int(i)] for i in record.coordinates)


def _suspicious(draws: np.ndarray, number: int) -> np.ndarray:
    """Half of them by the variance between half-chains, half by the correlation of neighbours."""
    chains, length, dim = draws.shape
    half = length // 2
    rows = max(1, _AT_ONCE // (length * dim))
    parts = [_variances(draws[i : i + rows], half) for i in range(0, chains, rows)]
    with np.errstate(all="ignore"):
        means, within, steps, spread = (np.concatenate(part) for part in zip(*parts, strict=True))
        between = means.var(0) / within.mean(0)
        neighbours = steps.mean(0) / spread.mean(0)
    first = np.argsort(-np.nan_to_num(between, nan=np.inf))[: number // 2]
    second = np.argsort(np.nan_to_num(neighbours, nan=-np.inf))[: number // 2]
    return np.union1d(first, second)


def _variances(draws: np.ndarray, half: int) -> tuple[np.ndarray, ...]:
    """Of some chains: means and variances of their halves, squared steps, and variances."""
    with np.errstate(all="ignore"):
        halves = np.concatenate([draws[:, :half], draws[:, -half:]])
        steps = np.square(np.diff(draws, axis=1)).mean(1)
        return halves.mean(1), halves.var(1), steps, draws.var(1)


def moving(found: Coordinates) -> tuple[str, float] | None:
    """The coordinate that all chains move along most, with the move in standard deviations; None
    where they have arrived, or nothing can be told."""
    if found.draws.shape[1] < _FEWEST_FOR_HALVES:
        return None
    shift = half_shift(found.draws)
    moves = still_moves(shift, num_chains=len(found.draws))
    if not moves.any():
        return None
    worst = int(np.where(moves, shift.score, 0.0).argmax())
    return found.names[worst], float(shift.size[worst])


def rhat(record: RunRecord, found: Coordinates) -> Rhat:
    """Nested R-hat where 128 chains or more share starts, else split R-hat."""
    ids = record.superchain_ids
    if ids is not None and record.num_chains >= NESTED_FROM_CHAINS:
        per_group = min(Counter(ids.tolist()).values())
        values = nested_rhat(found.draws, ids)
        threshold = rhat_threshold(num_chains=record.num_chains, chains_per_superchain=per_group)
        return Rhat(values, _worst(values, found.names), threshold, NESTED)
    threshold = rhat_threshold(num_chains=record.num_chains)
    values = split_rhat(found.draws)
    return Rhat(values, _worst(values, found.names), threshold, SPLIT)


def draws_for_agreement(found: Coordinates, seen: Rhat) -> int | None:
    """Draws a chain that would bring R-hat below its threshold; None if chains truly disagree.

    Chains of N draws with autocorrelation time tau have a split R-hat of about 1 + (tau - 1) / N
    when nothing is wrong, with tau times a chi-square that is as noisy as the chains are few.
    """
    chains, length, _ = found.draws.shape
    if seen.kind != SPLIT or not seen.threshold < seen.worst.value < _TRULY_APART:
        return None
    high = seen.values > seen.threshold
    draws = found.draws[:, :, high]
    folded = np.abs(draws - np.median(draws, axis=(0, 1)))
    # Two states, folded, are one: that has no time.
    time = np.fmax(_autocorrelation_time(draws), _autocorrelation_time(folded))
    parts, size = (4, length // 4) if chains == 1 else (2 * chains, length // 2)
    explained = (_chi_square(parts - 1, _EXCUSED) * time - 1) / (2 * size)
    excess = seen.values[high] - 1
    if (excess > explained).any():
        return None
    expected = (_chi_square(parts - 1, _SAFE) * time - 1) / (2 * size)
    return _round_up(length * np.fmax(excess, expected).max() / (seen.threshold - 1))


def _chi_square(freedom: int, errors: float) -> float:
    """A chi-square over its mean, so many standard errors out (Wilson and Hilferty 1931)."""
    variance = 2 / (9 * freedom)
    return (1 - variance + errors * np.sqrt(variance)) ** 3


def draws_for_ess(found: Coordinates, figure: Worst, wanted: int) -> int:
    """Draws a chain that would bring an effective sample size to what is wanted."""
    return _round_up(found.draws.shape[1] * wanted / max(figure.value, 1.0))


def _round_up(number: float) -> int:
    return int(np.ceil(number / 10) * 10)


def _autocorrelation_time(values: np.ndarray) -> np.ndarray:
    """Draws that one independent draw takes, by coordinate, seen within chains alone."""
    from scipy.stats import rankdata

    chains, length, dim = values.shape
    # Equal values, as states are, have their mean rank.
    ranks = rankdata(values.reshape(-1, dim), axis=0).reshape(values.shape)
    if chains == 1:
        chains, length = 2, length // 2
        ranks = ranks[:, : 2 * length].reshape(chains, length, dim)
    time = chains * length / ess_mean(ranks - ranks.mean(1, keepdims=True))
    # About what centring hides of it (autoregressive chains of 50 to 500 draws).
    return time * (1 + _HIDDEN * time / length)


def effective(found: Coordinates) -> tuple[Worst, Worst] | None:
    """The smallest bulk and tail ESS; None where chains are too short for either."""
    if not ess_is_reliable(found.draws.shape[1]):
        return None
    return (
        _worst(-ess_bulk(found.draws), found.names, sign=-1.0),
        _worst(-ess_tail(found.draws), found.names, sign=-1.0),
    )


def _worst(values: np.ndarray, names: tuple[str, ...], *, sign: float = 1.0) -> Worst:
    if np.isnan(values).all():
        return Worst(float("nan"), "")
    at = int(np.nanargmax(values))
    return Worst(sign * float(values[at]), names[at])


def stuck_chains(found: Coordinates) -> np.ndarray:
    """The chains that moved in less than one transition of twenty."""
    if found.draws.shape[1] < _FEWEST_DRAWS:
        return np.zeros(0, dtype=int)
    moved = (np.diff(found.draws, axis=1) != 0).any(2).mean(1)
    return np.flatnonzero(moved < _STILL)


def runaway_chains(found: Coordinates, *, suspicious: bool) -> np.ndarray:
    """The chains whose later half lies, or spreads, orders of magnitude farther out.

    :param suspicious: something else is wrong too, R-hat or the depth of trees: then a spread of a
        million counts even without growth.
    """
    draws = found.draws
    if draws.shape[1] < _FEWEST_DRAWS:
        return np.zeros(0, dtype=int)
    with np.errstate(all="ignore"):
        quarter = draws.shape[1] // 4
        first = draws[:, :quarter]
        # Each coordinate in units of how far the chains were spread at the beginning.
        centre = np.median(first, axis=(0, 1))
        scale = np.median(np.abs(first - centre), axis=(0, 1)) + np.finfo(float).tiny
        distance = (np.abs(draws - centre) / scale).max(2)
        levels = np.stack(
            [np.median(part, axis=1) for part in np.array_split(distance, 4, axis=1)], axis=1
        )
        grows = (np.diff(levels, axis=1) > 0).all(1) & (levels[:, 3] > _GROWTH * levels[:, 0])
        huge = suspicious & (draws.std(1) > _HUGE).any(1)
        # So far out that floating point has no smaller steps, a chain stands still.
        still = (np.diff(draws, axis=1) != 0).any(2).mean(1) < _STILL
        huge |= still & (np.abs(draws) > _HUGE).any((1, 2))
    return np.flatnonzero(grows | huge | ~np.isfinite(draws).all((1, 2)))


def groups(found: Coordinates, leave_out: np.ndarray) -> tuple[list[int], list[str]]:
    """Sizes of the groups of chains that lie apart, and the coordinates that tell them apart.

    Two chains touch in a coordinate when their middle 90 % overlap; groups are what hangs together
    by touching. Chains apart one by one are no groups, but chains that have not mixed.
    """
    draws = np.delete(found.draws, leave_out, axis=0)
    chains = draws.shape[0]
    if chains < 2 or draws.shape[1] < _FEWEST_DRAWS:
        return [chains], []
    low, high = np.quantile(draws, [0.05, 0.95], axis=1)
    labels = np.zeros((chains, draws.shape[2]), dtype=int)
    for i in range(draws.shape[2]):
        order = np.argsort(low[:, i])
        reach = np.maximum.accumulate(high[order, i])
        labels[order[1:], i] = np.cumsum(low[order[1:], i] > reach[:-1])
    sizes = sorted(Counter(map(tuple, labels.tolist())).values(), reverse=True)
    if len(sizes) == chains > 2:
        return [chains], []
    apart = np.flatnonzero(labels.max(0) > 0)
    return sizes, [found.names[i] for i in apart]
