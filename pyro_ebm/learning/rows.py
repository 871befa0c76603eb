"""Data for learning: rows that are held out, and batches of the others.

Batches of a tensor are drawn without replacement, epoch by epoch, all of one size, so that whatever
is recorded for a batch is recorded once. A DataLoader is gone through again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pyro_ebm.numeric import Table, as_numbers

# Rows held out, at most: more say little more of a mean.
_MOST_HELD_OUT = 10_000


class Split(NamedTuple):
    """Rows to learn from, a tensor or a DataLoader, and rows held out, None without."""

    training: Any
    held_out: Tensor | None


def as_tensor(name: str, rows: object) -> Tensor:
    """Rows [n, *event] as a tensor without gradient, in the dtype that they have.

    :param name: what to call them in an error.
    :raises TypeError: neither a tensor, an array, a data frame nor lists of real numbers.
    :raises ValueError: no row, or a number that is not finite.
    """
    value = as_numbers(name, rows)
    if value.dim() < 1 or not value.numel():
        raise ValueError(
            f"expected {name} [n, *event] with a row at least, got shape {tuple(value.shape)}."
        )
    finite = value.reshape(len(value), -1).isfinite().all(1)
    if not bool(finite.all()):
        raise ValueError(
            f"expected {name} of finite numbers, got {int((~finite).sum())} of {len(value)} rows "
            f"that are not, first row {int((~finite).nonzero()[0])}. Leave out rows with missing "
            "values, or fill them in."
        )
    return value


def flat(rows: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n size"]:
    """Rows flattened, in float64."""
    return rows.reshape(len(rows), -1).double()


def as_rows(data: Any, name: str = "data") -> Tensor:
    """Rows [n, *event] to learn from, in numbers with a fraction; those of a data frame, which are
    doubles whatever net they are for, in torch's default dtype.

    :param data: as :func:`as_tensor` takes it, or a TensorDataset.
    :raises TypeError, ValueError: as :func:`as_tensor`.
    """
    rows = as_tensor(name, data.tensors[0] if isinstance(data, TensorDataset) else data)
    kept = rows.is_floating_point() and not isinstance(data, Table)
    return rows if kept else rows.to(torch.get_default_dtype())


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
    order = torch.randperm(len(training), generator=generator, device=generator.device).to(
        training.device
    )
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
