"""Columns: tables and images as rows of numbers that an energy takes, and back.

A row has one coordinate a column, or a pixel: near a standard normal where the column is
continuous, the number of a state where it is binary or categorical. Missing values are NaN in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .margins import Margins, normal_margins, plain_margins

KINDS = ("continuous", "binary", "categorical")
# Whole numbers with so many different values at most are taken for states.
_MOST_STATES = 10
# Columns need so many rows for margins of their own.
_ROWS_FOR_MARGINS = 40
# Tables come from NumPy, and margins are made there.
_ON_CPU: dict = {"dtype": torch.float64, "device": "cpu"}


class Columns(NamedTuple):
    """What is known of the columns.

    ``levels`` has for each column its states as they were given, None for a continuous one;
    ``event_shape`` is that of a row as given, ``names`` those of a data frame.
    """

    levels: tuple[tuple[Any, ...] | None, ...]
    margins: Margins
    event_shape: tuple[int, ...]
    names: tuple[Any, ...] | None

    @property
    def num_states(self) -> tuple[int, ...]:
        """How many states each coordinate has, 0 for a continuous one."""
        return tuple(0 if each is None else len(each) for each in self.levels)

    @property
    def continuous(self) -> list[int]:
        """The places of continuous columns."""
        return [i for i, each in enumerate(self.levels) if each is None]

    def rows(self, data: Any) -> Float[Tensor, "n dim"]:
        """Rows of coordinates in the default dtype, NaN where a value is missing.

        :raises TypeError, ValueError: no table of these columns, or a state that was never seen.
        """
        columns = self._columns(data)
        found = torch.full((len(columns[0]), len(columns)), torch.nan, **_ON_CPU)
        for place, (levels, column) in enumerate(zip(self.levels, columns, strict=True)):
            if levels is not None:
                found[:, place] = torch.from_numpy(_codes(column, levels, place))
        if self.continuous:
            found[:, self.continuous] = self.margins.forward(self._values(columns))
        return found.to(torch.get_default_dtype())

    def log_slope(self, data: Any) -> Float[Tensor, " n"]:
        """log |dz/dx| of every row, which a density in the units of the data takes along."""
        columns = self._columns(data)
        if not self.continuous:
            return torch.zeros(len(columns[0]), **_ON_CPU)
        return self.margins.log_slope(self._values(columns)).sum(1)

    def table(self, rows: Float[Tensor, "n dim"]) -> Any:
        """Rows of coordinates as they were given: a data frame, or an array [n, *event]."""
        values: dict[int, np.ndarray] = {}
        if self.continuous:
            moved = self.margins.inverse(rows[:, self.continuous].detach().double().cpu())
            for place, column in enumerate(self.continuous):
                values[column] = moved[:, place].numpy()
        for place, levels in enumerate(self.levels):
            if levels is not None:
                codes = rows[:, place].long().cpu().numpy()
                values[place] = np.array(levels)[codes]
        ordered = [values[place] for place in range(len(self.levels))]
        if self.names is not None:
            import pandas as pd

            return pd.DataFrame(dict(zip(self.names, ordered, strict=True)))
        return np.stack(ordered, 1).reshape(len(rows), *self.event_shape)

    def _values(self, columns: Sequence[np.ndarray]) -> Tensor:
        picked = [np.asarray(columns[place], dtype=np.float64) for place in self.continuous]
        values = torch.from_numpy(np.stack(picked, 1))
        if bool(values.isinf().any()):
            raise ValueError(
                "expected finite numbers, or NaN where a value is missing, got infinity. Replace "
                "it by a number or NaN."
            )
        return values

    def _columns(self, data: Any) -> list[np.ndarray]:
        columns, event, names = split_columns(data)
        if event != self.event_shape or (names is not None and self.names not in (None, names)):
            raise ValueError(
                f"expected rows of shape {self.event_shape} as in fit"
                f"{'' if self.names is None else f' with columns {list(self.names)}'}, got "
                f"{event}{'' if names is None else f' with columns {list(names)}'}."
            )
        return columns


def read_columns(data: Any, kinds: Any, *, margins: str) -> Columns:
    """What the columns of data are.

    :param kinds: "auto", one kind for all, one for each, or {column: kind} for some of them; kinds
        are "continuous", "binary" and "categorical".
    :param margins: "normal", "plain", or "auto": normal for tables with enough rows.
    """
    columns, event, names = split_columns(data)
    image = len(event) > 1
    wanted = _wanted(kinds, len(columns), names, image=image)
    levels = tuple(
        _levels(column, kind, place)
        for place, (column, kind) in enumerate(zip(columns, wanted, strict=True))
    )
    continuous = [place for place, each in enumerate(levels) if each is None]
    if continuous:
        numbers = [np.asarray(columns[place], dtype=np.float64) for place in continuous]
        values = torch.from_numpy(np.stack(numbers, 1))
        if bool(values.isinf().any()):
            raise ValueError(
                "expected finite numbers, or NaN where a value is missing, got infinity. Replace "
                "it by a number or NaN."
            )
        empty = values.isnan().all(0)
        if bool(empty.any()):
            at = continuous[int(empty.nonzero()[0])]
            raise ValueError(f"expected a value in every column, got none in column {at}.")
    else:
        values = torch.zeros(len(columns[0]), 0, **_ON_CPU)
    if image and continuous:
        # Pixels have one unit: some of them never change.
        middle, spread = values.nanmean(), (values - values.nanmean()).square().nanmean().sqrt()
        plain = plain_margins(values)
        spread = spread if float(spread) > 0.0 else torch.ones_like(spread)
        found: Margins = plain._replace(
            center=middle.expand_as(plain.center), scale=spread.expand_as(plain.scale)
        )
    else:
        fewest = int((~values.isnan()).sum(0).min()) if continuous else 0
        constant = bool((plain_margins(values).scale == 1.0).any()) if continuous else True
        normal = fewest >= _ROWS_FOR_MARGINS and not constant
        if margins == "normal" or (margins == "auto" and normal):
            found = normal_margins(values)
        else:
            found = plain_margins(values)
    return Columns(levels, found, event, names)


def split_columns(data: Any) -> tuple[list[np.ndarray], tuple[int, ...], tuple[Any, ...] | None]:
    """The columns of a table or of images, the shape of a row, and the names of a data frame.

    :raises TypeError: no table.
    :raises ValueError: no rows, or no columns.
    """
    names: tuple[Any, ...] | None = None
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        names = tuple(data.columns)
        columns = [_plain(data.iloc[:, place]) for place in range(len(names))]
        shape: tuple[int, ...] = (len(data), len(names))
    else:
        if isinstance(data, Tensor):
            data = data.detach().cpu().numpy()
        if hasattr(data, "toarray"):
            raise TypeError("expected a dense table, got a sparse matrix. Write X.toarray().")
        array = np.asarray(data)
        if array.dtype.kind == "c":
            raise ValueError("expected real numbers: Complex data not supported.")
        shape = array.shape
        if len(shape) < 2:
            raise ValueError(
                f"expected rows [n, columns] or images [n, *event], got shape {shape}. Reshape "
                "your data: X.reshape(-1, 1) is one column."
            )
        flat = array.reshape(len(array), -1)
        columns = [flat[:, place] for place in range(flat.shape[1])]
    if not shape[0] or not columns:
        raise ValueError(
            f"expected at least one row and one column, got shape {shape}: 0 sample(s) or 0 "
            "feature(s) while a minimum of 1 is required."
        )
    return columns, tuple(shape[1:]), names


def _plain(series: Any) -> np.ndarray:
    """A column of a data frame; what is missing is NaN, or None among objects."""
    values = series.astype(object) if str(series.dtype) == "category" else series
    if getattr(values.dtype, "kind", "O") in "fiub" and not hasattr(values.array, "_mask"):
        return values.to_numpy()
    objects = values.to_numpy(dtype=object)
    missing = np.asarray(series.isna())
    if all(isinstance(v, int | float | np.number) for v in objects[~missing]) and str(
        series.dtype
    ) not in ("category", "bool", "boolean", "object"):
        return np.where(missing, np.nan, objects).astype(np.float64)
    return np.array(
        [None if gone else value for gone, value in zip(missing, objects, strict=True)],
        dtype=object,
    )


def _missing(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind == "O":
        return np.array([value is None or value != value for value in column])
    return np.zeros(len(column), dtype=bool)


def _wanted(kinds: Any, number: int, names: Any, *, image: bool) -> list[str]:
    if isinstance(kinds, str):
        found = ["continuous" if image and kinds == "auto" else kinds] * number
    elif isinstance(kinds, Mapping):
        places = {name: i for i, name in enumerate(names or range(number))}
        found = ["auto"] * number
        for name, kind in kinds.items():
            if name not in places:
                raise ValueError(f"expected columns among {list(places)}, got {name!r}.")
            found[places[name]] = kind
    else:
        found = list(kinds)
    if len(found) != number or not all(each in (*KINDS, "auto") for each in found):
        raise ValueError(
            f'expected columns to be "auto", one of {KINDS}, one of these for each of {number} '
            f"columns, or a mapping, got {kinds!r}."
        )
    return found


def _levels(column: np.ndarray, kind: str, place: int) -> tuple[Any, ...] | None:
    """The states of a column, None of a continuous one."""
    kept = column[~_missing(column)]
    if kind == "continuous":
        if column.dtype.kind not in "fiub":
            try:
                column.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"expected numbers in column {place}, which is continuous, got {column.dtype}."
                ) from error
        return None
    if kind == "auto" and _looks_continuous(column, kept):
        return None
    found = tuple(sorted(set(kept.tolist())))
    if kind == "binary" and len(found) > 2:
        raise ValueError(
            f"expected two states in column {place}, which is binary, got {len(found)}. Call it "
            '"categorical" or "continuous".'
        )
    if not found:
        raise ValueError(f"expected a value in every column, got none in column {place}.")
    return found


def _looks_continuous(column: np.ndarray, kept: np.ndarray) -> bool:
    if column.dtype.kind == "f":
        return set(np.unique(kept)) != {0.0, 1.0}
    if column.dtype.kind in "iu":
        return len(np.unique(kept)) > _MOST_STATES
    return column.dtype.kind == "O" and all(isinstance(value, float) for value in kept)


def _codes(column: np.ndarray, levels: tuple[Any, ...], place: int) -> np.ndarray:
    """The number of the state of each value, NaN where it is missing."""
    missing = _missing(column)
    places = {value: code for code, value in enumerate(levels)}
    try:
        return np.array(
            [
                np.nan if gone else places[value]
                for gone, value in zip(missing, column.tolist(), strict=True)
            ],
            dtype=np.float64,
        )
    except KeyError as error:
        raise ValueError(
            f"expected one of the states {list(levels)} in column {place}, got {error.args[0]!r}. "
            "Leave the row out, or fit with rows that have it."
        ) from None
