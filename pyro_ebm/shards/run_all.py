"""All shards of a run on an executor: what has ended is kept, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from .executors import SerialExecutor, WorkerProcesses
from .packing import called, packed

# Seconds that workers which are ended take at most.
_END = 10.0
_BROKEN = (
    "An executor of this kind ends with the first of its workers that is killed; WorkerProcesses() "
    "begins another, and Dask does."
)


class Ended(NamedTuple):
    """What became of the shards: an error by the number of those that failed, whether Ctrl-C was
    pressed before all had ended, and whether some worker goes on all the same."""

    errors: dict[int, BaseException]
    interrupted: bool
    goes_on: bool = False


def check_executor(executor: Any) -> None:
    """Refuse what is no executor.

    :raises TypeError: such a thing.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            "executor= must be a concurrent.futures.Executor: WorkerProcesses(2), a "
            "ProcessPoolExecutor, or client.get_executor() of a Dask client; got "
            f"{type(executor).__name__}."
        )


def run_all(
    executor: Executor,
    function: Callable[[Any], Any],
    jobs: Mapping[int, Any],
    ended: Callable[[int, Any], None],
    *,
    total: int,
    disable_progbar: bool,
) -> Ended:
    """Run ``function(job)`` for every job.

    :param ended: called in this process with the number and the result of each that has ended.
    :param total: of the progress bar, which counts those as well that ended in an earlier run.
    :raises TypeError: a job cannot be sent to a worker.
    """
    errors: dict[int, BaseException] = {}
    waiting: dict[Future, int] = {}

    def collect(future: Future) -> None:
        index = waiting.pop(future)
        try:
            ended(index, future.result())
            bar.update()
        except (Exception, CancelledError) as error:
            if isinstance(error, BrokenExecutor) and not isinstance(executor, WorkerProcesses):
                error.add_note(_BROKEN)
            errors[index] = error

    # tqdm's None means: disabled unless the output is a terminal.
    quiet = True if disable_progbar else None
    with tqdm(total=total, initial=total - len(jobs), unit="shard", disable=quiet) as bar:
        try:
            for index, job in jobs.items():
                future = _submitted(executor, function, job)
                waiting[future] = index
                if future.done():
                    collect(future)
            for future in as_completed([*waiting]):
                collect(future)
        except KeyboardInterrupt:
            _leave(executor, waiting)
            for future in [*waiting]:
                if future.done() and not future.cancelled() and future.exception() is None:
                    collect(future)
            goes_on = not all(future.done() for future in waiting)
            return Ended(errors, interrupted=True, goes_on=goes_on)
        except BaseException:
            _leave(executor, waiting)
            raise
    return Ended(errors, interrupted=False)


def _submitted(executor: Executor, function: Callable, job: Any) -> Future:
    if isinstance(executor, SerialExecutor):
        return executor.submit(function, job)
    call = packed(function, job)
    try:
        return executor.submit(called, call)
    except RuntimeError as error:  # shut down, or broken by an earlier shard
        future: Future = Future()
        future.set_exception(error)
        return future


def _leave(executor: Executor, waiting: Mapping[Future, int]) -> None:
    """Take back what has not begun, and end what has where that can be done."""
    for future in waiting:
        future.cancel()
    if isinstance(executor, WorkerProcesses):
        executor.stop()
        wait(waiting, timeout=_END)
