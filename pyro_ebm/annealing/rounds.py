"""The rounds of an annealed run: those that learn, and the last, in which nothing adapts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from pyro_ebm.diagnostics import pareto_khat

from .passes import Learned, Pass, Steps, forward, learn
from .progress import Stages
from .schedule import Optimized, Schedule, equal_barriers, fixed_betas
from .start import Start
from .verdict import weight_problems

# The last round takes up to so many times as many particles where the error would exceed this.
MOST_BATCHES, _ENOUGH = 8, 0.025
# More steps than so many squared barriers help less than more particles.
_PLATEAU, _ENOUGH_STEPS = 0.75, 4.0


class LearnedRounds(NamedTuple):
    """The inverse temperatures of the last round, what it is tuned by, and how many batches."""

    betas: list[float]
    learned: Learned
    num_batches: int


class Rounds(NamedTuple):
    """How an annealed run learns.

    :param most_batches: up to so many batches of ``num_particles`` make the last round.
    """

    schedule: Schedule
    num_particles: int
    most_batches: int

    def learn(self, start: Start, stages: Stages) -> LearnedRounds:
        """Rounds of doubling length until the next one promises weights that are even enough."""
        stages.begin("rounds")
        learned = start.pilot.learned
        if not isinstance(self.schedule, Optimized):
            betas = fixed_betas(self.schedule)
            learned = self._again(start, stages, learned, betas)
            return LearnedRounds(betas, learned, self._batches(learned.relative_variance))
        before = math.inf
        while True:
            steps = learned.finished.steps
            variance = learned.relative_variance
            number = min(
                self._following(len(steps.barrier), variance), self.schedule.max_temperatures
            )
            betas = equal_barriers(steps.betas, steps.barrier, number)
            enough = number > _ENOUGH_STEPS * sum(steps.barrier) ** 2
            settled = variance > _PLATEAU * before and math.isfinite(before)
            if (
                variance / 2 <= self.schedule.relative_variance
                or number == self.schedule.max_temperatures
                or ((settled or variance <= 1.0) and enough)
            ):
                promised = variance if settled else variance / 2
                return LearnedRounds(betas, learned, self._batches(promised))
            before = variance
            learned = self._again(start, stages, learned, betas)

    def learn_longer(self, start: Start, stages: Stages, before: LearnedRounds) -> LearnedRounds:
        """One more learning round, and twice the temperatures and particles in the next."""
        learned = self._again(start, stages, before.learned, before.betas)
        betas = before.betas
        if isinstance(self.schedule, Optimized):
            steps = learned.finished.steps
            betas = equal_barriers(steps.betas, steps.barrier, 2 * len(steps.barrier))
        return LearnedRounds(betas, learned, min(self.most_batches, 2 * before.num_batches))

    def last(self, start: Start, stages: Stages, rounds: LearnedRounds) -> tuple[Pass, bool]:
        """The round that counts; nothing in it is adapted.

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
                        report=stages.report,
                    )
                )
            except KeyboardInterrupt:
                if not parts:
                    raise
                break
        joined = Pass(
            torch.cat([part.positions for part in parts], dim=1),
            torch.cat([part.log_weights for part in parts]),
            _mean_steps(parts),
        )
        return joined, len(parts) == rounds.num_batches

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
            report=stages.report,
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
        wanted = math.ceil(variance / (self.num_particles * _ENOUGH**2))
        return min(self.most_batches, max(1, wanted))


def _mean_steps(parts: list[Pass]) -> Steps:
    """What several batches met on the same temperatures, averaged."""
    columns = [
        [sum(values) / len(parts) for values in zip(*column, strict=True)]
        for column in zip(*(part.steps for part in parts), strict=True)
    ]
    return Steps(*columns)
