"""Are ranks uniform? The empirical distribution function against its exact simultaneous band.

N ranks in 0..L are given. If they are uniform, the number of them below k is binomial with
probability k/(L + 1), at every k = 1..L. Let t be the smallest of all the tail probabilities of
these L numbers; its own distribution is known exactly, because the numbers are sums of independent
Poisson counts under the condition that they come to N in the end. So t has an exact p-value, and
the band that a share `probability` of uniform samples never leaves has exact limits.

Source: Säilynoja, Bürkner, Vehtari (2022), Graphical test for discrete uniformity and its
applications in goodness-of-fit evaluation and multiple sample comparison.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Halvings of the interval of tail probabilities: more than a double can tell apart.
_HALVINGS = 60
# The chi-square approximation wants about ten ranks a bin; more than twenty bins blur the picture.
_RANKS_A_BIN, _MOST_BINS = 10, 20


class Uniformity(NamedTuple):
    """What N ranks of one quantity, or of every element of it, say about uniformity.

    ``p_value`` is that of the whole distribution function; ``chi_square_p_value`` that of a
    histogram; ``mean_z`` and ``spread_z`` are the deviations of the mean of the ranks, and of their
    mean squared distance from the middle, in standard errors: positive for ranks too high, and for
    ranks too near the ends.
    """

    p_value: Float[np.ndarray, "*event"]
    chi_square_p_value: Float[np.ndarray, "*event"]
    mean_z: Float[np.ndarray, "*event"]
    spread_z: Float[np.ndarray, "*event"]


class Band(NamedTuple):
    """Limits of the share of ranks below k = 1..L that hold for all k at once; [L] each."""

    points: Float[np.ndarray, " points"]
    lower: Float[np.ndarray, " points"]
    upper: Float[np.ndarray, " points"]


def uniformity(ranks: Int[Tensor, "simulation ..."], num_draws: int) -> Uniformity:
    """Test ranks among ``num_draws`` draws for uniformity on 0..num_draws, element by element."""
    event = tuple(ranks.shape[1:])
    columns = ranks.reshape(ranks.shape[0], -1).cpu().numpy()
    tails = _Tails(columns.shape[0], num_draws)
    found = [
        (tails.p_value(column), _chi_square(column, num_draws), *_moments(column, num_draws))
        for column in columns.T
    ]
    table = np.asarray(found, dtype=float).reshape(-1, 4)
    return Uniformity(*(table[:, i].reshape(event) for i in range(4)))


def band(num_ranks: int, num_draws: int, *, probability: float) -> Band:
    """The simultaneous band that a share ``probability`` of uniform samples stays inside.

    :param num_ranks: N, the number of ranks.
    :param num_draws: L, the largest rank.
    """
    lowest, highest = _Tails(num_ranks, num_draws).limits(probability)
    points = np.arange(1, num_draws + 1) / (num_draws + 1)
    return Band(points, lowest / num_ranks, highest / num_ranks)


def counts_below(ranks: np.ndarray, num_draws: int) -> np.ndarray:
    """How many of the ranks [N] lie below k, for k = 1..num_draws."""
    return np.bincount(ranks, minlength=num_draws + 1).cumsum()[:num_draws]


class _Tails:
    """Tail probabilities of the counts below k, and the joint law of their smallest."""

    def __init__(self, num_ranks: int, num_draws: int) -> None:
        self.num_ranks, self.num_draws = num_ranks, num_draws
        share = torch.arange(1, num_draws + 1, dtype=torch.float64)[:, None] / (num_draws + 1)
        count = torch.arange(num_ranks + 1, dtype=torch.float64)
        binomial = torch.distributions.Binomial(num_ranks, share, validate_args=False)
        mass = binomial.log_prob(count).exp()
        below = mass.cumsum(1)
        above = mass.flip(1).cumsum(1).flip(1)
        # [k - 1, count]: the smaller of P(count or fewer) and P(count or more).
        self.tail = torch.minimum(below, above).numpy()
        step = torch.distributions.Poisson(
            torch.tensor(num_ranks / (num_draws + 1), dtype=torch.float64), validate_args=False
        )
        self.step = step.log_prob(count).exp().numpy()
        rate = float(num_ranks)
        self.log_total = -rate + rate * math.log(rate) - math.lgamma(rate + 1)

    def inside(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Per k the smallest and the largest count whose tail probability exceeds a threshold."""
        kept = self.tail > threshold
        return kept.argmax(1), self.num_ranks - kept[:, ::-1].argmax(1)

    def coverage(self, threshold: float) -> float:
        """The probability that all tail probabilities exceed a threshold."""
        if not (self.tail > threshold).any(1).all():
            return 0.0
        lowest, highest = self.inside(threshold)
        start, weights = 0, np.ones(1)
        for low, high in zip(lowest, highest, strict=True):
            reached = np.convolve(weights, self.step[: high - start + 1])
            weights = reached[low - start : high - start + 1]
            start = low
        rest = self.num_ranks - start - np.arange(len(weights))
        return float(weights @ self.step[rest] / math.exp(self.log_total))

    def p_value(self, ranks: np.ndarray) -> float:
        """The probability of a smallest tail probability as small as that of these ranks."""
        counts = counts_below(ranks, self.num_draws)
        smallest = self.tail[np.arange(self.num_draws), counts].min()
        # Bonferroni over the points is sharper than one minus a sum that has been rounded.
        bound = 2 * self.num_draws * smallest
        exact = 1.0 - self.coverage(smallest)
        return float(bound if bound < 1e-9 else min(max(exact, 0.0), 1.0))

    def limits(self, probability: float) -> tuple[np.ndarray, np.ndarray]:
        """The narrowest counts per k that hold jointly with a probability."""
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.coverage(middle) >= probability else (low, middle)
        return self.inside(low)


def _chi_square(ranks: np.ndarray, num_draws: int) -> float:
    bins = min(_MOST_BINS, num_draws + 1, max(2, len(ranks) // _RANKS_A_BIN))
    edges = np.arange(bins + 1) * (num_draws + 1) // bins
    observed = np.histogram(ranks, edges - 0.5)[0]
    expected = len(ranks) * np.diff(edges) / (num_draws + 1)
    statistic = ((observed - expected) ** 2 / expected).sum()
    half = torch.tensor([0.5 * (bins - 1), 0.5 * statistic], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def _moments(ranks: np.ndarray, num_draws: int) -> tuple[float, float]:
    every = np.arange(num_draws + 1) - num_draws / 2
    centred = ranks - num_draws / 2
    errors = []
    for power in (1, 2):
        law = every**power
        deviation = (centred**power).mean() - law.mean()
        errors.append(float(deviation / max(law.std(), 1e-300) * math.sqrt(len(ranks))))
    return errors[0], errors[1]
