"""Annealed importance sampling: log Z with an error, forwards and backwards.

Particles drawn from a base move to the target through densities between the two, and their weights
average to Z. The base is searched for, the inverse temperatures and the moves are learned in rounds
of fresh particles, and the last round, in which nothing is adapted any more, gives the estimate.
Then draws of the target are annealed the other way, as a check that does not share its blindness.

Source: Neal (2001), Annealed importance sampling.
"""

from __future__ import annotations

from typing import Any

from pyro import poutine

from pyro_ebm.diagnostics import pareto_khat
from pyro_ebm.target import Target

from .backwards import Checked, check_backwards, moved_on
from .draws_of_target import ExactDraws, positions_of
from .log_z import LogZ
from .moves import HMCMoves, Moves
from .passes import Pass
from .pilot import Pilot
from .progress import Stages
from .rounds import MOST_BATCHES, LearnedRounds, Rounds
from .schedule import Optimized, Schedule, fixed_betas
from .start import Start, Wanted, check_base, check_whole, start
from .verdict import sentence, weight_problems
from .weights import effective_sample_size, log_mean_exp, standard_error

NUM_PARTICLES = 1024


class AIS:
    """Annealed importance sampling of a model, a distribution, an energy or a Target.

    :param base: "auto" searches for one (:mod:`.search`); or a torch distribution over the values
        of the one site or over all unconstrained coordinates, a flow, a guide, a finished MCMC run.
    :param num_particles: how many particles a round has; 1024 unless given, and then the last round
        has up to eight times as many where a standard error of 0.025 needs them.
    :param schedule: :class:`Optimized`, :class:`Linear` or :class:`InverseTemperatures`.
    :param moves: :class:`HMCMoves` or :class:`NUTSMoves`.
    :param reverse: True anneals draws of the target backwards, made by MCMC from the particles of
        an earlier round; or such draws: a finished MCMC run, {site: values [n, *shape]}, values of
        the one site, or any of these as :class:`ExactDraws`. False leaves the check out.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
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
    ) -> None:
        check_base(base)
        if num_particles is not None:
            check_whole("num_particles", num_particles, 2)
        self.model, self.base, self.num_particles = model, base, num_particles
        self.schedule = Optimized() if schedule is None else schedule
        if not isinstance(self.schedule, Optimized):
            fixed_betas(self.schedule)
        self.moves = HMCMoves() if moves is None else moves
        self.reverse, self.disable_progbar = reverse, disable_progbar

    def run(self, *args: Any, **kwargs: Any) -> LogZ:
        """Estimate log Z; the arguments are the model's.

        :raises ValueError: when the model cannot be evaluated rightly, or no start can be found.
        """
        number = self.num_particles or NUM_PARTICLES
        wanted = Wanted(
            self.model, self.base, self.moves, number, "AIS", disperse=self.reverse is not False
        )
        with poutine.block(), Stages(disable=self.disable_progbar) as stages:
            begun = start(wanted, args, kwargs, stages)
            return begun if isinstance(begun, LogZ) else self._estimate(begun, number, stages)

    def _estimate(self, begun: Start, number: int, stages: Stages) -> LogZ:
        details, problems = begun.details, begun.problems
        plan = Rounds(self.schedule, number, most_batches=1 if self.num_particles else MOST_BATCHES)
        learned, interrupted = None, False
        try:
            learned = plan.learn(begun, stages)
            result = plan.last(begun, stages, learned)
            if plan.is_surprised(result):
                # It is no longer decided beforehand that this round is the last, and that is told.
                details["retries"] = 1
                learned = plan.learn_longer(begun, stages, learned)
                result = plan.last(begun, stages, learned)
        except KeyboardInterrupt:
            result, interrupted = _as_far(begun.pilot, learned), True
        details["num_temperatures"] = len(result.steps.betas) - 1
        if interrupted:
            problems.append(
                "the run was interrupted: this is what a round that still adapts had made of it"
            )
            return self._judge(begun.target, result, None, problems, details)
        checked = None
        if self.reverse is not False:
            assert learned is not None
            try:
                checked = self._check(begun, learned, result, stages)
            except KeyboardInterrupt:
                problems.append("the run was interrupted before it was checked backwards")
        return self._judge(begun.target, result, checked, problems, details)

    def _check(self, begun: Start, rounds: LearnedRounds, result: Pass, stages: Stages) -> Checked:
        """Anneal draws of the target backwards: those that were given, or made by MCMC."""
        reverse, tuning = self.reverse, rounds.learned.tuning
        exact = isinstance(reverse, ExactDraws)
        if reverse is True:
            particles = Pilot(begun.pilot.mover, rounds.learned).particles(begun.generator)
            draws = moved_on(begun.pilot.mover, tuning, particles, begun.generator)
        else:
            draws = positions_of(begun.target, reverse.draws if exact else reverse)
        weights = result.log_weights
        return check_backwards(begun, rounds.betas, tuning, weights, draws, stages, exact=exact)

    def _judge(
        self,
        target: Target,
        result: Pass,
        checked: Checked | None,
        problems: list[str],
        details: dict[str, Any],
    ) -> LogZ:
        weights, steps = result.log_weights, result.steps
        khat = pareto_khat(weights)
        problems = problems + weight_problems(weights, khat)
        if checked is not None:
            problems += checked.problems
        return LogZ(
            float(log_mean_exp(weights)),
            standard_error(weights),
            "AIS",
            reliable=not problems and checked is not None,
            why=sentence(problems, checked_backwards=checked is not None),
            ess=effective_sample_size(weights),
            khat=khat,
            num_particles=len(weights),
            log_weights=weights,
            positions=result.positions,
            target=target,
            backward=None if checked is None else checked.backward,
            path={
                "beta": steps.betas,
                "barrier": steps.barrier,
                "acceptance": steps.acceptance,
                "mean_slope": steps.mean_slope,
                "ess": steps.ess,
            },
            details=details,
        )


def _as_far(chosen: Pilot, learned: LearnedRounds | None) -> Pass:
    """The last learning pass, as if it were an estimate: where a run was interrupted."""
    finished = (chosen.learned if learned is None else learned.learned).finished
    shift = (finished.log_z or 0.0) - float(log_mean_exp(finished.log_weights))
    return finished._replace(log_weights=finished.log_weights + shift)
