"""How many threads a batch of evaluations is worth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from .target import Target

# Below this work per step a second thread costs more than it brings.
_NUMBERS_FOR_THREADS = 2**22


@contextlib.contextmanager
def worthwhile_threads(target: Target, batch: int) -> Iterator[int]:
    """One thread for small work on the CPU, where a second costs more than it brings."""
    before = torch.get_num_threads()
    small = target.numbers_per_run * batch < _NUMBERS_FOR_THREADS
    chosen = 1 if small and target.device.type == "cpu" else before
    torch.set_num_threads(chosen)
    try:
        yield chosen
    finally:
        torch.set_num_threads(before)
