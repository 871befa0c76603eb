"""Tables: data frames, arrays and tensors taken apart into columns, and put together again.

A column is an array of NumPy of one kind; what is missing is NaN in it, or None among objects.
Whatever is put together has the form of what was taken apart: categories stay categories, objects
stay objects, and a value that was there stays the value that it was.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


class Form(NamedTuple):
    """``event_shape`` is that of a row, ``names`` those of the columns of a data frame, and
    ``dtypes`` their types, or that of an array once for each column."""

    event_shape: tuple[int, ...]
    names: tuple[Any, ...] | None
    dtypes: tuple[Any, ...]


def split_columns(data: Any) -> tuple[list[np.ndarray], Form]:
    """The columns of a table or of images, and their form.

    :raises TypeError: no table, or one with times.
    :raises ValueError: no rows, no columns, or two columns of one name.
    """
    names: tuple[Any, ...] | None = None
    if _is_frame(data):
        names, dtypes = tuple(data.columns), tuple(data.dtypes)
        if not data.columns.is_unique:
            twice = data.columns[data.columns.duplicated()][0]
            raise ValueError(
                f"expected columns with names of their own, got {twice!r} more than once. Rename "
                "one of them."
            )
        columns = [_plain(data.iloc[:, place]) for place in range(len(names))]
        shape: tuple[int, ...] = (len(data), len(names))
    else:
        array = _array(data)
        shape = array.shape
        if len(shape) < 2:
            raise ValueError(
                f"expected rows [n, columns] or images [n, *event], got shape {shape}. Reshape "
                "your data: X.reshape(-1, 1) is one column."
            )
        flat = array.reshape(len(array), -1)
        columns = [flat[:, place] for place in range(flat.shape[1])]
        dtypes = (array.dtype,) * len(columns)
    if not shape[0] or not columns:
        raise ValueError(
            f"expected at least one row and one column, got shape {shape}: 0 sample(s) or 0 "
            "feature(s) while a minimum of 1 is required."
        )
    for place, (column, dtype) in enumerate(zip(columns, dtypes, strict=True)):
        _refuse_times(column, dtype, place if names is None else names[place])
    return columns, Form(tuple(shape[1:]), names, dtypes)


def joined_columns(columns: Sequence[np.ndarray], form: Form) -> Any:
    """Columns as a table of this form, an array [n, *event] or a data frame."""
    if form.names is not None:
        import pandas as pd

        return pd.DataFrame(
            {
                name: pd.Series(column, dtype=dtype if _holds(dtype, column) else None)
                for name, column, dtype in zip(form.names, columns, form.dtypes, strict=True)
            }
        )
    return _stacked(columns, form).reshape(-1, *form.event_shape)


def filled_columns(data: Any, values: Mapping[int, np.ndarray]) -> Any:
    """The same table with values in the place of what is missing, and nothing else changed.

    :param values: of each column in which something is missing, [n]; looked at where it is.
    """
    columns, form = split_columns(data)
    if form.names is None:
        done = [
            _filled(column, values[place]) if place in values else column
            for place, column in enumerate(columns)
        ]
        return _stacked(done, form).reshape(-1, *form.event_shape)
    found = data.copy()
    for place, filling in values.items():
        gone = missing(columns[place])
        found.isetitem(place, _filled_series(data.iloc[:, place], gone, filling[gone]))
    return found


def missing(column: np.ndarray) -> np.ndarray:
    """Where a column has no value."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind == "O":
        return np.array([_is_missing(value) for value in column], dtype=bool)
    return np.zeros(len(column), dtype=bool)


def array_of(values: Sequence[Any]) -> np.ndarray:
    """Values as an array; of objects where they are of several types, which NumPy would turn into
    one."""
    if len({type(value) for value in values}) == 1:
        return np.array(values)
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _is_frame(data: Any) -> bool:
    return hasattr(data, "iloc") and hasattr(data, "columns")


def _array(data: Any) -> np.ndarray:
    if isinstance(data, Tensor):
        data = data.detach().cpu().numpy()
    if hasattr(data, "toarray"):
        raise TypeError("expected a dense table, got a sparse matrix. Write X.toarray().")
    array = np.asarray(data)
    if array.dtype.kind == "c":
        raise ValueError("expected real numbers: Complex data not supported.")
    return array


def _plain(series: Any) -> np.ndarray:
    """A column of a data frame."""
    values = series.astype(object) if str(series.dtype) == "category" else series
    if getattr(values.dtype, "kind", "O") in "fiub" and not hasattr(values.array, "_mask"):
        return values.to_numpy()
    objects = values.to_numpy(dtype=object)
    gone = np.asarray(series.isna())
    if all(isinstance(v, int | float | np.number) for v in objects[~gone]) and str(
        series.dtype
    ) not in ("category", "bool", "boolean", "object"):
        return np.where(gone, np.nan, objects).astype(np.float64)
    return np.array(
        [None if lost else value for lost, value in zip(gone, objects, strict=True)],
        dtype=object,
    )


def _refuse_times(column: np.ndarray, dtype: Any, name: Any) -> None:
    """Refuse a column of dates, times or spans of time."""
    times = datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64
    kind = getattr(dtype, "kind", "O")
    if kind in "mM" or (
        column.dtype.kind == "O" and any(isinstance(value, times) for value in column)
    ):
        raise TypeError(
            f"expected numbers, names or booleans in column {name!r}, got times ({dtype}). Turn "
            "them into numbers, such as days since the first of them, or hours of the day."
        )


def _holds(dtype: Any, column: np.ndarray) -> bool:
    """Whether a type of a data frame takes all values of a column as they are."""
    kind, given = getattr(dtype, "kind", "O"), column.dtype.kind
    if kind in "iu":
        return given in "iu" or (given == "f" and bool((column % 1 == 0).all()))
    if kind == "b":
        return given == "b" or (given == "O" and all(isinstance(each, bool) for each in column))
    return kind != "f" or given in "fiub"


def _filled(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    gone = missing(column)
    fits = column.dtype.kind == "O" or (column.dtype.kind == "f" and values.dtype.kind in "fiub")
    found = column.copy() if fits else column.astype(object)
    # Python's own numbers and strings, where there is no type in common.
    found[gone] = values[gone].tolist() if found.dtype.kind == "O" else values[gone]
    return found


def _filled_series(series: Any, gone: np.ndarray, values: np.ndarray) -> Any:
    dtype = series.dtype
    if hasattr(dtype, "categories"):
        new = [each for each in dict.fromkeys(values.tolist()) if each not in dtype.categories]
        found = series.cat.add_categories(new)
    elif _holds(dtype, values):
        found = series.copy()
        values = values.astype(np.float64) if getattr(dtype, "kind", "O") == "f" else values
    else:
        number = values.dtype.kind == "f" and getattr(dtype, "kind", "O") in "iu"
        found = series.astype("Float64" if number else object)
    found.iloc[gone] = values.tolist()
    return found


def _stacked(columns: Sequence[np.ndarray], form: Form) -> np.ndarray:
    """Columns [n, columns]: of objects where they were, or where they have no type in common."""
    named = [column.dtype.kind in "OSU" for column in columns]
    if form.dtypes[0].kind == "O" or (any(named) and not all(named)):
        return np.stack([column.astype(object) for column in columns], 1)
    return np.stack(columns, 1)
