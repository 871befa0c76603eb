"""Annealed importance sampling: log Z with an error, forwards and backwards.

Particles drawn from a base move to the target through densities between the two, and their weights
average to Z. The base is searched for, the inverse temperatures and the moves are learned in rounds
of fresh particles, and the last round, in which nothing is adapted any more, gives the estimate.
Then draws of the target are annealed the other way, as a check that does not share its blindness.

Source: Neal (2001), Annealed importance sampling.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.diagnostics import pareto_khat
from pyro_ebm.target import Target

from .bennett import bennett
from .draws_of_target import ExactDraws, positions_of
from .freeze import as_target
from .given import given_base
from .laplace import laplace
from .log_z import Backward, LogZ
from .moves import HMCMoves, Moves
from .passes import Learned, Pass, Steps, backward, forward, learn
from .path import geometric
from .pilot import Pilot, pilot
from .progress import Stages
from .rays import grows_along_rays
from .schedule import Optimized, Schedule, equal_barriers, fixed_betas
from .search import Candidate, Dispersed, climb, disperse, search
from .verdict import (
    backward_problems,
    is_unreached,
    narrow_directions,
    sentence,
    support_problems,
    unreached_regions,
    weight_problems,
)
from .weights import effective_sample_size, log_mean_exp, standard_error

NUM_PARTICLES = 1024
# Unless a number is asked for, the last round takes up to so many times as many particles, where
# the standard error would exceed this.
_MOST_BATCHES, _ENOUGH = 8, 0.025
_MOST_BACKWARD = 512
_REVERSE_TRANSITIONS = 30
# More steps than so many squared barriers help less than more particles.
_PLATEAU, _ENOUGH_STEPS = 0.75, 4.0


class AIS:
    """Annealed importance sampling of a model, a distribution, an energy or a Target.

    :param base: "auto" searches for one (:mod:`.search`); or a torch distribution over the values
        of the one site or over all unconstrained coordinates, a flow, a guide, a finished MCMC run.
    :param num_particles: how many particles a round has; 1024 unless given, and then the last round
        has up to eight times as many where a standard error of 0.025 needs them.
    :param schedule: :class:`Optimized`, :class:`Linear` or :class:`Given` inverse temperatures.
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
            growing = grows_along_rays(target, generator)
            if growing is not None:
                return LogZ(math.nan, math.inf, "AIS", False, growing + ".", target=target)
            run = _Run(self, target, generator, stages, args, kwargs)
            return run.estimate({"seed": seed, "dtype": str(target.dtype)})


class _Rounds(NamedTuple):
    """What the rounds have learned: the inverse temperatures of the last, and the particles."""

    betas: list[float]
    learned: Learned
    num_batches: int


