"""Parallel tempering: draws of a target with many modes, and its normaliser, from one run.

Ladders of replicas, one at each inverse temperature, exchange places with their neighbours. What
comes up from the base, an independent draw, becomes a draw of the target when it has arrived; so a
ladder goes between modes that no kernel would ever leave, and at the rate of the arrivals draws of
the target are as good as independent. Inverse temperatures, step sizes and metrics are learned in
rounds of doubling length; in the last round nothing is adapted.

Source: Geyer (1991), Markov chain Monte Carlo maximum likelihood; Syed, Bouchard-Côté,
Deligiannidis, Doucet (2022), Non-reversible parallel tempering: a scalable highly parallel MCMC
scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.diagnostics import ess_bulk, split_rhat

from .along_path import AlongPath, Common
from .backwards import Checked
from .cross_check import cross_check
from .families import independent
from .found import STOPPED, UNCHECKED, Found, judged
from .ladder import Ladder, Replicas, Rungs
from .log_z import LogZ
from .loop import Loop
from .moves import DiscreteMoves, HMCMoves, Moves, root_of_covariance
from .progress import Stages
from .schedule import equal_barriers
from .start import Start, Wanted, check_whole
from .stepping_stones import stepping_stones

_PILOT_PARTICLES = 1024
# Temperatures for each unit of the pilot's barrier, and no fewer or more than these.
_PER_BARRIER, _FEWEST, _MOST = 2.0, 6, 128
_SHORTEST_ROUND, _FEWEST_SWEEPS = 8, 4
# The last round leaves out so many sweeps, as a share of those it keeps, before it counts.
_LEFT_OUT = 0.25
_LARGEST_RHAT = 1.05
_ARRIVALS_A_LADDER = 4
_MOST_DRAWS = 512
_GAIN = 1.0


class Seen(NamedTuple):
    """A round: slopes [sweeps, t, ladders], draws of the target [sweeps, dim, ladders], mean
    acceptance [t - 1] and rejection [t - 1], the replicas that have come all the way, and what was
    watched of all of them [sweeps, k, t, ladders]."""

    slope: Tensor
    draws: Tensor
    acceptance: Tensor
    rejection: Tensor
    arrivals: int
    round_trips: int
    watched: Tensor | None = None


# What is to be known of replicas: from positions [dim, t, ladders] to numbers [k, t, ladders].
Watch = Callable[[Tensor], Tensor]


class ParallelTempering(AlongPath):
    """Parallel tempering of a model, a distribution, an energy or a Target.

    :param base: "auto" searches for one (:mod:`.search`); or a torch distribution over the values
        of the one site or over all unconstrained coordinates, a flow, a guide, a finished MCMC run.
        For a discrete energy it is what :func:`independent_sites` gives, all states alike for
        "auto".
    :param num_ladders: independent ladders, of which the error is made.
    :param num_temperatures: steps from the base to the target; unless given, twice the barrier that
        a pilot met.
    :param num_sweeps: how many sweeps the last round keeps.
    :param num_rounds: how many rounds learn before the last, each twice as long as the one before.
    :param moves: :class:`HMCMoves` or :class:`NUTSMoves`; a discrete energy always has
        :class:`DiscreteMoves`.
    :param reverse: True anneals draws of this run back to the base, as a check; or draws of the
        target to do it with, as for :class:`~pyro_ebm.AIS`. False leaves the check out.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :param store: as for :class:`~pyro_ebm.AIS`, and ``checkpoint_seconds`` too.
    :raises ValueError: arguments outside of their range.
    """

    def __init__(
        self,
        model: Any,
        *,
        base: Any = "auto",
        num_ladders: int = 32,
        num_temperatures: int | None = None,
        num_sweeps: int = 256,
        num_rounds: int = 5,
        moves: Moves | None = None,
        reverse: Any = True,
        disable_progbar: bool = False,
        store: str | PathLike[str] | None = None,
        checkpoint_seconds: float | int = 60.0,
    ) -> None:
        wanted = Wanted(model, base, moves or HMCMoves(), _PILOT_PARTICLES, "ParallelTempering")
        super().__init__(
            wanted,
            Common(reverse, disable_progbar, store, checkpoint_seconds),
            {
                "num_ladders": num_ladders,
                "num_temperatures": num_temperatures,
                "num_sweeps": num_sweeps,
                "num_rounds": num_rounds,
            },
        )
        check_whole("num_ladders", num_ladders, 2)
        check_whole("num_sweeps", num_sweeps, _FEWEST_SWEEPS)
        check_whole("num_rounds", num_rounds, 1)
        if num_temperatures is not None:
            check_whole("num_temperatures", num_temperatures, 1)
        self.num_ladders, self.num_temperatures = num_ladders, num_temperatures
        self.num_sweeps, self.num_rounds = num_sweeps, num_rounds

    def _estimate(self, begun: Start, stages: Stages) -> LogZ:
        return self.judge(begun, *self.temper(begun, stages), stages)

    def temper(
        self, begun: Start, stages: Stages, watch: Watch | None = None
    ) -> tuple[Rungs, Seen]:
        """Learn the rungs, and run the ladders on them.

        :param watch: what the last round is to keep of every replica.
        """
        moves, generator = begun.pilot.mover.moves, begun.generator
        ladder = Ladder(begun.pilot.mover.path, moves)
        rungs = self._first_rungs(begun)
        stages.begin("rounds")
        replicas = ladder.start(rungs, self.num_ladders, generator, run=stages.run)
        for k in range(self.num_rounds):
            sweeps = max(_SHORTEST_ROUND, self.num_sweeps >> (self.num_rounds - k))
            replicas, seen = _round(ladder, replicas, rungs, sweeps, generator, stages)
            rungs = adapted(rungs, seen, moves)
        stages.begin("sweeps")
        left_out = math.ceil(_LEFT_OUT * self.num_sweeps)
        replicas, _ = _round(ladder, replicas, rungs, left_out, generator, stages)
        number, enough = self.num_sweeps, _FEWEST_SWEEPS
        _, seen = _round(
            ladder, replicas, rungs, number, generator, stages, enough=enough, watch=watch
        )
        return rungs, seen

    def _first_rungs(self, begun: Start) -> Rungs:
        """Equal barriers of the pilot, with its step sizes and metrics."""
        steps, tuning = begun.pilot.learned.finished.steps, begun.pilot.learned.tuning
        barrier = begun.pilot.barrier
        wanted = math.ceil(_PER_BARRIER * barrier) if math.isfinite(barrier) else _MOST
        number = self.num_temperatures or min(_MOST, max(_FEWEST, wanted))
        betas = equal_barriers(steps.betas, steps.barrier, number)
        found = [tuning.at(beta) for beta in betas]
        sizes = torch.tensor([size for size, _ in found], dtype=torch.float64)
        like = begun.pilot.mover.path.like
        return Rungs(
            torch.tensor(betas, dtype=torch.float64, device=like.device),
            sizes.to(like.device),
            torch.stack([factor for _, factor in found]),
        )

    def judge(self, begun: Start, rungs: Rungs, seen: Seen, stages: Stages) -> LogZ:
        """The estimate that the last round makes, with what speaks against it."""
        stones = stepping_stones(seen.slope, rungs.betas)
        log_z, error = stones.bennett
        sweeps, dim, ladders = seen.draws.shape
        positions = seen.draws.permute(1, 0, 2).reshape(dim, -1)
        chains = seen.draws.permute(2, 0, 1)
        problems = _problems(log_z, error, chains, seen)

        def check() -> Checked:
            stride = max(1, positions.shape[1] // _MOST_DRAWS)
            draws, exact = self._draws(
                begun.target, lambda: independent(positions[:, ::stride].contiguous())
            )
            tuning = begun.pilot.learned.tuning
            return cross_check(begun, tuning, draws, (log_z, error), stages, exact=exact)

        found = Found(
            log_z,
            error,
            positions,
            positions.new_zeros(positions.shape[1], dtype=torch.float64),
            problems,
            path={
                "beta": rungs.betas.tolist(),
                "barrier": seen.rejection.tolist(),
                "acceptance": seen.acceptance.tolist(),
                "mean_slope": seen.slope.nan_to_num(0.0, 0.0, 0.0).mean((0, 2)).tolist(),
            },
            details={
                "num_temperatures": len(rungs.betas) - 1,
                "num_ladders": ladders,
                "num_sweeps": sweeps,
                "rejection": seen.rejection.tolist(),
                "global_barrier": float(seen.rejection.sum()),
                "arrivals": seen.arrivals,
                "round_trips": seen.round_trips,
                "forward": stones.forward._asdict(),
                "reverse": stones.reverse._asdict(),
            },
            ess=_least_ess(chains),
        )

        def with_problem(problem: str) -> LogZ:
            so_far = found._replace(problems=[*problems, problem])
            return judged(begun, self.wanted.method, so_far, None)

        if sweeps < self.num_sweeps:
            return with_problem(f"{STOPPED} after {sweeps} of {self.num_sweeps} sweeps")
        if self.reverse is False or not math.isfinite(log_z):
            return judged(begun, self.wanted.method, found, None)
        stages.so_far(lambda: with_problem(UNCHECKED))
        try:
            return judged(begun, self.wanted.method, found, check())
        except KeyboardInterrupt:
            return with_problem(UNCHECKED)


class _Sweeping(NamedTuple):
    """A round on its way: lists of what each sweep saw."""

    replicas: Replicas
    slope: list[Tensor]
    draws: list[Tensor]
    acceptance: list[Tensor]
    rejection: list[Tensor]
    arrivals: list[Tensor]
    round_trips: list[Tensor]
    watched: list[Tensor]

    @property
    def number(self) -> int:
        """How many sweeps there were."""
        return len(self.slope)


def _round(
    ladder: Ladder,
    replicas: Replicas,
    rungs: Rungs,
    num_sweeps: int,
    generator: torch.Generator,
    stages: Stages,
    *,
    enough: int | None = None,
    watch: Watch | None = None,
) -> tuple[Replicas, Seen]:
    """So many sweeps; interrupted when ``enough`` of them are finished, those."""
    latest = _Sweeping(replicas, [], [], [], [], [], [], [])

    def step(state: _Sweeping) -> _Sweeping:
        moved, sweep = ladder.sweep(state.replicas, rungs, state.number, generator)
        return _Sweeping(
            moved,
            [*state.slope, sweep.slope],
            [*state.draws, moved.positions[:, -1]],
            [*state.acceptance, sweep.acceptance],
            [*state.rejection, sweep.rejection],
            [*state.arrivals, sweep.arrivals],
            [*state.round_trips, sweep.round_trips],
            [*state.watched, *([] if watch is None else [watch(moved.positions)])],
        )

    def finished(state: _Sweeping) -> bool:
        nonlocal latest
        latest = state
        return state.number == num_sweeps

    first = latest
    try:
        latest = stages.run(
            Loop(
                _Sweeping,
                generator,
                lambda: first,
                step,
                finished,
                number=lambda state: state.number,
                total=num_sweeps,
            )
        )
    except KeyboardInterrupt:
        if enough is None or latest.number < enough:
            raise
    return latest.replicas, Seen(
        torch.stack(latest.slope),
        torch.stack(latest.draws),
        torch.stack(latest.acceptance).mean(0),
        torch.stack(latest.rejection).mean(0),
        int(torch.stack(latest.arrivals).sum()),
        int(torch.stack(latest.round_trips).sum()),
        torch.stack(latest.watched) if latest.watched else None,
    )


def adapted(rungs: Rungs, seen: Seen, moves: Moves) -> Rungs:
    """Equal rejection rates, and step sizes and metrics that follow what a round has seen."""
    step_size = rungs.step_size.clone()
    step_size[1:] *= (_GAIN * (seen.acceptance - moves.target_acceptance)).exp()
    old = rungs.betas.tolist()
    betas = equal_barriers(old, seen.rejection.tolist(), len(old) - 1)
    if len(betas) < len(old):
        betas = old
    nearest = [int((rungs.betas - beta).abs().argmin()) for beta in betas]
    factor = rungs.factor[nearest].clone()
    if isinstance(moves, DiscreteMoves):
        return Rungs(rungs.betas.new_tensor(betas), step_size[nearest], factor)
    # At the target alone the draws are kept, and its metric can be measured.
    cold = seen.draws.permute(1, 0, 2).reshape(seen.draws.shape[1], -1)
    if cold.shape[1] >= 10 * len(cold):
        factor[-1] = root_of_covariance(cold, torch.ones_like(cold[0], dtype=torch.float64))
    return Rungs(rungs.betas.new_tensor(betas), step_size[nearest], factor)


def _problems(log_z: float, error: float, chains: Tensor, seen: Seen) -> list[str]:
    """What the ladders themselves say against the estimate."""
    if not math.isfinite(log_z) or not math.isfinite(error):
        return ["the replicas met no finite log Z: the base misses the support of the target"]
    found = []
    ladders = len(chains)
    if seen.arrivals < _ARRIVALS_A_LADDER * ladders:
        found.append(
            f"only {seen.arrivals} replicas have come from the base to the target on {ladders} "
            "ladders; take more sweeps or more temperatures"
        )
    worst = float(torch.as_tensor(split_rhat(chains)).nan_to_num(0.0).max())
    if worst > _LARGEST_RHAT:
        found.append(
            f"the ladders differ from one another at the target (R-hat {worst:.2f}, above "
            f"{_LARGEST_RHAT}); take more sweeps"
        )
    return found


def _least_ess(chains: Tensor) -> float:
    """The smallest effective sample size of a coordinate, at most the number of draws."""
    ess = torch.as_tensor(ess_bulk(chains))
    least = float(ess[ess.isfinite()].min()) if bool(ess.isfinite().any()) else 0.0
    return min(least, float(chains.shape[0] * chains.shape[1]))
