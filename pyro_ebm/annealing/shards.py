"""The run that counts in shards: its particles are exchangeable, so that any part may be anywhere.

What is learned, the base, the inverse temperatures and the moves, is learned once and by other
particles. After that nothing adapts: particles of all shards have the same law, their weights are
pooled, and the mean of the estimate is Z as in one piece. Were every shard to learn by itself, it
would cost the learning once a shard, and no two shards' weights would be comparable.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import torch

from pyro_ebm.mcmc.checkpoint import flatten
from pyro_ebm.shards import SerialExecutor, Surroundings, within
from pyro_ebm.shards.packing import called, packed

from .islands import Annealed, Islands, anneal
from .moves import Mover, Tuning
from .passes import forward, together

# Of a shard, and of a round that learns at most.
PARTICLES = 1024


class PassShard(NamedTuple):
    """What a worker is told of a part of a pass; ``mover`` may be in bytes."""

    mover: Mover | bytes
    betas: list[float]
    tuning: Tuning
    surroundings: Surroundings
    seed: int
    num_particles: int


class IslandsShard(NamedTuple):
    """What a worker is told of some of the islands."""

    mover: Mover | bytes
    betas: list[float]
    tuning: Tuning
    surroundings: Surroundings
    seed: int
    islands: Islands


def pass_shard(shard: PassShard) -> dict[str, np.ndarray]:
    """A pass of some of the particles, as arrays."""
    mover, betas, tuning, surroundings, seed, number = shard
    with within(surroundings, seed):
        ready, generator = _ready(mover, seed)
        return flatten(forward(ready, betas, tuning, number, generator), "state")


def islands_shard(shard: IslandsShard) -> dict[str, np.ndarray]:
    """Some of the islands annealed, as arrays."""
    mover, betas, tuning, surroundings, seed, islands = shard
    with within(surroundings, seed):
        ready, generator = _ready(mover, seed)
        return flatten(anneal(ready, betas, tuning, islands, generator), "state")


def sent(mover: Mover, executor: Executor) -> Mover | bytes:
    """The mover as it goes to a worker.

    :raises TypeError: it cannot be sent.
    """
    return mover if isinstance(executor, SerialExecutor) else packed(_itself, mover)


def shares(total: int, size: int) -> list[int]:
    """A total in parts of one size; the last may be smaller."""
    whole, rest = divmod(total, size)
    return [size] * whole + [rest] * (rest > 0)


def side_by_side(parts: Sequence[Annealed]) -> Annealed:
    """The islands of all shards."""
    return Annealed(
        torch.cat([part.positions for part in parts], dim=1),
        torch.cat([part.log_weights for part in parts]),
        torch.cat([part.log_z for part in parts]),
        torch.cat([part.relative_variance for part in parts]),
        together([part.steps for part in parts], [len(part.log_z) for part in parts]),
        max(part.num_resamplings for part in parts),
    )


def _itself(mover: Mover) -> Mover:
    return mover


# One shard after another in a worker uses what the first has recorded.
_unpacked = functools.lru_cache(maxsize=1)(called)


def _ready(mover: Mover | bytes, seed: int) -> tuple[Mover, torch.Generator]:
    ready: Any = _unpacked(mover) if isinstance(mover, bytes) else mover
    return ready, torch.Generator(ready.path.like.device).manual_seed(seed)
