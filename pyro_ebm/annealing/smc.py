"""Sequential Monte Carlo: annealing in which particles that have got lost are replaced.

Particles go from the base to the target as in annealed importance sampling, but whenever their
weights have become uneven they are drawn anew in proportion to them. Where moves mix within a
temperature but not along the path, that keeps the variance of log Z from growing exponentially.

With a schedule learned beforehand the last run is frozen, and exp(log Z) has the mean Z exactly;
where the run chooses its own inverse temperatures, :class:`Adaptive`, log Z has a bias of O(1/N).

Source: Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from os import PathLike
from typing import Any, NamedTuple

from torch import Tensor

from pyro_ebm.mcmc.checkpoint import restored
from pyro_ebm.shards import Surroundings, seed_of

from .along_path import AlongPath, Common, unless_interrupted, usual
from .backwards import Checked, moved_on
from .cross_check import cross_check, enough_temperatures
from .found import UNCHECKED, Found, interrupted, judged, path_of
from .islands import Annealed, Islands, anneal
from .learn import Learned, learn
from .log_z import LogZ
from .moves import HMCMoves, Moves
from .progress import Stages
from .schedule import InverseTemperatures, Linear, Optimized, equal_barriers, fixed_betas
from .shards import PARTICLES, IslandsShard, islands_shard, sent, shares, side_by_side
from .start import Start, Wanted, check_whole
from .weights import beta_ahead

_CHAIN_LENGTH = 8
_FEWEST_ISLANDS = 4
_SMALLEST_STEP = 1e-10


class Adaptive(NamedTuple):
    """Each next inverse temperature chosen by the particles of the run itself.

    It is as far ahead as leaves a conditional effective sample size, (sum W g)^2 / sum W g^2 for
    increments g, of this share. The estimate depends on its own particles, and log Z is biased by
    O(1/N).

    Source: Zhou, Johansen, Aston (2016), Toward automatic model comparison.
    """

    conditional_ess: float = 0.9

    def following(self, log_weights: Tensor, slope: Tensor, beta: float) -> float:
        """The next inverse temperature, by bisection; ``log_weights`` and ``slope`` are [n]."""
        allowed = math.sqrt(-math.log(self.conditional_ess))
        return beta_ahead(log_weights, slope, beta, allowed, smallest=_SMALLEST_STEP)


class SMC(AlongPath):
    """Sequential Monte Carlo over a model, a distribution, an energy or a Target.

    :param base: "auto" searches for one (:mod:`.search`); or a torch distribution over the values
        of the one site or over all unconstrained coordinates, a flow, a guide, a finished MCMC run.
        For a discrete energy it is what :func:`independent_sites` gives, all states alike for
        "auto".
    :param num_particles: on all islands together.
    :param schedule: :class:`Optimized`, equal barriers learned in a pilot; :class:`Linear`,
        :class:`InverseTemperatures`; or :class:`Adaptive`.
    :param moves: :class:`HMCMoves` or :class:`NUTSMoves`; a discrete energy always has
        :class:`DiscreteMoves`.
    :param resample_below: an island resamples when its weights are worth fewer than this share of
        equal ones; 0 never does, 1 always.
    :param waste_free: the length of the chains that resampled particles run, every state of which
        is kept as a particle; True for 8, False for none.
        Its error is made of the differences between islands, of which it needs four.
    :param num_islands: groups of particles that never meet; their mean Z is the estimate.
    :param reverse: as for :class:`~pyro_ebm.AIS`: draws of the target annealed backwards, True for
        those made by MCMC from the particles of a pilot, False for no such check.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :param executor: makes the last run in shards of whole islands, of about 1024 particles; as for
        :class:`~pyro_ebm.AIS`. Not with :class:`Adaptive`, which looks at all islands.
    :param store: as for :class:`~pyro_ebm.AIS`, and ``checkpoint_seconds`` too.
    :raises ValueError: arguments outside of their range.
    """

    strategies = (*AlongPath.strategies, Adaptive)

    def __init__(
        self,
        model: Any,
        *,
        base: Any = "auto",
        num_particles: int = 1024,
        schedule: Optimized | Linear | InverseTemperatures | Adaptive | None = None,
        moves: Moves | None = None,
        resample_below: float = 0.5,
        waste_free: bool | int = False,
        num_islands: int = 8,
        reverse: Any = True,
        disable_progbar: bool = False,
        store: str | PathLike[str] | None = None,
        checkpoint_seconds: float | int = 60.0,
        executor: Executor | None = None,
    ) -> None:
        check_whole("num_islands", num_islands, 1)
        check_whole("num_particles", num_particles, 2 * num_islands)
        if not 0.0 <= resample_below <= 1.0:
            raise ValueError(f"expected resample_below in [0, 1], got {resample_below}.")
        length = (_CHAIN_LENGTH if waste_free else 1) if waste_free in (True, False) else waste_free
        check_whole("waste_free", length, 1)
        if length > 1 and num_islands < _FEWEST_ISLANDS:
            raise ValueError(
                f"expected at least {_FEWEST_ISLANDS} islands for waste_free, whose error is made "
                f"of their differences, got {num_islands}."
            )
        each, left = divmod(num_particles, num_islands)
        if left or each % length or (length > 1 and each < 2 * length):
            raise ValueError(
                f"expected num_particles to be islands x chains x length with {num_islands} "
                f"islands, chains of length {length} and at least two of them an island, got "
                f"{num_particles}."
            )
        self.islands = Islands(num_islands, each, resample_below, int(length))
        if isinstance(schedule, Adaptive):
            if not 0.0 < schedule.conditional_ess < 1.0:
                raise ValueError(
                    f"expected conditional_ess in (0, 1), got {schedule.conditional_ess}."
                )
            if executor is not None:
                raise ValueError(
                    "Adaptive() looks at the particles of all islands on the way, and shards never "
                    "meet: leave out executor=, or take Optimized()."
                )
            self.schedule = schedule
        else:
            self.schedule = usual(schedule)
        learning = num_particles if executor is None else min(num_particles, PARTICLES)
        super().__init__(
            Wanted(model, base, moves or HMCMoves(), learning, "SMC"),
            Common(reverse, disable_progbar, store, checkpoint_seconds, executor),
            {
                "num_particles": num_particles,
                "schedule": self.schedule,
                "resample_below": resample_below,
                "waste_free": waste_free,
                "num_islands": num_islands,
            },
        )

    def _estimate(self, begun: Start, stages: Stages) -> LogZ:
        betas, learned = self._learned(begun, stages)
        stages.so_far(lambda: interrupted(begun, self.wanted.method, learned))
        stages.begin("forwards")
        try:
            annealed = self._annealed(begun, betas, learned, stages)
        except KeyboardInterrupt:
            # All islands go together, or not all have come to the target.
            return interrupted(begun, self.wanted.method, learned)
        log_z, error = annealed.estimate
        checked, problems = None, []
        if self.reverse is not False and math.isfinite(log_z):
            stages.so_far(lambda: self._judged(begun, annealed, [UNCHECKED], None))
            checked, problems = unless_interrupted(
                lambda: self._check(begun, learned, (log_z, error), stages)
            )
        return self._judged(begun, annealed, problems, checked)

    def _annealed(
        self, begun: Start, betas: list[float], learned: Learned, stages: Stages
    ) -> Annealed:
        """The run that counts.

        :raises KeyboardInterrupt: not all islands are finished.
        """
        mover, tuning = begun.pilot.mover, learned.tuning
        if self.executor is None:
            following = self.schedule.following if isinstance(self.schedule, Adaptive) else betas
            return anneal(mover, following, tuning, self.islands, begun.generator, run=stages.run)
        sending, around = sent(mover, self.executor), Surroundings.here()
        together = max(1, PARTICLES // self.islands.num_particles)
        jobs = {
            f"forwards-shard-{index:04d}": IslandsShard(
                sending,
                betas,
                tuning,
                around,
                seed_of(begun.details["seed"], index),
                self.islands._replace(num_islands=number),
            )
            for index, number in enumerate(shares(self.islands.num_islands, together))
        }
        found, whole = stages.run_shards(self.executor, islands_shard, jobs)
        if not whole:
            raise KeyboardInterrupt
        device = begun.target.device
        return side_by_side([restored(Annealed, arrays, "state", device) for arrays in found])

    def _judged(
        self, begun: Start, annealed: Annealed, problems: list[str], checked: Checked | None
    ) -> LogZ:
        adaptive = isinstance(self.schedule, Adaptive)
        found = Found(
            *annealed.estimate,
            annealed.positions,
            annealed.log_weights,
            problems,
            path_of(annealed.steps),
            {
                "adaptive": adaptive,
                "num_temperatures": len(annealed.steps.betas) - 1,
                "islands": annealed.log_z.tolist(),
                "resamplings": annealed.num_resamplings,
            },
            unbiased=not adaptive,
        )
        return judged(begun, self.wanted.method, found, checked)

    def _learned(self, begun: Start, stages: Stages) -> tuple[list[float], Learned]:
        """The inverse temperatures of the last run, and moves tuned at them by other particles."""
        learned = begun.pilot.learned
        if isinstance(self.schedule, Adaptive):
            return [], learned
        if isinstance(self.schedule, Optimized):
            steps = learned.finished.steps
            number = enough_temperatures(
                begun.pilot.barrier,
                self.schedule.relative_variance,
                self.schedule.max_temperatures,
            )
            betas = equal_barriers(steps.betas, steps.barrier, number)
        else:
            betas = fixed_betas(self.schedule)
        stages.begin("rounds")
        mover, generator = begun.pilot.mover, begun.generator
        learned = learn(
            mover,
            self.wanted.num_particles,
            generator,
            betas=betas,
            tuning=learned.tuning,
            run=stages.run,
        )
        return betas, learned

    def _check(
        self, begun: Start, learned: Learned, estimate: tuple[float, float], stages: Stages
    ) -> Checked:
        mover, tuning, generator = begun.pilot.mover, learned.tuning, begun.generator
        pilot = begun.pilot._replace(learned=learned)
        draws, exact = self._draws(
            begun.target,
            lambda: moved_on(mover, tuning, pilot.particles(generator), generator, run=stages.run),
        )
        return cross_check(begun, tuning, draws, estimate, stages, exact=exact)
