"""Data as people hold them, as one tensor of numbers: tensors, arrays, tables of pandas, lists.

Numbers stay in the type that they have; those of lists, which have none, are in torch's default.
What a table lacks, None or pandas' NA, is NaN.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@runtime_checkable
class Table(Protocol):
    """A table or a column of pandas, or of what is like it."""

    def to_numpy(self) -> Any: ...


def as_numbers(name: str, data: object) -> Tensor:
    """A tensor without gradient of what is one or makes one.

    :param name: what to call the data in an error.
    :raises TypeError: data that are no real numbers.
    :raises ValueError: lists of unequal lengths.
    """
    if not isinstance(data, Tensor):
        data = torch.as_tensor(_array(name, data))
    if data.is_complex():
        raise TypeError(f"expected {name} of real numbers, got {data.dtype}. Take the real part.")
    return data.detach()


def _array(name: str, data: object) -> np.ndarray:
    if isinstance(data, list | tuple):
        try:
            found = np.array(data)
        except ValueError as error:
            raise ValueError(
                f"expected {name} of rows of one length, got lists of several. Fill them up."
            ) from error
        if found.dtype == np.float64:  # numbers of Python are of no size of their own
            found = torch.as_tensor(found).to(torch.get_default_dtype()).numpy()
    elif isinstance(data, Table):
        found = np.asarray(data.to_numpy())
    elif hasattr(data, "__array__"):
        found = np.asarray(data)
    else:
        raise _refused(name, type(data).__name__)
    if found.dtype.kind == "O":
        found = _numbers(name, found)
    if found.dtype.kind not in "biufc":
        raise _refused(name, found.dtype)
    # A copy: arrays may be read-only, or in an order of bytes that torch does not know.
    return np.array(found, found.dtype.newbyteorder("="), order="C")


def _numbers(name: str, objects: np.ndarray) -> np.ndarray:
    """Objects as numbers."""
    values = []
    for value in objects.flat:
        if value is None or type(value).__name__ == "NAType":
            values.append(math.nan)
        elif isinstance(value, Real | np.bool_):
            values.append(float(value))
        else:
            raise _refused(name, repr(value))
    return np.array(values).reshape(objects.shape)


def _refused(name: str, got: object) -> TypeError:
    return TypeError(
        f"expected {name} to be a tensor, a numpy array, a data frame or lists of real numbers, "
        f"got {got}. Turn labels into numbers, or leave them out."
    )
