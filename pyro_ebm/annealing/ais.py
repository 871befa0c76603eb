"""Annealed importance sampling: log Z with an error, forwards and backwards.

Particles drawn from a base move to the target through densities between the two, and their weights
average to Z. The base is searched for, the inverse temperatures and the moves are learned in rounds
of fresh particles, and the last round, in which nothing is adapted any more, gives the estimate.
Then draws of the target are annealed the other way, as a check that does not share its blindness.

Source: Neal (2001), Annealed importance sampling.
"""

from __future__ import annotations

from concurrent.futures import Executor
from os import PathLike
from typing import Any

from .along_path import AlongPath, Common, unless_interrupted, usual
from .backwards import Checked, check_backwards, moved_on
from .found import STOPPED, UNCHECKED, Found, interrupted, judged, path_of
from .log_z import LogZ
from .moves import HMCMoves, Moves
from .passes import Pass
from .pilot import Pilot
from .progress import Stages
from .rounds import MOST_BATCHES, LearnedRounds, Rounds
from .schedule import Schedule
from .shards import PARTICLES
from .start import Start, Wanted, check_whole
from .weights import log_mean_exp, standard_error

NUM_PARTICLES = 1024
_PARTIAL = f"{STOPPED}, and only the rounds and batches finished before are used"


class AIS(AlongPath):
    """Annealed importance sampling of a model, a distribution, an energy or a Target.

    :param base: "auto" searches for one (:mod:`.search`); or a torch distribution over the values
        of the one site or over all unconstrained coordinates, a flow, a guide, a finished MCMC run.
        For a discrete energy it is what :func:`independent_sites` gives, all states alike for
        "auto".
    :param num_particles: how many particles a round has; 1024 unless given, and then the last round
        has up to eight times as many where a standard error of 0.025 needs them.
    :param schedule: :class:`Optimized`, :class:`Linear` or :class:`InverseTemperatures`.
    :param moves: :class:`HMCMoves` or :class:`NUTSMoves`; a discrete energy always has
        :class:`DiscreteMoves`.
    :param reverse: True anneals draws of the target backwards, made by MCMC from the particles of
        an earlier round; or such draws: a finished MCMC run, {site: values [n, *shape]}, values of
        the one site, or any of these as :class:`ExactDraws`. False leaves the check out.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :param store: a folder, which must not be there yet: what was done goes there while the run goes
        on, so that :meth:`resume` can go on after any stop; :func:`.from_store` reads the estimate.
    :param executor: makes the last round in shards of 1024 particles with random streams of their
        own, on whatever has the interface of :class:`concurrent.futures.Executor`; rounds that
        learn have 1024 particles at most, and are made here, as is the check backwards. The
        estimate does not depend on the executor; :class:`.SerialExecutor` makes the same here.
    :param checkpoint_seconds: with ``store``, the time between two states within a pass; one is
        kept at the end of every pass too.
    :raises ValueError, TypeError: arguments outside of their range.
    """

    def __init__(
        self,
        model: Any,
        *,
        base: Any = "auto",
        num_particles: int | None = None,
        schedule: Schedule | None = None,
        moves: Moves | None = None,
        reverse: Any = True,
        disable_progbar: bool = False,
        store: str | PathLike[str] | None = None,
        checkpoint_seconds: float | int = 60.0,
        executor: Executor | None = None,
    ) -> None:
        number = NUM_PARTICLES if num_particles is None else num_particles
        check_whole("num_particles", number, 2)
        if executor is not None:
            number = min(number, PARTICLES)
        wanted = Wanted(
            model, base, moves or HMCMoves(), number, "AIS", disperse=reverse is not False
        )
        most = MOST_BATCHES if num_particles is None else 1
        total = None if executor is None else num_particles
        self.rounds = Rounds(usual(schedule), number, most_batches=most, total=total)
        super().__init__(
            wanted,
            Common(reverse, disable_progbar, store, checkpoint_seconds, executor),
            {"num_particles": num_particles, "schedule": self.rounds.schedule},
        )

    def _estimate(self, begun: Start, stages: Stages) -> LogZ:
        plan, method = self.rounds, self.wanted.method

        def so_far(part: Pass) -> LogZ:
            return self._judged(begun, part, [_PARTIAL], None)

        def counted(rounds: LearnedRounds, *, repeat: int = 0) -> tuple[Pass, bool]:
            if self.executor is None:
                return plan.last(begun, stages, rounds, so_far)
            return plan.last_in_shards(begun, stages, rounds, self.executor, repeat=repeat)

        learned: LearnedRounds | None = None
        result: Pass | None = None
        try:
            rounds = learned = plan.learn(begun, stages)
            stages.so_far(lambda: interrupted(begun, method, rounds.learned))
            result, whole = counted(learned)
            if whole and plan.is_surprised(result):
                # It is no longer decided beforehand that this round is the last, and that is told.
                begun.details["retries"] = 1
                longer = plan.learn_longer(begun, stages, learned)
                result, whole = counted(longer, repeat=1)
                learned = longer
        except KeyboardInterrupt:
            if learned is None or result is None:
                return interrupted(begun, method, learned and learned.learned)
            whole = False
        if not whole:
            return self._judged(begun, result, [_PARTIAL], None)
        checked, problems = None, []
        if self.reverse is not False:
            rounds, last = learned, result
            stages.so_far(lambda: self._judged(begun, last, [UNCHECKED], None))
            checked, problems = unless_interrupted(lambda: self._check(begun, rounds, last, stages))
        return self._judged(begun, result, problems, checked)

    def _judged(
        self, begun: Start, result: Pass, problems: list[str], checked: Checked | None
    ) -> LogZ:
        """The result of the last round; of a part of it where a problem says so."""
        weights = result.log_weights
        found = Found(
            float(log_mean_exp(weights)),
            standard_error(weights),
            result.positions,
            weights,
            problems,
            path_of(result.steps),
            {"num_temperatures": len(result.steps.betas) - 1},
            unbiased=_PARTIAL not in problems and "retries" not in begun.details,
        )
        return judged(begun, self.wanted.method, found, checked)

    def _check(self, begun: Start, rounds: LearnedRounds, result: Pass, stages: Stages) -> Checked:
        """Anneal draws of the target backwards: those that were given, or made by MCMC."""
        mover, tuning = begun.pilot.mover, rounds.learned.tuning
        generator = begun.generator
        pilot = Pilot(mover, rounds.learned)
        draws, exact = self._draws(
            begun.target,
            lambda: moved_on(mover, tuning, pilot.particles(generator), generator, run=stages.run),
        )
        weights = result.log_weights
        return check_backwards(begun, rounds.betas, tuning, weights, draws, stages, exact=exact)
