"""Whether a base that is given again is the one that a run was begun with, by what it draws."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.api.identity import agree

from .loop import Runner, once
from .path import Base

_PROBES = 8


class Probed(NamedTuple):
    """A few draws of a base [dim, n], with its log density [n] there."""

    positions: Tensor
    log_density: Tensor


def check_same_base(base: Base, generator: torch.Generator, run: Runner) -> None:
    """Keep what a base draws, or compare it with what was kept.

    :raises ValueError: it is another.
    """
    now = _probed(base, generator.device)
    before = run(once(Probed, generator, lambda: now))
    if before.positions.shape != now.positions.shape or not all(map(agree, before, now)):
        raise ValueError(
            "base= is another than that which the run was begun with: it draws other values, or "
            "weighs them otherwise. Give the same again, or begin another run with another store=."
        )


def _probed(base: Base, device: torch.device) -> Probed:
    positions = base.sample(_PROBES, torch.Generator(device).manual_seed(0))
    return Probed(positions, base.log_density_and_gradient(positions.nan_to_num())[0])
