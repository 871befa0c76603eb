"""Data for learning: rows that are held out, and batches of the others.

Batches of a tensor are drawn without replacement, epoch by epoch, all of one size, so that whatever
is recorded for a batch is recorded once. A DataLoader is gone through again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

# Rows held out, at most: more say little more of a mean.
_MOST_HELD_OUT = 10_000


class Split(NamedTuple):
    """Rows to learn from, a tensor or a DataLoader, and rows held out, None without."""

    training: Any
    held_out: Tensor | None


def as_rows(data: Any, name: str = "data") -> Tensor:
    """Rows [n, *event] as a tensor of floating-point numbers, checked.

    :raises TypeError: no tensor, array or TensorDataset.
    :raises ValueError: no rows, or values that are not finite.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors[0]
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(np.ascontiguousarray(data))
    if not isinstance(data, Tensor):
        raise TypeError(
            f"expected {name} to be a tensor or array [n, *event], a TensorDataset or a "
            f"DataLoader, got {type(data).__name__}."
        )
    if data.dim() == 0 or len(data) < 1:
        raise ValueError(f"expected {name} with at least one row, got shape {tuple(data.shape)}.")
    if not data.is_floating_point():
        data = data.to(torch.get_default_dtype())
    if not bool(data.isfinite().all()):
        rows = int((~data.isfinite().reshape(len(data), -1).all(1)).sum())
        raise ValueError(
            f"expected finite numbers in {name}, got NaN or infinity in {rows} of {len(data)} "
            "rows. Drop these rows, or fill them in."
        )
    return data.detach()


def split_rows(data: Any, held_out: Any, generator: torch.Generator) -> Split:
    """Hold rows out.

    :param held_out: a share of the rows, drawn at random (none of a DataLoader, which cannot be
        split); rows of their own; or None.
    :raises TypeError, ValueError: rows that are none, or a share that leaves nothing.
    """
    share = held_out if isinstance(held_out, float | int) else None
    if isinstance(held_out, bool) or (share is not None and not 0.0 <= share < 1.0):
        raise ValueError(f"held_out must be a share in [0, 1), or rows, got {held_out}.")
    rows = None if held_out is None or share is not None else as_rows(held_out, "held_out")
    if isinstance(data, DataLoader):
        return Split(data, rows)
    training = as_rows(data)
    number = min(round((share or 0.0) * len(training)), _MOST_HELD_OUT)
    if number == 0:
        return Split(training, rows)
    if number >= len(training):
        raise ValueError(f"held_out={share} leaves none of {len(training)} rows to learn from.")
    order = torch.randperm(len(training), generator=generator).to(training.device)
    return Split(training[order[number:]], training[order[:number]])


def batches(data: Any, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches without end.

    :raises ValueError: a DataLoader without batches.
    """
    if isinstance(data, DataLoader):
        while True:
            empty = True
            for batch in data:
                empty = False
                yield as_rows(batch[0] if isinstance(batch, list | tuple) else batch)
            if empty:
                raise ValueError("expected a DataLoader with batches, got an empty one.")
    size = min(batch_size, len(data))
    while True:
        order = torch.randperm(len(data), generator=generator, device=generator.device)
        for first in range(0, len(data) - size + 1, size):
            yield data[order[first : first + size].to(data.device)]
