"""What all methods along a path have in common: their arguments, the frame of a run, Ctrl-C.

A run finds a base and looks along the path to the target; then the method estimates log Z, and
draws of the target, annealed down to the base, check it. Interrupted, it gives what it has: before
there is a base nothing, before there is an estimate what the pilot has made of it, and before the
check an estimate that nothing has checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine

from pyro_ebm.target import Target, worthwhile_threads

from .backwards import Checked
from .draws_of_target import ExactDraws, positions_of
from .families import Draws, independent
from .found import STOPPED, interrupted, nothing_yet
from .freeze import as_target
from .log_z import LogZ
from .progress import Stages
from .schedule import Optimized, Schedule, check_optimized, fixed_betas
from .start import Start, Wanted, check_base, check_moves, start


class AlongPath(ABC):
    """A method that estimates log Z of a model, a distribution, an energy or a Target.

    ``reverse`` and ``disable_progbar`` are those of :class:`~pyro_ebm.AIS`.
    """

    def __init__(self, wanted: Wanted, reverse: Any, disable_progbar: bool) -> None:
        if wanted.model is None:
            raise TypeError("expected a model, a distribution, an energy or a Target, got None.")
        check_base(wanted.base)
        check_moves(wanted.moves)
        self.wanted, self.reverse, self.disable_progbar = wanted, reverse, disable_progbar

    def run(self, *args: Any, **kwargs: Any) -> LogZ:
        """Estimate log Z; the arguments are the model's.

        On Ctrl-C the result is what there is by then; it is not reliable, and says why.

        :raises ValueError: when the model cannot be evaluated rightly, or no start can be found.
        """
        wanted = self.wanted
        begun: Start | None = None
        with poutine.block(), Stages(disable=self.disable_progbar) as stages:
            try:
                target = as_target(wanted.model, args, kwargs)
                with worthwhile_threads(target, wanted.num_particles):
                    seed = int(torch.randint(2**62, ()))
                    found = start(target, wanted, args, kwargs, stages, seed=seed)
                    if isinstance(found, LogZ):
                        return found
                    begun = found
                    return self._estimate(begun, stages)
            except KeyboardInterrupt:
                if begun is None:
                    return nothing_yet(wanted.method)
                return interrupted(begun, wanted.method)

    @abstractmethod
    def _estimate(self, begun: Start, stages: Stages) -> LogZ:
        """The estimate; interrupted before there is one, it raises KeyboardInterrupt."""

    def _draws(self, target: Target, made: Callable[[], Draws]) -> tuple[Draws, bool]:
        """Draws of the target: the given ones, or made; and whether they are exact."""
        if self.reverse is True:
            return made(), False
        exact = isinstance(self.reverse, ExactDraws)
        given = self.reverse.draws if exact else self.reverse
        return independent(positions_of(target, given)), exact


def unless_interrupted(check: Callable[[], Checked]) -> tuple[Checked | None, list[str]]:
    """The check, or what is to be said where it was interrupted."""
    try:
        return check(), []
    except KeyboardInterrupt:
        return None, [f"{STOPPED} before it was checked backwards"]


def usual(schedule: Schedule | None) -> Schedule:
    """:class:`Optimized` unless given.

    :raises TypeError: nothing of these.
    :raises ValueError: inverse temperatures that do not rise from 0 to 1, numbers out of range.
    """
    if schedule is None:
        return Optimized()
    if not isinstance(schedule, Schedule):
        raise TypeError(
            "expected schedule to be Optimized(), Linear(n) or InverseTemperatures([0, ..., 1]), "
            f"got {schedule!r}."
        )
    if isinstance(schedule, Optimized):
        check_optimized(schedule)
    else:
        fixed_betas(schedule)
    return schedule
