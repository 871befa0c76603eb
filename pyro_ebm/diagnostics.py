"""How far chains can be trusted: R-hat, effective sample size and their kin, all from ArviZ.

Draws are [chain, draw, *event]; every figure has the shape of the event. A variable that never
moves, or that holds a number that is not finite, has NaN. R-hat compares chains with one another;
ESS says how many independent draws the chains are worth, and believes in autocorrelations that it
can only see in chains of some length.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import ArrayLike
from torch import Tensor

# AR(1) chains with correlation 0.9, 256 of 8 draws: an ESS of 6782 for a true 331.
RELIABLE_DRAWS = 50
# The split R-hat below which chains are said to agree (Vehtari et al. 2021).
SPLIT_THRESHOLD = 1.01
# From this many chains on they share starts, and are judged by nested R-hat.
NESTED_FROM_CHAINS = 128

# A shift of all chains together is told from so many on, beyond so many errors and deviations.
_CHAINS_THAT_TELL, _MOST_SCORE, _MOST_SHIFT = 32, 6.0, 0.05

Draws = Num[np.ndarray, "chain draw *event"] | Num[Tensor, "chain draw *event"]
Figures = Float[np.ndarray, "*event"]


def split_rhat(draws: Draws) -> Figures:
    """Rank-normalised split R-hat, the larger of bulk and tail; one chain is judged by its halves.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), Rank-normalization, folding, and
    localization: an improved R-hat.
    """
    values = _as_array(draws)
    if values.shape[0] == 1:
        half = values.shape[1] // 2
        values = np.concatenate([values[:, :half], values[:, values.shape[1] - half :]])
    return _per_variable("rhat", values, at_least=4)


def nested_rhat(draws: Draws, superchain_ids: ArrayLike | Tensor) -> Figures:
    """Nested R-hat: superchains, groups of chains from one start each, compared with one another.

    :param superchain_ids: per chain the group it belongs to. Where groups differ in size, the
        first chains of each are compared, as many as the smallest has.
    :raises ValueError: ids of another number than the chains, or a single group.

    Source: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari, Gelman (2024), Nested R-hat.
    """
    values, ids = _as_array(draws), _as_array(superchain_ids)
    if ids.shape != (values.shape[0],):
        raise ValueError(
            f"expected one superchain id for each of {values.shape[0]} chains, got ids of shape "
            f"{ids.shape}."
        )
    _, group, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(
            "expected at least two superchains, got one. Nested R-hat compares groups of chains "
            "from different starts; use split_rhat when all chains share one start."
        )
    chosen = np.sort(
        np.concatenate([np.flatnonzero(group == k)[: counts.min()] for k in range(len(counts))])
    )
    return _per_variable("rhat_nested", values[chosen], at_least=4, superchain_ids=group[chosen])


class Shift(NamedTuple):
    """How far the mean of all chains moves from the first half of the draws to the second: in
    standard deviations of a draw, and in standard errors of that."""

    size: Figures
    score: Figures


def half_shift(draws: Draws) -> Shift:
    """Whether all chains move together, which no comparison between chains can see.

    The error is made of the scatter over chains, so that it holds for autocorrelated draws, however
    few; it needs some tens of chains. Draws count up to five robust standard deviations from the
    median of all.
    """
    values = _as_array(draws).astype(float)
    chains, length = values.shape[:2]
    low, middle, high = np.quantile(
        values.reshape(-1, *values.shape[2:]), [0.16, 0.5, 0.84], axis=0
    )
    with np.errstate(all="ignore"):
        scaled = np.clip((values - middle) / (0.5 * (high - low)), -5.0, 5.0)
        half = length // 2
        moved = scaled[:, length - half :].mean(1) - scaled[:, :half].mean(1)
        size = moved.mean(0)
        error = moved.std(0, ddof=1) / math.sqrt(chains) if chains > 1 else np.inf
        score = size / error
    return Shift(np.nan_to_num(np.abs(size)), np.nan_to_num(np.abs(score)))


def still_moves(shift: Shift, *, num_chains: int) -> np.ndarray:
    """Where chains have not arrived together: beyond chance, and by more than hardly matters."""
    enough = num_chains >= _CHAINS_THAT_TELL
    return enough & (shift.score > _MOST_SCORE) & (shift.size > _MOST_SHIFT)


def rhat_threshold(*, num_chains: int, chains_per_superchain: int | None = None) -> float:
    """Below which R-hat chains agree: 1.01 for split, sqrt(1 + 1/M + 1e-4) for nested R-hat.

    :param chains_per_superchain: M; None below :data:`NESTED_FROM_CHAINS` chains or without groups.
    """
    if chains_per_superchain is None or num_chains < NESTED_FROM_CHAINS:
        return SPLIT_THRESHOLD
    return math.sqrt(1 + 1 / chains_per_superchain + 1e-4)


def ess_is_reliable(num_draws: int) -> bool:
    """Whether chains are long enough for their effective sample sizes to mean anything."""
    return num_draws >= RELIABLE_DRAWS


def ess_bulk(draws: Draws) -> Figures:
    """Effective sample size of rank-normalised draws: for the centre of the distribution."""
    return _per_variable("ess", _as_array(draws), at_least=4, method="bulk")


def ess_tail(draws: Draws) -> Figures:
    """The smaller effective sample size of the 5 % and the 95 % quantile."""
    return _per_variable("ess", _as_array(draws), at_least=4, method="tail", prob=(0.05, 0.95))


def ess_mean(draws: Draws) -> Figures:
    """Effective sample size of the mean."""
    return _per_variable("ess", _as_array(draws), at_least=4, method="mean")


def mcse_mean(draws: Draws) -> Figures:
    """Monte Carlo standard error of the mean."""
    return _per_variable("mcse", _as_array(draws), at_least=4, method="mean")


def mcse_sd(draws: Draws) -> Figures:
    """Monte Carlo standard error of the standard deviation, mcse((x - mean)^2) / (2 sd).

    Written out, as arviz_stats before 1.0 takes the ESS of x for that of its square.
    """
    values = _as_array(draws).astype(float)
    with np.errstate(all="ignore"):
        squares = np.square(values - values.mean((0, 1)))
        return np.asarray(mcse_mean(squares) / (2 * np.sqrt(squares.mean((0, 1)))))


def mcse_quantile(draws: Draws, probability: float) -> Figures:
    """Monte Carlo standard error of a quantile, from the order statistics around it."""
    return _per_variable("mcse", _as_array(draws), at_least=4, method="quantile", prob=probability)


def bfmi(energy: Num[np.ndarray, "chain draw"] | Num[Tensor, "chain draw"]) -> Figures:
    """Per chain E (H_n - H_{n-1})^2 / var H: how well momenta carry a chain over its energies.

    Source: Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in HMC.
    """
    values = _as_array(energy)
    if values.shape[1] < 4:
        return np.full(values.shape[0], np.nan)
    with np.errstate(all="ignore"):
        return np.asarray(_array_stats().bfmi(values, chain_axis=0, draw_axis=1), dtype=float)


def _as_array(values: object) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _array_stats() -> Any:
    # ArviZ takes as long to import as torch: only who judges a run pays for it.
    from arviz_stats.base.array import array_stats

    return array_stats


def _per_variable(name: str, values: np.ndarray, *, at_least: int, **options: object) -> np.ndarray:
    """One of ArviZ's functions on the variables that move and are finite, NaN for the others."""
    values = values.astype(float)
    function = getattr(_array_stats(), name)
    chains, draws, *event = values.shape
    flat = values.reshape(chains, draws, math.prod(event))
    found = np.full(flat.shape[2], np.nan)
    if draws >= at_least and flat.size > 0:
        good = np.isfinite(flat).all((0, 1)) & (flat != flat[:1, :1]).any((0, 1))
        if good.any():
            with np.errstate(all="ignore"):
                found[good] = function(flat[:, :, good], chain_axis=0, draw_axis=1, **options)
    return found.reshape(event)


def pareto_khat(log_weights: Num[np.ndarray, " n"] | Num[Tensor, " n"]) -> float:
    """Shape of the generalised Pareto distribution that fits the largest weights.

    Above 0.7 the mean of the weights, and its error, cannot be trusted. NaN with fewer than 20
    positive weights; -inf where they are all equal, or all the largest are.

    Source: Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling.
    """
    values = _as_array(log_weights).astype(float)
    values = values[np.isfinite(values)]
    if len(values) < 20:
        return math.nan
    # The tail that is fitted is a fifth of the weights, or three times the root of their number.
    tail = min(len(values) // 5, int(3.0 * math.sqrt(len(values)))) - 1
    if values.max() - np.partition(values, -tail)[-tail] < 1e-12:
        return -math.inf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # It warns of a large shape, which is what is asked for.
        warnings.simplefilter("ignore")
        # ArviZ takes log likelihoods, minus log weights.
        _, shape = _array_stats().psislw(-(values - values.max()))
    return float(shape)
