"""When a run has drawn enough: a rule that is asked at a few numbers of draws fixed beforehand.

A run that stops when an estimate of its own precision is large enough stops a little too early on
average, as it stops where that estimate errs upwards. So there are few looks, each at twice as many
draws as the one before, and a look asks for more than the one figure: the effective sample size of
every coordinate in the bulk and in the tails, each by two estimates, and the agreement of the
chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from pyro_ebm.diagnostics import (
    RELIABLE_DRAWS,
    ess_bulk,
    ess_tail,
    half_shift,
    nested_rhat,
    rhat_threshold,
    split_rhat,
    still_moves,
)

from ..run import Stop
from .inputs import as_array


@dataclass(frozen=True)
class UntilESS:
    """Stop when the chains agree and every coordinate has so many effective draws.

    Looked for after 50, 100, 200, ... draws of every chain; fewer than 50 tell no effective sample
    size. Of all chains apart and of all joined end to end the smaller estimate counts, as either
    can be too high. The coordinates are the unconstrained ones, of which the constrained sites are
    functions.

    :param ess: effective draws of the worst coordinate, in the bulk and in the tails.
    :raises TypeError: no number.
    :raises ValueError: not a positive number.
    """

    ess: float | int = 1000.0

    def __post_init__(self) -> None:
        if not isinstance(self.ess, Real) or isinstance(self.ess, bool):
            raise TypeError(f"expected ess to be a number of draws, got {self.ess!r}.")
        if not 0.0 < self.ess < float("inf"):
            raise ValueError(f"expected ess to be a positive number of draws, got {self.ess!r}.")

    def stop(self, num_samples: int, superchain_ids: Tensor | None) -> Stop:
        """The rule for a run of at most so many draws a chain."""
        grid = [RELIABLE_DRAWS]
        while 2 * grid[-1] < num_samples:
            grid.append(2 * grid[-1])
        looks = tuple(number for number in grid if number < num_samples)
        return Stop(looks, lambda positions: self.is_enough(positions, superchain_ids))

    def is_enough(self, positions: Tensor, superchain_ids: Tensor | None) -> bool:
        """Whether draws [draw, coordinate, chain] are worth enough, and their chains agree."""
        draws = as_array(positions.double()).transpose(2, 0, 1)
        # A site that is always in one state has nothing to be measured; all such have not moved.
        moves = (draws != draws[:1, :1]).any((0, 1))
        if not moves.any():
            return False
        draws = draws[:, :, moves]
        joined = draws.reshape(1, -1, draws.shape[-1])
        # The cheapest figures first: most looks end with them.
        if not _agree(draws, superchain_ids):
            return False
        figures = (estimate(each) for each in (draws, joined) for estimate in (ess_bulk, ess_tail))
        return all(float(np.nan_to_num(figure).min()) >= self.ess for figure in figures)


def _agree(draws: np.ndarray, superchain_ids: Tensor | None) -> bool:
    chains = len(draws)
    if still_moves(half_shift(draws), num_chains=chains).any():
        return False
    if superchain_ids is None:
        return bool((split_rhat(draws) < rhat_threshold(num_chains=chains)).all())
    ids = as_array(superchain_ids)
    size = int(np.unique(ids, return_counts=True)[1].min())
    most = rhat_threshold(num_chains=chains, chains_per_superchain=size)
    return bool((nested_rhat(draws, ids) < most).all())


def check_stop(stop: Any) -> None:
    """Refuse what is no rule.

    :raises TypeError: it is neither None nor :class:`UntilESS`.
    """
    if stop is not None and not isinstance(stop, UntilESS):
        raise TypeError(f"expected stop to be UntilESS(...), got {stop!r}.")
