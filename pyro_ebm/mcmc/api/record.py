"""What a run leaves behind: stored coordinates, statistics, and what made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target


class RunRecord(NamedTuple):
    """A finished or interrupted run.

    ``positions`` [chain, draw, dim] are unconstrained; where ``coordinates`` is given they hold
    those coordinates only. ``statistics`` are [chain, draw] by name. ``sites`` are the names that
    the user asked to keep, None for all; ``superchain_ids`` [chain] tells which share a start. A
    run on disk has a ``folder``, its positions and statistics are mapped from there, and ``stored``
    and ``warmup_stored`` are the values of sites [chain, draw, *shape] that it holds.
    """

    target: Target
    positions: Tensor
    statistics: Mapping[str, Tensor]
    warmup_positions: Tensor | None = None
    warmup_statistics: Mapping[str, Tensor] | None = None
    coordinates: Tensor | None = None
    sites: tuple[str, ...] | None = None
    superchain_ids: Tensor | None = None
    attrs: Mapping[str, Any] = {}
    max_tree_depth: int = 10
    complete: bool = True
    thinning: int = 1
    folder: Path | None = None
    stored: Mapping[str, np.ndarray] = {}
    warmup_stored: Mapping[str, np.ndarray] = {}

    @property
    def stored_coordinates(self) -> Tensor:
        """Which coordinates are stored, ascending."""
        return torch.arange(self.target.dim) if self.coordinates is None else self.coordinates

    @property
    def keeps_all(self) -> bool:
        """Whether whole positions are stored, so that the model can be evaluated at them."""
        return self.coordinates is None or len(self.coordinates) == self.target.dim

    @property
    def lacks_log_z(self) -> bool:
        """Whether ``lp`` lacks log Z(theta), so that it falls elsewhere than the posterior."""
        return "auxiliary_exact" in self.attrs

    @property
    def num_chains(self) -> int:
        """The number of chains."""
        return self.positions.shape[0]

    @property
    def num_draws(self) -> int:
        """The number of draws that every chain has."""
        return self.positions.shape[1]

    def keeps(self, name: str) -> bool:
        """Whether the user wants this site."""
        return self.sites is None or name in self.sites
