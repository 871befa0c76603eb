"""Executors that come with the package: this process, and processes of its own on this machine.

Both have the interface of :class:`concurrent.futures.Executor`, as have Dask's
``Client.get_executor()`` and :class:`concurrent.futures.ProcessPoolExecutor`. The latter is lost
with all that it runs when one of its workers is killed; :class:`WorkerProcesses` begins another
worker and that one call again.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from .packing import called, packed

# A call that has cost so many workers their lives is not tried once more.
_TRIES = 3


class WorkerDied(BrokenExecutor):
    """A worker process has ended in the middle of a call, again and again."""


class SerialExecutor(Executor):
    """Run whatever is submitted at once, in this process, one after another."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Call the function; the future that comes back is done."""
        future: Future = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _Worker(NamedTuple):
    process: Any
    connection: Connection


class WorkerProcesses(Executor):
    """A number of processes on this machine, each with one thread.

    Use it as ``with WorkerProcesses(2) as workers:``. A worker that is killed, by the system when
    memory runs out for example, is replaced, and what it was doing is done again, three times in
    all. Workers end with the process that began them, however it ends. They are begun afresh
    (``spawn``): a script that uses them needs ``if __name__ == "__main__":`` around what it runs.

    :param num_workers: how many; as many as there are processors unless given.
    :raises ValueError: fewer than one.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        number = os.cpu_count() or 1 if num_workers is None else num_workers
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"num_workers must be a whole number of at least 1, got {number!r}.")
        self._context = multiprocessing.get_context("spawn")
        self._threads = ThreadPoolExecutor(number)
        self._own = threading.local()
        self._workers: list[_Worker] = []
        self._stopped = threading.Event()

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Have a worker call the function.

        :raises TypeError: it, or an argument, cannot be sent.
        """
        call = packed(_with_keywords, fn, args, kwargs)
        return self._threads.submit(self._run, call, self._stopped)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return [worker.process.pid for worker in self._workers if worker.process.is_alive()]

    def stop(self) -> None:
        """End all workers in the middle of what they do; what waits is cancelled."""
        stopped, self._stopped = self._stopped, threading.Event()
        stopped.set()
        for worker in list(self._workers):
            worker.process.terminate()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers when they have done what was submitted."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        if wait:
            self._close()
        else:
            threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        """End the workers when no thread asks anything of them any more."""
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def _run(self, call: bytes, stopped: threading.Event) -> Any:
        """In a thread: have the worker that belongs to it make the call."""
        code = None
        for _ in range(_TRIES):
            if stopped.is_set():
                raise WorkerDied("The workers were stopped.")
            worker = self._mine()
            try:
                worker.connection.send_bytes(call)
                answer = worker.connection.recv_bytes()
            except (EOFError, OSError):
                worker.process.join()
                code = worker.process.exitcode
                continue
            done, value = pickle.loads(answer)
            if done:
                return value
            raise value
        if stopped.is_set():
            raise WorkerDied("The workers were stopped.")
        why = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        raise WorkerDied(
            f"A worker process ended {why} in the middle of its work, {_TRIES} times. It may need "
            'more memory than there is; or the script lacks if __name__ == "__main__": around '
            "what it runs."
        )

    def _mine(self) -> _Worker:
        worker = getattr(self._own, "worker", None)
        if worker is None or not worker.process.is_alive():
            if worker is not None:
                self._workers.remove(worker)
            here, there = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            there.close()
            worker = _Worker(process, here)
            self._own.worker = worker
            self._workers.append(worker)
        return worker


def _with_keywords(function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _serve(connection: Connection) -> None:
    """What a worker does: call after call, until there are no more."""
    # Ctrl-C goes to all processes of a terminal; the one that began the workers decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            call = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(_answer(call))


def _answer(call: bytes) -> bytes:
    try:
        return pickle.dumps((True, called(call)))
    except BaseException as error:
        error.add_note(f"In the worker:\n{traceback.format_exc()}")
        try:
            answer = pickle.dumps((False, error))
            pickle.loads(answer)
        except Exception:  # an exception of a class that cannot be sent
            answer = pickle.dumps((False, RuntimeError(traceback.format_exc())))
        return answer


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
