"""The progress bar of a run: where it stands, and the first signs of trouble."""

from __future__ import annotations

import time
from typing import Any

import torch
from tqdm.auto import tqdm

from pyro_ebm.diagnostics import split_rhat

from ..run import Progress

_SECONDS_BETWEEN_RHATS = 2.0
_COORDINATES_SHOWN = 20
# Counting divergences takes a look at every draw.
_SECONDS_BETWEEN_LOOKS = 0.2


class ProgressBar:
    """A tqdm bar with draws, step size, divergences and the worst R-hat; quiet off a terminal."""

    def __init__(self, *, disable: bool) -> None:
        # tqdm's None means: disabled unless the output is a terminal.
        self._bar: Any = tqdm(disable=True if disable else None, unit="draw", leave=True)
        self._stage = ""
        self._next_look = self._next_rhat = 0.0
        self._rhat = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, progress: Progress) -> None:
        """Move the bar to where the slowest chain stands."""
        now = time.monotonic()
        whole = progress.done >= progress.total
        if self._bar.disable or (now < self._next_look and not whole):
            return
        self._next_look = now + _SECONDS_BETWEEN_LOOKS
        if progress.stage != self._stage:
            self._stage = progress.stage
            self._bar.reset(total=progress.total)
            self._bar.set_description(progress.stage)
        self._bar.n = progress.done
        fields = f"step size {progress.step_size:.3g}"
        if progress.stage == "sample":
            divergences = int(progress.draws.statistics["diverging"].sum())
            fields += f", divergences {divergences}{self._worst_rhat(progress)}"
        self._bar.set_postfix_str(fields)

    def _worst_rhat(self, progress: Progress) -> str:
        now = time.monotonic()
        if now >= self._next_rhat and progress.draws.complete >= 8:
            self._next_rhat = now + _SECONDS_BETWEEN_RHATS
            draws = progress.draws.positions[:, :_COORDINATES_SHOWN].permute(2, 0, 1)
            rhat = torch.as_tensor(split_rhat(draws.double().cpu().numpy()))
            self._rhat = f", worst R-hat {float(rhat.max()):.3f}"
        return self._rhat
