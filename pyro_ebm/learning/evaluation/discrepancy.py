"""Maximum mean discrepancy: how far two samples are apart, as a kernel sees it.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y) is zero for equal distributions alone, where k is
characteristic, as a Gaussian kernel exp(-|x - y|^2 / (2 s^2)) is, or the mean of some. Its unbiased
estimate leaves out the pairs of a row with itself, and may be negative. Whether it is larger than
chance makes it is told by dealing the rows into two groups again, which is exact for any number.

Source: Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A kernel two-sample test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .pairs import BLOCK, p_value, pair_sums, squared_distances
from .rows import Rows, check_count, choose, flat_alike, median_distance

# Bandwidths in units of the median distance: one that sees the whole, and finer ones.
_OF_MEDIAN = (0.25, 0.5, 1.0)


class MeanDiscrepancy(NamedTuple):
    """The maximum mean discrepancy of two samples.

    ``squared`` is the unbiased estimate of MMD^2, ``p_value`` the share of ``relabelled`` values
    [permutations] that are at least as large, itself counted; ``bandwidths`` are those of the
    kernel.
    """

    squared: float
    p_value: float
    bandwidths: tuple[float, ...]
    relabelled: Float[Tensor, " permutations"]

    def __repr__(self) -> str:
        return f"MMD^2 = {self.squared:.3g}, p = {self.p_value:.3g}"


def maximum_mean_discrepancy(
    first: Rows,
    second: Rows,
    *,
    bandwidths: float | Sequence[float] | None = None,
    num_permutations: int = 500,
    generator: torch.Generator | None = None,
    block_size: int = BLOCK,
) -> MeanDiscrepancy:
    """The unbiased estimate of MMD^2 with Gaussian kernels, and a permutation test of zero.

    The numbers of rows may differ. Work grows with the square of their sum, times the permutations;
    memory does not: see ``block_size``.

    :param first: rows [n, *event], two at least.
    :param second: rows [m, *event], two at least.
    :param bandwidths: s of the kernel, or of each of which it is the mean; a quarter, half and all
        of the median distance of two rows unless given.
    :param num_permutations: of the test; no p-value is smaller than 1 / (1 + num_permutations).
    :param generator: the random stream of the permutations; torch's global one by default.
    :param block_size: how many rows are compared at once with as many others.
    :raises TypeError: no rows of real numbers.
    :raises ValueError: too few rows, of different shapes, or not finite; no positive bandwidths.
    """
    check_count("num_permutations", num_permutations, least=1)
    check_count("block_size", block_size, least=1)
    x, y = flat_alike(2, first=first, second=second)
    n, m = len(x), len(y)
    rows = torch.cat([x, y])
    rows = rows - rows.mean(0)
    if bandwidths is None:
        median = median_distance(rows, generator)
        widths = tuple(median * factor for factor in _OF_MEDIAN)
    else:
        widths = checked_widths(bandwidths)
    dealt = [choose(n + m, n + m, generator) < n for _ in range(num_permutations)]
    as_given = torch.arange(n + m, device=dealt[0].device) < n
    groups = torch.stack([as_given, *dealt], 1).to(rows.device)

    def block(left: slice, right: slice) -> Tensor:
        squares = squared_distances(rows[left], rows[right])
        return torch.stack([(squares / (-2 * s * s)).exp() for s in widths]).mean(0)

    sums = pair_sums(block, groups, block_size=block_size)
    # The kernel of a row with itself is one.
    within = sums.forms - n
    across = sums.crossed - sums.forms
    beyond = sums.total - (n + m) - within - 2 * across
    squared = within / (n * (n - 1)) + beyond / (m * (m - 1)) - 2 * across / (n * m)
    return MeanDiscrepancy(
        float(squared[0]), p_value(float(squared[0]), squared[1:]), widths, squared[1:].cpu()
    )


def checked_widths(given: float | Sequence[float]) -> tuple[float, ...]:
    """One positive number or some.

    :raises ValueError: none, or one that is not positive and finite.
    """
    widths = tuple(map(float, given)) if isinstance(given, Sequence) else (float(given),)
    if not widths or not all(0.0 < width < math.inf for width in widths):
        raise ValueError(f"expected positive, finite bandwidths, got {given}.")
    return widths
