"""Annealed importance sampling: log Z with an error, forwards and backwards.

Particles drawn from a base move to the target through densities between the two, and their weights
average to Z. The base is searched for, the inverse temperatures and the moves are learned in rounds
of fresh particles, and the last round, in which nothing is adapted any more, gives the estimate.
Then draws of the target are annealed the other way, as a check that does not share its blindness.

Source: Neal (2001), Annealed importance sampling.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.diagnostics import pareto_khat
from pyro_ebm.target import Target

from .backwards import Checked, check_backwards
from .freeze import as_target
from .given import given_base
from .log_z import LogZ
from .moves import HMCMoves, Moves
from .passes import Pass
from .path import geometric
from .pilot import Pilot, pilot
from .progress import Stages
from .rays import grows_along_rays
from .rounds import MOST_BATCHES, LearnedRounds, Look, Rounds
from .schedule import Optimized, Schedule, fixed_betas
from .search import disperse, search
from .verdict import sentence, support_problems, weight_problems
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
        if isinstance(base, str) and base != "auto":
            raise ValueError(f'expected base to be "auto" or an object, got the string {base!r}.')
        whole = isinstance(num_particles, int) and not isinstance(num_particles, bool)
        if num_particles is not None and (not whole or num_particles < 2):
            raise ValueError(
                f"expected num_particles to be a whole number of at least 2, got {num_particles}."
            )
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
        with poutine.block(), Stages(disable=self.disable_progbar) as stages:
            target = as_target(self.model, args, kwargs)
            seed = int(torch.randint(2**62, ()))
            generator = torch.Generator(target.device).manual_seed(seed)
            details: dict[str, Any] = {"seed": seed, "dtype": str(target.dtype)}
            growing = grows_along_rays(target, generator)
            if growing is not None:
                return _nothing(math.nan, [growing], details, target=target)
            return self._estimate(Look(target, generator, stages), args, kwargs, details)

    def _estimate(
        self, look: Look, args: tuple, kwargs: dict[str, Any], details: dict[str, Any]
    ) -> LogZ:
        target = look.target
        number = self.num_particles or NUM_PARTICLES
        dispersed = None
        if isinstance(self.base, str) or self.reverse is not False:
            look.stages.begin("chains")
            dispersed = disperse(target, look.generator)
        look.stages.begin("base")
        if isinstance(self.base, str):
            assert dispersed is not None
            choice = search(target, self.moves, dispersed, number, look.generator)
            chosen = choice.chosen
            details["considered"] = [each._asdict() for each in choice.considered]
        else:
            base = given_base(target, self.base, args, kwargs)
            chosen = pilot(geometric(target, base), self.moves, number, look.generator)
        details["base"] = chosen.description
        problems = support_problems(_at_base(look, chosen, number))
        weights = chosen.learned.finished.log_weights
        if not bool((weights > -torch.inf).any()):
            problems += weight_problems(weights, math.nan)
            return _nothing(-math.inf, problems, details, target=target)
        plan = Rounds(self.schedule, number, most_batches=1 if self.num_particles else MOST_BATCHES)
        learned, interrupted = None, False
        try:
            learned = plan.learn(look, chosen)
            result = plan.last(look, chosen, learned)
            if plan.is_surprised(result):
                # It is no longer decided beforehand that this round is the last, and that is told.
                details["retries"] = 1
                learned = plan.learn_longer(look, chosen, learned)
                result = plan.last(look, chosen, learned)
        except KeyboardInterrupt:
            result, interrupted = _as_far(chosen, learned), True
        details["num_temperatures"] = len(result.steps.betas) - 1
        if interrupted:
            problems.append(
                "the run was interrupted: this is what a round that still adapts had made of it"
            )
            return self._judge(target, result, None, problems, details)
        checked = None
        if self.reverse is not False:
            assert learned is not None
            try:
                look.stages.begin("backwards")
                checked = check_backwards(
                    look, chosen, learned, result, reverse=self.reverse, dispersed=dispersed
                )
            except KeyboardInterrupt:
                problems.append("the run was interrupted before it was checked backwards")
        return self._judge(target, result, checked, problems, details)

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


def _at_base(look: Look, chosen: Pilot, number: int) -> Tensor:
    """Log densities of the target at fresh draws of the base that lie inside the support."""
    drawn = chosen.mover.path.sample(number, look.generator)
    inside = drawn[:, drawn.isfinite().all(0)]
    if inside.shape[1] == 0:
        return inside.new_empty(0)
    return look.target.log_density_and_gradient(inside)[0]


def _as_far(chosen: Pilot, learned: LearnedRounds | None) -> Pass:
    """The last learning pass, as if it were an estimate: where a run was interrupted."""
    finished = (chosen.learned if learned is None else learned.learned).finished
    shift = (finished.log_z or 0.0) - float(log_mean_exp(finished.log_weights))
    return finished._replace(log_weights=finished.log_weights + shift)


def _nothing(log_z: float, problems: list[str], details: dict[str, Any], *, target: Target) -> LogZ:
    why = sentence(problems, checked_backwards=False)
    return LogZ(log_z, math.inf, "AIS", False, why, ess=0.0, target=target, details=details)
