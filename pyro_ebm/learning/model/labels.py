"""Labels: classes by name, and their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from .table import missing


def read_labels(y: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes in order, and which of them each of so many rows is of.

    :raises ValueError: labels that are missing, that are no classes, or of one class only.
    """
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.shape != (number,):
        raise ValueError(f"expected one label for each of {number} rows, got shape {labels.shape}.")
    gone = missing(labels)
    if gone.any():
        raise ValueError(
            f"expected a label for each row, got y that contains NaN or None {int(gone.sum())} "
            "times: Input y contains NaN. Leave these rows out, or learn without labels: fit(X)."
        )
    if labels.dtype.kind == "O" and all(isinstance(each, float | int) for each in labels):
        labels = np.array(labels.tolist())
    if labels.dtype.kind == "c" or (labels.dtype.kind == "f" and (labels % 1 != 0).any()):
        raise ValueError(
            "expected y to be labels of classes, got numbers with a fraction: Unknown label type: "
            "continuous. To learn a number along with the rest make it a column of X."
        )
    try:
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(each).__name__ for each in labels})
        raise ValueError(
            f"expected labels of one type, got {' and '.join(kinds)}. Write them all as strings, "
            "or all as whole numbers."
        ) from error
    if len(classes) < 2:
        raise ValueError(f"expected at least two labels, got {classes.tolist()}.")
    return classes, codes
