"""Thermodynamic integration: log Z as an area under the mean slope of the path.

Along densities log p_beta = (1 - beta) log q + beta log p with slope U = log p - log q

    d log Z / d beta = E_beta U,    d^2 log Z / d beta^2 = Var_beta U >= 0,

so that log Z is the integral of E_beta U over beta from 0 to 1; :mod:`.area` is about that. The
means come from particles that move at every inverse temperature in turn. They never resample and
never meet: each is an independent draw of the whole path, weighted as in annealed importance
sampling, so that the means are right however slowly the moves mix, and the error of the area is
that of a mean over independent particles.

Source: Gelman, Meng (1998), Simulating normalizing constants; Friel, Hurn, Wyse (2014), Improving
power posterior estimation of statistical evidence.
"""

from __future__ import annotations

import math
from itertools import pairwise
from os import PathLike
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .along_path import AlongPath, Common, unless_interrupted, usual
from .area import Area, integrate
from .backwards import Checked, moved_on
from .cross_check import cross_check
from .families import Draws
from .found import UNCHECKED, Found, judged
from .learn import learn
from .log_z import LogZ
from .loop import Loop, Runner, plainly
from .moves import HMCMoves, Mover, Moves, Tuning
from .progress import Stages
from .schedule import Optimized, Schedule, equal_barriers, fixed_betas
from .start import Start, Wanted, check_whole
from .weights import effective_sample_size, local_barrier

_METHOD = "thermodynamic integration"
_FEWEST = 16
# A difference by so many standard errors, and nats, tells of steps that are too long: it shares the
# noise of the area, and is many times what the steps leave wrong.
_COARSE, _AND = 3.0, 0.01


class ThermodynamicIntegration(AlongPath):
    """Thermodynamic integration of a model, a distribution, an energy or a Target.

    ``details`` of the result holds ``lower_sum`` and ``upper_sum``, which bracket log Z but for
    their Monte Carlo error ``sums_error``; the plain ``trapezoid``; and ``discretisation``, how far
    that or the area over every other step is away, which bounds what the steps leave wrong wherever
    more of them help. ``std_error`` is the Monte Carlo error alone. ``path`` has the mean slope,
    its standard error and its variance by inverse temperature.

    :param base: "auto" searches for one (:mod:`.search`); or a torch distribution over the values
        of the one site or over all unconstrained coordinates, a flow, a guide, a finished MCMC run.
        For a discrete energy it is what :func:`independent_sites` gives, all states alike for
        "auto".
    :param num_particles: independent particles, each of which goes the whole path.
    :param schedule: :class:`Optimized`, equal barriers learned in a pilot; :class:`Linear` or
        :class:`InverseTemperatures`.
    :param moves: :class:`HMCMoves` or :class:`NUTSMoves`; a discrete energy always has
        :class:`DiscreteMoves`.
    :param reverse: True anneals draws of the target, made by MCMC from the particles of the pilot,
        down to the base as a check, without which no estimate is reliable; False leaves it out.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :param store: as for :class:`~pyro_ebm.AIS`, and ``checkpoint_seconds`` too.
    :raises ValueError, TypeError: arguments outside of their range.
    """

    def __init__(
        self,
        model: Any,
        *,
        base: Any = "auto",
        num_particles: int = 1024,
        schedule: Schedule | None = None,
        moves: Moves | None = None,
        reverse: bool = True,
        disable_progbar: bool = False,
        store: str | PathLike[str] | None = None,
        checkpoint_seconds: float | int = 60.0,
    ) -> None:
        check_whole("num_particles", num_particles, 2)
        if not isinstance(reverse, bool):
            raise TypeError(f"expected reverse to be True or False, got {type(reverse).__name__}.")
        wanted = Wanted(model, base, moves or HMCMoves(), num_particles, _METHOD)
        self.schedule = usual(schedule)
        super().__init__(
            wanted,
            Common(reverse, disable_progbar, store, checkpoint_seconds),
            {"num_particles": num_particles, "schedule": self.schedule},
        )

    def _estimate(self, begun: Start, stages: Stages) -> LogZ:
        betas, tuning, particles = self._learned(begun, stages)
        mover, generator = begun.pilot.mover, begun.generator
        stages.begin("integration")
        number = self.wanted.num_particles
        climbed = climb(mover, betas, tuning, number, generator, run=stages.run)
        area = integrate(betas, climbed.slopes, climbed.log_weights)

        def check() -> Checked:
            draws = moved_on(mover, tuning, particles, generator, run=stages.run)
            return cross_check(begun, tuning, draws, (area.log_z, area.error), stages)

        checked, problems = None, []
        if math.isfinite(area.log_z):
            problems = _coarse(area, len(betas) - 1)
            if self.reverse:
                so_far = _found(betas, climbed, area, [*problems, UNCHECKED])
                stages.so_far(lambda: judged(begun, _METHOD, so_far, None))
                checked, stopped = unless_interrupted(check)
                problems += stopped
        return judged(begun, _METHOD, _found(betas, climbed, area, problems), checked)

    def _learned(self, begun: Start, stages: Stages) -> tuple[list[float], Tuning, Draws]:
        """Inverse temperatures, moves tuned at them, and particles of the target."""
        stages.begin("rounds")
        learned = begun.pilot.learned
        if isinstance(self.schedule, Optimized):
            steps, barrier = learned.finished.steps, begun.pilot.barrier
            number = self.schedule.max_temperatures
            if math.isfinite(barrier):
                # The weights of independent particles have a relative variance of barrier^2 / n.
                wanted = math.ceil(barrier**2 / self.schedule.relative_variance)
                number = min(number, max(_FEWEST, wanted))
            betas = equal_barriers(steps.betas, steps.barrier, number)
        else:
            betas = fixed_betas(self.schedule)
        again = learn(
            begun.pilot.mover,
            self.wanted.num_particles,
            begun.generator,
            betas=betas,
            tuning=learned.tuning,
            run=stages.run,
        )
        pilot = begun.pilot._replace(learned=again)
        return betas, again.tuning, pilot.particles(begun.generator)


