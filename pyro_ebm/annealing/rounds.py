"""The rounds of an annealed run: those that learn, and the last, in which nothing adapts."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

import torch

from pyro_ebm.diagnostics import pareto_khat
from pyro_ebm.mcmc.checkpoint import restored
from pyro_ebm.shards import Surroundings, seed_of

from .learn import Learned, learn
from .log_z import LogZ
from .passes import Pass, forward, together
from .progress import Stages
from .schedule import Optimized, Schedule, equal_barriers, fixed_betas
from .shards import PARTICLES, PassShard, pass_shard, sent, shares
from .start import Start
from .verdict import weight_problems

# The last round takes up to so many times as many particles where the error would exceed this.
MOST_BATCHES, _ENOUGH = 8, 0.025
# More steps than so many squared barriers help less than more particles; and so they do where twice
# as many leave more than this share of the variance.
_PLATEAU, _ENOUGH_STEPS = 0.65, 4.0
# Weights more uneven than this are taken only where there are none better, and averaged less far.
_UNEVEN, _UNEVEN_ENOUGH = 3.0, 0.035


class LearnedRounds(NamedTuple):
    """The inverse temperatures of the last round, what it is tuned by, and how many batches."""

    betas: list[float]
    learned: Learned
    num_batches: int


class Rounds(NamedTuple):
    """How an annealed run learns.

    :param most_batches: up to so many batches of ``num_particles`` make the last round.
    :param total: so many particles make it, where that is decided beforehand.
    """

    schedule: Schedule
    num_particles: int
    most_batches: int
    total: int | None = None

    def learn(self, start: Start, stages: Stages) -> LearnedRounds:
        """Rounds of doubling length until the next one promises weights that are even enough."""
        stages.begin("rounds")
        learned = start.pilot.learned
        if not isinstance(self.schedule, Optimized):
            betas = fixed_betas(self.schedule)
            learned = self._again(start, stages, learned, betas)
            return LearnedRounds(betas, learned, self._batches(learned.relative_variance))
        met: dict[int, float] = {}
        while True:
            steps = learned.finished.steps
            variance = learned.relative_variance
            settled = _is_settled(variance, met)
            met[len(steps.barrier)] = variance
            if settled:
                number = _cheapest(met)
                betas = equal_barriers(steps.betas, steps.barrier, number)
                return LearnedRounds(betas, learned, self._batches(met[number]))
            number = min(
                self._following(len(steps.barrier), variance), self.schedule.max_temperatures
            )
            betas = equal_barriers(steps.betas, steps.barrier, number)
            if (
                variance / 2 <= self.schedule.relative_variance
                or number == self.schedule.max_temperatures
                or (variance <= 1.0 and number > _ENOUGH_STEPS * sum(steps.barrier) ** 2)
            ):
                return LearnedRounds(betas, learned, self._batches(variance / 2))
            learned = self._again(start, stages, learned, betas)

    def learn_longer(self, start: Start, stages: Stages, before: LearnedRounds) -> LearnedRounds:
        """One more learning round, and twice the temperatures and particles in the next."""
        learned = self._again(start, stages, before.learned, before.betas)
        betas = before.betas
        if isinstance(self.schedule, Optimized):
            steps = learned.finished.steps
            betas = equal_barriers(steps.betas, steps.barrier, 2 * len(steps.barrier))
        return LearnedRounds(betas, learned, min(self.most_batches, 2 * before.num_batches))

    def last(
        self,
        start: Start,
        stages: Stages,
        rounds: LearnedRounds,
        so_far: Callable[[Pass], LogZ],
    ) -> tuple[Pass, bool]:
        """The round that counts; nothing in it is adapted.

        :param so_far: what there is to read of it when a part of its batches is finished.
        :returns: also whether it is whole; interrupted, it gives the batches that are finished.
        """
        stages.begin("forwards")
        parts: list[Pass] = []
        for _ in range(rounds.num_batches):
            try:
                parts.append(
                    forward(
                        start.pilot.mover,
                        rounds.betas,
                        rounds.learned.tuning,
                        self.num_particles,
                        start.generator,
                        run=stages.run,
                    )
                )
                if len(parts) < rounds.num_batches:
                    stages.so_far(lambda: so_far(_joined(parts)))
            except KeyboardInterrupt:
                if not parts:
                    raise
                break
        return _joined(parts), len(parts) == rounds.num_batches

    def last_in_shards(
        self,
        start: Start,
        stages: Stages,
        rounds: LearnedRounds,
        executor: Executor,
        *,
        repeat: int,
    ) -> tuple[Pass, bool]:
        """The round that counts, made in shards of :data:`.PARTICLES` particles.

        :param repeat: how often there was one before, as random numbers are to be fresh.
        :returns: also whether it is whole; interrupted, it gives the shards that are finished.
        :raises KeyboardInterrupt: none is.
        """
        stages.begin("forwards")
        total = self.total or rounds.num_batches * self.num_particles
        mover, around = sent(start.pilot.mover, executor), Surroundings.here()
        jobs = {
            f"forwards-{repeat}-shard-{index:04d}": PassShard(
                mover,
                rounds.betas,
                rounds.learned.tuning,
                around,
                seed_of(start.details["seed"], repeat, index),
                number,
            )
            for index, number in enumerate(shares(total, PARTICLES))
        }
        found, whole = stages.run_shards(executor, pass_shard, jobs)
        if not found:
            raise KeyboardInterrupt
        device = start.target.device
        return _joined([restored(Pass, arrays, "state", device) for arrays in found]), whole

    def is_surprised(self, result: Pass) -> bool:
        """Whether weights came out so uneven that a longer round is due; the user's own schedule
        and number of particles are kept."""
        if not isinstance(self.schedule, Optimized) or self.most_batches == 1:
            return False
        return bool(weight_problems(result.log_weights, pareto_khat(result.log_weights)))

    def _again(self, start: Start, stages: Stages, learned: Learned, betas: list[float]) -> Learned:
        return learn(
            start.pilot.mover,
            self.num_particles,
            start.generator,
            betas=betas,
            tuning=learned.tuning,
            run=stages.run,
        )

    def _following(self, number: int, variance: float) -> int:
        """At most twice as many temperatures, and no more than the wanted variance needs."""
        assert isinstance(self.schedule, Optimized)
        if not math.isfinite(variance):
            return 2 * number
        wanted = math.ceil(number * variance / self.schedule.relative_variance)
        return min(2 * number, max(number, wanted))

    def _batches(self, variance: float) -> int:
        if not math.isfinite(variance):
            return self.most_batches
        enough = _ENOUGH if variance <= _UNEVEN else _UNEVEN_ENOUGH
        wanted = math.ceil(variance / (self.num_particles * enough**2))
        return min(self.most_batches, max(1, wanted))


def _is_settled(variance: float, met: dict[int, float]) -> bool:
    """Whether the last doubling, after the variances ``met`` by number of steps, gained little."""
    before = min(met.values(), default=math.inf)
    return math.isfinite(before) and variance > _PLATEAU * before


def _cheapest(met: dict[int, float]) -> int:
    """The number of steps with the least variance at equal cost, among those with even weights."""
    even = [number for number, variance in met.items() if variance <= _UNEVEN]
    if not even:
        return min(met, key=lambda number: met[number])
    return min(even, key=lambda number: number * met[number])


def _joined(parts: list[Pass]) -> Pass:
    """Several batches as one."""
    return Pass(
        torch.cat([part.positions for part in parts], dim=1),
        torch.cat([part.log_weights for part in parts]),
        together([part.steps for part in parts], [len(part.log_weights) for part in parts]),
    )