class _Run:
    """One run of AIS: the stages in their order."""

    def __init__(
        self,
        ais: AIS,
        target: Target,
        generator: torch.Generator,
        stages: Stages,
        args: tuple,
        kwargs: dict[str, Any],
    ) -> None:
        self.ais, self.target, self.generator, self.stages = ais, target, generator, stages
        self.args, self.kwargs = args, kwargs
        self.num_particles = ais.num_particles or NUM_PARTICLES

    def estimate(self, details: dict[str, Any]) -> LogZ:
        dispersed: Dispersed | None = None
        considered: tuple[Candidate, ...] = ()
        target, generator = self.target, self.generator
        if isinstance(self.ais.base, str):
            self.stages.begin("chains")
            dispersed = disperse(target, generator)
            self.stages.begin("base")
            choice = search(target, self.ais.moves, dispersed, self.num_particles, generator)
            chosen, considered = choice.chosen, choice.considered
        else:
            self.stages.begin("base")
            base = given_base(target, self.ais.base, self.args, self.kwargs)
            chosen = pilot(geometric(target, base), self.ais.moves, self.num_particles, generator)
        details["base"] = chosen.description
        details["considered"] = [candidate._asdict() for candidate in considered]
        problems = self._support(chosen)
        if not bool((chosen.learned.finished.log_weights > -torch.inf).any()):
            return self._nothing(chosen, problems, details)
        rounds = self._rounds(chosen)
        result = self._last_round(chosen, rounds, details)
        return self._judge(chosen, rounds, result, dispersed, problems, details)

    def _support(self, chosen: Pilot) -> list[str]:
        """What the target is at fresh draws of the base."""
        drawn = chosen.mover.path.sample(self.num_particles, self.generator)
        inside = drawn.isfinite().all(0)
        if not bool(inside.any()):
            return []
        value, _ = self.target.log_density_and_gradient(drawn[:, inside])
        return support_problems(value)

    def _nothing(self, chosen: Pilot, problems: list[str], details: dict[str, Any]) -> LogZ:
        weights = chosen.learned.finished.log_weights
        why = sentence(problems + weight_problems(weights, math.nan), checked_backwards=False)
        return LogZ(
            -math.inf,
            math.inf,
            "AIS",
            False,
            why,
            ess=0.0,
            num_particles=len(weights),
            log_weights=weights,
            target=self.target,
            details=details,
        )

    def _rounds(self, chosen: Pilot) -> _Rounds:
        """Rounds of doubling length until the next one promises weights that are even enough."""
        schedule, generator = self.ais.schedule, self.generator
        mover, learned = chosen.mover, chosen.learned
        self.stages.begin("rounds")
        if not isinstance(schedule, Optimized):
            betas = fixed_betas(schedule)
            learned = learn(
                mover, self.num_particles, generator, betas=betas, tuning=learned.tuning
            )
            return _Rounds(betas, learned, self._batches(learned.relative_variance))
        before = math.inf
        while True:
            steps = learned.finished.steps
            number = 2 * len(steps.barrier)
            variance = learned.relative_variance
            betas = equal_barriers(
                steps.betas, steps.barrier, min(number, schedule.max_temperatures)
            )
            enough = _ENOUGH_STEPS * sum(steps.barrier) ** 2
            settled = variance > _PLATEAU * before and math.isfinite(before)
            if (
                variance / 2 <= schedule.relative_variance
                or number >= schedule.max_temperatures
                or ((settled or variance <= 1.0) and number > enough)
            ):
                return _Rounds(betas, learned, self._batches(variance if settled else variance / 2))
            before = variance
            learned = learn(
                mover, self.num_particles, generator, betas=betas, tuning=learned.tuning
            )

    def _batches(self, variance: float) -> int:
        if self.ais.num_particles is not None:
            return 1
        if not math.isfinite(variance):
            return _MOST_BATCHES
        wanted = math.ceil(variance / (self.num_particles * _ENOUGH**2))
        return min(_MOST_BATCHES, max(1, wanted))

    def _last_round(self, chosen: Pilot, rounds: _Rounds, details: dict[str, Any]) -> Pass:
        """The round that counts; nothing in it is adapted."""
        self.stages.begin("forwards")
        parts = [self._forward(chosen, rounds) for _ in range(rounds.num_batches)]
        result = Pass(
            torch.cat([part.positions for part in parts], dim=1),
            torch.cat([part.log_weights for part in parts]),
            _mean_steps(parts),
        )
        details["num_temperatures"] = len(rounds.betas) - 1
        details["rounds"] = rounds.num_batches
        return result

    def _forward(self, chosen: Pilot, rounds: _Rounds) -> Pass:
        return forward(
            chosen.mover,
            rounds.betas,
            rounds.learned.tuning,
            self.num_particles,
            self.generator,
            report=self.stages.report,
        )

    def _judge(
        self,
        chosen: Pilot,
        rounds: _Rounds,
        result: Pass,
        dispersed: Dispersed | None,
        problems: list[str],
        details: dict[str, Any],
    ) -> LogZ:
        weights = result.log_weights
        log_z, error = float(log_mean_exp(weights)), standard_error(weights)
        khat = pareto_khat(weights)
        problems = problems + weight_problems(weights, khat)
        back = None
        if self.ais.reverse is not False and math.isfinite(log_z):
            self.stages.begin("backwards")
            draws, exact = self._target_draws(chosen, rounds)
            back = self._backward(chosen, rounds, weights, draws, exact)
            problems += backward_problems(weights, back)
            sample = chosen.mover.path.sample(4 * self.num_particles, self.generator)
            problems += narrow_directions(sample, draws)
            if dispersed is not None:
                problems += self._unreached(chosen, rounds, result, dispersed, log_z)
        steps = result.steps
        return LogZ(
            log_z,
            error,
            "AIS",
            reliable=not problems and back is not None,
            why=sentence(problems, checked_backwards=back is not None),
            ess=effective_sample_size(weights),
            khat=khat,
            num_particles=len(weights),
            log_weights=weights,
            positions=result.positions,
            target=self.target,
            backward=back,
            path={
                "beta": steps.betas,
                "barrier": steps.barrier,
                "acceptance": steps.acceptance,
                "mean_slope": steps.mean_slope,
                "ess": steps.ess,
            },
            details=details,
        )

    def _target_draws(self, chosen: Pilot, rounds: _Rounds) -> tuple[Tensor, bool]:
        """Draws of the target [dim, m] to anneal backwards, and whether they are exact."""
        reverse = self.ais.reverse
        if reverse is not True:
            exact = isinstance(reverse, ExactDraws)
            return positions_of(self.target, reverse.draws if exact else reverse), exact
        number = min(self.num_particles, _MOST_BACKWARD)
        particles = Pilot(chosen.mover, rounds.learned).particles(self.generator)
        order = torch.randperm(particles.shape[1], generator=self.generator)[:number]
        positions = particles[:, order.to(particles.device)]
        tuning = rounds.learned.tuning
        step_size, factor = tuning.at(1.0)
        mover = chosen.mover
        for _ in range(_REVERSE_TRANSITIONS):
            chain, _ = mover.enter(positions, 1.0, factor)
            moved = mover.move(chain, positions, 1.0, step_size, factor, self.generator)
            positions = moved.positions
        return positions, False

    def _backward(
        self, chosen: Pilot, rounds: _Rounds, weights: Tensor, draws: Tensor, exact: bool
    ) -> Backward:
        """Anneal draws of the target down to the base."""
        works = self._down(chosen, rounds, draws)
        upper, error = -float(log_mean_exp(-works)), standard_error(-works)
        joint, joint_error = bennett(weights, works)
        return Backward(works, upper, error, joint, joint_error, exact)

    def _down(self, chosen: Pilot, rounds: _Rounds, draws: Tensor) -> Tensor:
        tuning = rounds.learned.tuning
        return backward(
            chosen.mover,
            rounds.betas,
            tuning,
            draws,
            self.generator,
            report=self.stages.report,
        ).log_weights

    def _unreached(
        self, chosen: Pilot, rounds: _Rounds, result: Pass, dispersed: Dispersed, log_z: float
    ) -> list[str]:
        """Whether the chains from dispersed starts have found what the particles have not."""
        finite = dispersed.last[:, dispersed.last.isfinite().all(0)].contiguous()
        if finite.shape[1] == 0:
            return []
        works = self._down(chosen, rounds, finite)
        unreached = is_unreached(log_z, works, len(result.log_weights))
        masses = []
        if bool(unreached.any()):
            modes = climb(self.target, finite[:, unreached])
            masses = [laplace(self.target, mode)[0] for mode in modes.T]
        return unreached_regions(log_z, unreached, masses)


def _mean_steps(parts: list[Pass]) -> Steps:
    """What several batches met on the same temperatures, averaged."""
    columns = [
        [sum(values) / len(parts) for values in zip(*column, strict=True)]
        for column in zip(*(part.steps for part in parts), strict=True)
    ]
    return Steps(*columns)