class Climbed(NamedTuple):
    """Independent particles [n] at every inverse temperature [t].

    ``slopes`` and ``log_weights`` are [t, n]: with the weights of a row its slopes are those of the
    density of that inverse temperature. ``acceptance`` [t - 1] is of the moves made at each but the
    first.
    """

    positions: Tensor
    slopes: Float[Tensor, "t n"]
    log_weights: Float[Tensor, "t n"]
    acceptance: list[float]


class _Going(NamedTuple):
    """Particles on their way: lists by inverse temperature."""

    positions: Tensor
    slopes: list[Tensor]
    log_weights: list[Tensor]
    acceptance: list[float]


def climb(
    mover: Mover,
    betas: list[float],
    tuning: Tuning,
    num_particles: int,
    generator: torch.Generator,
    *,
    run: Runner = plainly,
) -> Climbed:
    """Particles from the base to the target, moved at every inverse temperature but the first.

    :param run: what runs the pass.
    """

    def begin() -> _Going:
        positions = mover.path.sample(num_particles, generator)
        _, slope = mover.enter(positions, betas[0], tuning.at(betas[0])[1])
        log_weights = positions.new_zeros(num_particles, dtype=torch.float64)
        return _Going(positions, [slope], [log_weights], [])

    def step(state: _Going) -> _Going:
        i = len(state.slopes)
        beta = betas[i]
        step_size, factor = tuning.at(beta)
        chain, slope = mover.enter(state.positions, beta, factor)
        log_weights = state.log_weights[-1] + (beta - betas[i - 1]) * slope
        moved = mover.move(chain, state.positions, beta, step_size, factor, generator)
        _, slope = mover.enter(moved.positions, beta, factor)
        alive = log_weights > -torch.inf
        rates = moved.acceptance[alive]
        return _Going(
            moved.positions,
            [*state.slopes, slope],
            [*state.log_weights, log_weights],
            [*state.acceptance, float(rates.mean()) if len(rates) else 0.0],
        )

    last = len(betas) - 1
    positions, slopes, weights, acceptance = run(
        Loop(
            _Going,
            generator,
            begin,
            step,
            finished=lambda state: len(state.slopes) > last,
            number=lambda state: len(state.slopes) - 1,
            total=last,
        )
    )
    return Climbed(positions, torch.stack(slopes), torch.stack(weights), acceptance)


def _found(betas: list[float], climbed: Climbed, area: Area, problems: list[str]) -> Found:
    weights = climbed.log_weights
    return Found(
        area.log_z,
        area.error,
        climbed.positions,
        weights[-1],
        problems,
        path={
            "beta": betas,
            "barrier": [local_barrier(a, b - a) for a, b in pairwise(weights)],
            "acceptance": climbed.acceptance,
            "ess": [effective_sample_size(each) for each in weights[1:]],
            "mean_slope": area.mean.tolist(),
            "mean_slope_error": area.mean_error.tolist(),
            "slope_variance": area.variance.tolist(),
        },
        details={
            "num_temperatures": len(betas) - 1,
            "lower_sum": area.lower,
            "upper_sum": area.upper,
            "sums_error": area.sums_error,
            "trapezoid": area.trapezoid,
            "discretisation": area.discretisation,
        },
    )


def _coarse(area: Area, num_temperatures: int) -> list[str]:
    """Whether the steps are too long, or the means do not rise as they must."""
    found = []
    if area.discretisation > _COARSE * area.error + _AND:
        found.append(
            f"{num_temperatures} steps are too few: without their correction, or over every other "
            f"one, the area is {area.discretisation:.2g} nats different; take more temperatures"
        )
    if area.lower > area.upper + 4.0 * area.sums_error:
        found.append(
            f"the mean slope falls along the path, where it can only rise: the left sum "
            f"{area.lower:.3f} is above the right one {area.upper:.3f}"
        )
    return found
