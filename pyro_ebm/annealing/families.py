"""Draws that stem from one another: particles of a pass that resampled, states of one chain.

Draws of one family may share what their ancestor was, a mode or a corner, however far they have
moved since. Errors of anything that is fitted to them are therefore those of families: a sum over
draws is as uncertain as the sums of its families are scattered. That costs nothing where the draws
have forgotten each other, since sums of forgotten ones scatter as independent ones do.

Source: Liang and Zeger (1986), Longitudinal data analysis using generalized linear models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """Positions [dim, n] and the number [n] of the family that each belongs to."""

    positions: Tensor
    families: Tensor

    @property
    def finite(self) -> Draws:
        """Those without an infinite or undefined coordinate."""
        kept = self.positions.isfinite().all(0)
        return Draws(self.positions[:, kept], self.families[kept])

    def thinned(self, stride: int) -> Draws:
        """Every ``stride``-th."""
        return Draws(self.positions[:, ::stride], self.families[::stride])


def independent(positions: Tensor) -> Draws:
    """Draws [dim, n] that are each a family."""
    return Draws(positions, torch.arange(positions.shape[1], device=positions.device))


def joined(sets: Sequence[Draws]) -> Draws:
    """All of them; families of different sets are different."""
    families, first = [], 0
    for draws in sets:
        families.append(draws.families + first)
        first += int(draws.families.max()) + 1 if len(draws.families) > 0 else 0
    return Draws(torch.cat([draws.positions for draws in sets], dim=1), torch.cat(families))


class Grouping:
    """The families of n draws, for sums over each.

    ``number`` is how many families of equal size these are worth.
    """

    def __init__(self, families: Tensor) -> None:
        _, self._index, counts = families.unique(return_inverse=True, return_counts=True)
        self._families = len(counts)
        self._single = self._families == len(families)
        self.number = float(counts.sum() ** 2 / counts.square().sum())

    def square_of_sums(self, scores: Tensor) -> Tensor:
        """The sum over families of the square of what scores [k, n] add up to in each, [k]."""
        return self.sums(scores).square().sum(1)

    def sums(self, scores: Tensor) -> Tensor:
        """What scores [k, n] add up to in every family, [k, families]."""
        if self._single:
            return scores
        zero = scores.new_zeros(len(scores), self._families)
        return zero.index_add_(1, self._index, scores)
