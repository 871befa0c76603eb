"""Memorised rows: do generated rows lie nearer to those learned from than to others?

With equally many training and held-out rows, a generated row that follows the distribution and
nothing else is as likely nearest to a row of either: the share of those nearest to a training row
is one half. Memory raises it towards one.

Source: Meehan, Chaudhuri, Dasgupta (2020), A non-parametric test to detect data-copying in
generative models.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .rows import Rows, check_count, choose, flat_alike


class NearestShare(NamedTuple):
    """The share of generated rows that are nearest to a training row.

    ``std_error`` is its error where nothing is memorised, from all ways to say which rows are the
    training ones; ``num_rows`` is how many of each of them there were.
    """

    share: float
    std_error: float
    num_rows: int

    def __repr__(self) -> str:
        return f"{self.share:.3f} ± {self.std_error:.3f} ({self.num_rows} rows of each kind)"


def nearest_neighbour_share(
    generated: Rows,
    training: Rows,
    held_out: Rows,
    *,
    standardized: bool = True,
    generator: torch.Generator | None = None,
    block_size: int = 256,
) -> NearestShare:
    """The share of generated rows whose nearest real row is a training row; 0.5 without memory.

    As many training as held-out rows are taken, chosen at random where one kind has more. A row
    that is equally near to several counts for each of them by a part.

    Let real row c be the nearest of a share w_c of the generated rows. If training and held-out
    rows differ by name only, every half of the 2k of them is as likely the training one, and the
    variance of the share is exactly (sum_c w_c^2 - 1/(2k)) k / (2 (2k - 1)): generated rows beyond
    number do not make up for few real ones.

    :param generated: rows [n, *event].
    :param training: rows that the energy was learned from, [m, *event].
    :param held_out: rows that it has not seen, [l, *event].
    :param standardized: whether distances are those of columns divided by their standard deviation
        over all real rows; say False for columns of one unit, such as pixels.
    :param generator: the random stream of the choice; torch's global one by default.
    :param block_size: how many generated rows are compared at once.
    :raises TypeError: no rows of real numbers.
    :raises ValueError: rows of different shapes, or not finite.
    """
    check_count("block_size", block_size, least=1)
    fake, *real = flat_alike(generated=generated, training=training, held_out=held_out)
    number = min(map(len, real))
    chosen = [each[choose(len(each), number, generator).to(each.device)] for each in real]
    rows = torch.cat(chosen)
    if standardized:
        scale = rows.std(0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)
        rows, fake = rows / scale, fake / scale
    weights = _nearest(fake, rows, block_size)
    share = float(weights[:number].sum())
    uneven = float(weights.square().sum()) - 0.5 / number
    variance = uneven * number / (2 * (2 * number - 1))
    return NearestShare(share, math.sqrt(max(variance, 0.0)), number)


def _nearest(fake: Tensor, rows: Tensor, block_size: int) -> Tensor:
    """The share of generated rows that each real row is the nearest of."""
    counts = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for part in fake.split(block_size):
        # Differences, not products: two equal rows must be at distance zero.
        apart = torch.cdist(part, rows, compute_mode="donot_use_mm_for_euclid_dist")
        tied = (apart == apart.min(1, keepdim=True).values).double()
        counts += (tied / tied.sum(1, keepdim=True)).sum(0)
    return counts / len(fake)
