"""What all methods along a path have in common: their arguments, the frame of a run, Ctrl-C.

A run finds a base and looks along the path to the target; then the method estimates log Z, and
draws of the target, annealed down to the base, check it. Interrupted, it gives what it has: before
there is a base nothing, before there is an estimate what the pilot has made of it, and before the
check an estimate that nothing has checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from os import PathLike
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from pyro import poutine

from pyro_ebm.mcmc.api.arguments import check_seconds, folder_of
from pyro_ebm.mcmc.api.identity import identity
from pyro_ebm.shards import SerialExecutor, check_executor
from pyro_ebm.target import Target, worthwhile_threads

from .backwards import Checked
from .draws_of_target import ExactDraws, positions_of
from .families import Draws, independent
from .found import UNCHECKED, interrupted, nothing_yet
from .freeze import as_target
from .log_z import LogZ
from .moves import DiscreteMoves, HMCMoves, NUTSMoves
from .options import completed, plain, settings
from .progress import Stages
from .schedule import (
    InverseTemperatures,
    Linear,
    Optimized,
    Schedule,
    check_optimized,
    fixed_betas,
)
from .start import Start, Wanted, check_base, check_moves, start
from .store import Place, Store, check_new, new, read_run, taken_up

M = TypeVar("M", bound="AlongPath")


class Common(NamedTuple):
    """Arguments that are the same for all methods."""

    reverse: Any
    disable_progbar: bool
    store: str | PathLike[str] | None
    checkpoint_seconds: float | int
    executor: Executor | None = None


class AlongPath(ABC):
    """A method that estimates log Z of a model, a distribution, an energy or a Target.

    ``reverse``, ``disable_progbar``, ``store`` and ``checkpoint_seconds`` are those of
    :class:`~pyro_ebm.AIS`.

    :param options: the other arguments of the method, as a run keeps them.
    """

    strategies: ClassVar[tuple[type, ...]] = (
        Optimized,
        Linear,
        InverseTemperatures,
        HMCMoves,
        NUTSMoves,
        DiscreteMoves,
    )

    def __init__(self, wanted: Wanted, common: Common, options: Mapping[str, Any]) -> None:
        if wanted.model is None:
            raise TypeError("expected a model, a distribution, an energy or a Target, got None.")
        check_base(wanted.base)
        check_moves(wanted.moves)
        check_seconds("checkpoint_seconds", common.checkpoint_seconds)
        check_executor(common.executor)
        self.wanted, self.reverse = wanted, common.reverse
        self.disable_progbar, self.executor = common.disable_progbar, common.executor
        self._options = {
            "base": wanted.base,
            "moves": wanted.moves,
            "reverse": common.reverse,
            "checkpoint_seconds": float(common.checkpoint_seconds),
            # Which one it is makes no difference.
            **({} if common.executor is None else {"executor": True}),
            **options,
        }
        self._place = None
        if common.store is not None:
            path = folder_of("store", common.store)
            self._place = Place(path, type(self).__name__, float(common.checkpoint_seconds))
        self._resumes = False

    @classmethod
    def resume(cls: type[M], path: str | PathLike[str], model: Any, **options: Any) -> M:
        """Go on with a run that was killed, interrupted or failed.

        ``AIS.resume("logz", model).run(*args)`` gives the estimate that the run would have given,
        number for number; of a run that has finished, its estimate, at once. Its plan was made at
        its beginning, and makes it unbiased: it takes no more particles. For a smaller error begin
        another run.

        :param path: the ``store=`` of the run.
        :param model: the model that the run was begun with.
        :param options: those that the run was begun with are known, but for objects: a base, draws
            to anneal backwards. These are given again. An ``executor`` may be another; of a run in
            shards what is missing is made here, one after another, unless one is given.
        :raises FileNotFoundError: there is no run.
        :raises ValueError: a file is damaged, or an object is missing. And :meth:`run` raises it
            where model, arguments or options are not those of the run.
        """
        folder = folder_of("path", path)
        run = read_run(Place(folder, cls.__name__, 0.0))
        known = completed(run.about["options"], options, cls.strategies)
        if known.get("executor") is True:
            known["executor"] = SerialExecutor()
        make: Any = cls
        method: M = make(model, **known, store=folder)
        method._resumes = True
        return method

    def run(self, *args: Any, **kwargs: Any) -> LogZ:
        """Estimate log Z; the arguments are the model's.

        On Ctrl-C the result is what there is by then; it is not reliable, and says why.

        :raises ValueError: when the model cannot be evaluated rightly, no start can be found, or a
            run that is resumed was one of something else.
        :raises FileExistsError: ``store`` is there already.
        """
        wanted = self.wanted
        begun: Start | None = None
        store: Store | None = None
        if self._place is not None and not self._resumes:
            check_new(self._place)
        with poutine.block(), ExitStack() as stack:
            try:
                target = as_target(wanted.model, args, kwargs)
                threads = stack.enter_context(worthwhile_threads(target, wanted.num_particles))
                seed = int(torch.randint(2**62, ()))
                if self._place is not None:
                    opened = self._opened(self._place, target, args, kwargs, seed, threads)
                    store = stack.enter_context(opened)
                    seed = store.seed
                    finished = store.result(target)
                    if finished is not None:
                        return finished
                stages = stack.enter_context(Stages(disable=self.disable_progbar, store=store))
                found = start(target, wanted, args, kwargs, stages, seed=seed)
                if isinstance(found, LogZ):
                    result = found
                else:
                    begun = found
                    stages.so_far(lambda: interrupted(found, wanted.method))
                    result = self._estimate(begun, stages)
            except KeyboardInterrupt:
                if begun is None:
                    return nothing_yet(wanted.method)
                result = interrupted(begun, wanted.method)
            if store is not None:
                store.write(result)
            return result

    def _opened(
        self,
        place: Place,
        target: Target,
        args: tuple,
        kwargs: dict[str, Any],
        seed: int,
        num_threads: int,
    ) -> AbstractContextManager[Store]:
        """The folder of this run, new or as it was left."""
        options = plain(self._options)
        known: dict[str, Any] = {
            "identity": identity(target, args, kwargs, option=settings(options)),
            "attributes": {"seed": seed, "num_threads": num_threads},
        }
        if self._resumes:
            return taken_up(place, target, **known)
        return new(place, target, options=options, first=nothing_yet(self.wanted.method), **known)

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
        return None, [UNCHECKED]


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
