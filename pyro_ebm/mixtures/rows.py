"""Data of a mixture: rows of numbers that are there, and vary."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_numbers(data: Any) -> Tensor:
    """A tensor of what is one or makes one: an array, a table or a column of pandas.

    :raises TypeError: anything else.
    """
    values = np.array(data.to_numpy()) if hasattr(data, "to_numpy") else data
    try:
        return torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected data of numbers, got {type(data).__name__}: {error}") from error


def as_rows(data: Any) -> Tensor:
    """The data as [n, d], in their own floating type.

    :param data: [n] or [n, d]: a tensor, or what makes one.
    :raises ValueError: another shape, fewer than two rows, missing or infinite numbers, a column
        without variance.
    """
    rows = as_numbers(data)
    if rows.dtype == torch.bool or rows.is_complex():
        raise ValueError(f"expected data of real numbers, got {rows.dtype}.")
    if not rows.is_floating_point():
        rows = rows.to(torch.get_default_dtype())
    if rows.dim() not in (1, 2) or (rows.dim() == 2 and rows.shape[1] == 0):
        raise ValueError(
            f"expected data of shape [n] or [n, d], a row a point, got {tuple(rows.shape)}."
        )
    rows = rows[:, None] if rows.dim() == 1 else rows
    if len(rows) < 2:
        raise ValueError(f"expected at least two points, got {len(rows)}.")
    finite = rows.isfinite()
    if not bool(finite.all()):
        count = int((~finite.all(1)).sum())
        raise ValueError(
            f"expected finite data, got NaN or infinity in {count} of {len(rows)} rows. Leave "
            "these out, or fill them in."
        )
    constant = (rows == rows[:1]).all(0)
    if bool(constant.any()):
        raise ValueError(
            f"expected data that vary, got the same number in all {len(rows)} rows of column "
            f"{int(constant.nonzero()[0])}. Leave it out."
        )
    return rows
