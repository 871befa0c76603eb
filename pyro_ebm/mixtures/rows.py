"""Data of a mixture: rows of numbers that are there, and vary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_ebm.numeric import as_numbers


def as_rows(data: Any) -> Tensor:
    """The data as [n, d], in their own floating type.

    :param data: [n] or [n, d]: a tensor, or what makes one.
    :raises TypeError: no numbers.
    :raises ValueError: another shape, fewer than two rows, missing or infinite numbers, a column
        without variance.
    """
    rows = as_numbers("data", data)
    if rows.dtype == torch.bool:
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
