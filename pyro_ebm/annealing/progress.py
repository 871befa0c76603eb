"""A progress bar over the stages of an annealed run."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm

from .loop import Loop, S, plainly


class Stages:
    """A tqdm bar that says which stage a run is in; quiet off a terminal."""

    def __init__(self, *, disable: bool) -> None:
        # tqdm's None means: disabled unless the output is a terminal.
        self._bar: Any = tqdm(disable=True if disable else None, unit="temperature", leave=False)

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, stage: str) -> None:
        """Enter a stage."""
        self._bar.reset(total=0)
        self._bar.set_description(stage)

    def run(self, loop: Loop[S], /) -> S:
        """Run a loop, and tell how far it has come."""

        def step(state: S) -> S:
            state = loop.step(state)
            self._report(loop.number(state), loop.total)
            return state

        return plainly(loop._replace(step=step))

    def _report(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.n = done
        self._bar.refresh()
