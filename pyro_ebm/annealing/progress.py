"""The stages of an annealed run: a progress bar over them, and what is kept of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from tqdm.auto import tqdm

from pyro_ebm.shards import run_all

from .log_z import LogZ
from .loop import Loop, S, plainly
from .store import Store

T = TypeVar("T")
Arrays = dict[str, np.ndarray]


class Stages:
    """Runs the loops of a run, under a tqdm bar that says which stage it is in.

    :param disable: no bar; there is none anyway off a terminal.
    :param store: the folder in which every loop is kept.
    """

    def __init__(self, *, disable: bool, store: Store | None = None) -> None:
        # tqdm's None means: disabled unless the output is a terminal.
        self._bar: Any = tqdm(disable=True if disable else None, unit="temperature", leave=False)
        self._store, self._stage = store, ""

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def are_kept(self) -> bool:
        """Whether there is a folder."""
        return self._store is not None

    def begin(self, stage: str) -> None:
        """Enter a stage."""
        self._stage = stage
        self._bar.reset(total=0)
        self._bar.set_description(stage)

    def run(self, loop: Loop[S], /) -> S:
        """Run a loop, from where it was left, and tell how far it has come.

        :raises OSError: the disk is full.
        """
        if self._store is not None:
            loop = self._store.journal.kept(self._stage, loop)

        def step(state: S) -> S:
            state = loop.step(state)
            self._report(loop.number(state), loop.total)
            return state

        return plainly(replace(loop, step=step))

    def run_shards(
        self, executor: Executor, function: Callable[[T], Arrays], jobs: Mapping[str, T]
    ) -> tuple[list[Arrays], bool]:
        """Run a function for every job, and keep what it gives by the name of the job.

        :returns: also whether all have ended; interrupted, there are those that had.
        :raises Exception: what the first of those that failed has raised.
        """
        journal = None if self._store is None else self._store.journal
        found: dict[int, Arrays] = {}
        names = [*jobs]

        def ended(index: int, arrays: Arrays) -> None:
            found[index] = arrays
            if journal is not None:
                journal.write_shard(names[index], arrays)

        missing = {}
        for index, (name, job) in enumerate(jobs.items()):
            kept = None if journal is None else journal.read_shard(name)
            if kept is None:
                missing[index] = job
            else:
                found[index] = kept
        done = run_all(
            executor,
            function,
            missing,
            ended,
            total=len(jobs),
            disable_progbar=bool(self._bar.disable),
        )
        if done.errors:
            first = min(done.errors)
            numbers = ", ".join(str(index) for index in sorted(done.errors)[:10])
            done.errors[first].add_note(f"Failed of {len(jobs)} shards: {numbers}.")
            raise done.errors[first]
        return [found[index] for index in sorted(found)], not done.interrupted

    def so_far(self, estimate: Callable[[], LogZ]) -> None:
        """Write what there is to read by now; but not where a run taken up was further already.

        :raises OSError: the disk is full.
        """
        if self._store is not None and not self._store.journal.knows_next:
            self._store.write(estimate())

    def _report(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.n = done
        self._bar.refresh()
