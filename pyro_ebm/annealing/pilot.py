"""A first look along a path: its barrier, its schedule, and particles of the target.

A pilot anneals twice: once with inverse temperatures chosen on the way, and once more on a grid of
equal barriers long enough for weights that do not degenerate. What it learns is the start of every
later round.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .families import Draws
from .learn import Learned, learn
from .loop import Runner, plainly
from .moves import Mover, Moves
from .path import Path
from .schedule import equal_barriers
from .weights import systematic_resampling

_FEWEST, _MOST = 16, 256
_GLANCE = 128


class Pilot(NamedTuple):
    """A path that has been looked at: its mover, and what the second pass learned."""

    mover: Mover
    learned: Learned

    @property
    def barrier(self) -> float:
        """The global barrier, the sum of the local ones."""
        return sum(self.learned.finished.steps.barrier)

    @property
    def log_z(self) -> float:
        """What the pilot makes of the normaliser; unbiased no more, as it adapts."""
        log_z = self.learned.finished.log_z
        return -math.inf if log_z is None else log_z

    @property
    def description(self) -> str:
        """What the base is."""
        return self.mover.path.description

    def particles(self, generator: torch.Generator) -> Draws:
        """Particles of the target, drawn by their weights."""
        finished, families = self.learned.finished, self.learned.families
        if not bool((finished.log_weights > -torch.inf).any()):
            return Draws(finished.positions[:, :0], families[:0])
        offset = float(torch.rand((), generator=generator, device=generator.device))
        drawn = systematic_resampling(finished.log_weights, offset)
        return Draws(finished.positions[:, drawn], families[drawn])


def pilot(
    path: Path,
    moves: Moves,
    num_particles: int,
    generator: torch.Generator,
    *,
    largest_barrier: float = math.inf,
    run: Runner = plainly,
) -> Pilot:
    """Look along a path with so many particles.

    :param largest_barrier: where the barrier may be larger, a glance with fewer particles comes
        first, and of a path with a larger one it is all.
    :param run: what runs the passes.
    """
    mover = Mover(path, moves)
    glance = num_particles if largest_barrier == math.inf else min(num_particles, _GLANCE)
    first = learn(mover, glance, generator, run=run)
    steps = first.finished.steps
    if len(steps.betas) < 2 or steps.betas[-1] < 1.0 or len(steps.acceptance) < len(steps.barrier):
        return Pilot(mover, first)
    barrier = sum(steps.barrier)
    # It is infinite where all weight was lost at once: no temperatures can be made of that.
    if barrier > largest_barrier or not math.isfinite(barrier):
        return Pilot(mover, first)
    number = min(_MOST, max(_FEWEST, math.ceil(2.0 * barrier**2)))
    betas = equal_barriers(steps.betas, steps.barrier, number)
    again = learn(mover, num_particles, generator, betas=betas, tuning=first.tuning, run=run)
    return Pilot(mover, again)
