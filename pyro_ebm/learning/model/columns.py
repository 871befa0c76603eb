"""Columns: tables and images as rows of numbers that an energy takes, and back.

A row has one coordinate a column, or a pixel: near a standard normal where the column is
continuous, the number of a state where it is binary or categorical. Missing values are NaN in both.
A column of a table that never changes is a point mass, which has no density: it has no coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .kinds import states_of_column, wanted_kinds
from .margins import Margins, normal_margins, plain_margins
from .table import Form, array_of, filled_columns, joined_columns, missing, split_columns

# Columns need so many rows for margins of their own.
_ROWS_FOR_MARGINS = 40
# Tables come from NumPy, and margins are made there.
_ON_CPU: dict = {"dtype": torch.float64, "device": "cpu"}


class Columns(NamedTuple):
    """What is known of the columns.

    ``levels`` has for each coordinate the states of its column as they were given, None for a
    continuous one; ``constants`` are the values of columns without a coordinate, by their places;
    ``form`` is that of the table.
    """

    levels: tuple[tuple[Any, ...] | None, ...]
    margins: Margins
    constants: Mapping[int, float]
    form: Form

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a row as given."""
        return self.form.event_shape

    @property
    def num_states(self) -> tuple[int, ...]:
        """How many states each coordinate has, 0 for a continuous one."""
        return tuple(0 if each is None else len(each) for each in self.levels)

    @property
    def continuous(self) -> list[int]:
        """The coordinates that are continuous."""
        return [i for i, each in enumerate(self.levels) if each is None]

    @property
    def _places(self) -> list[int]:
        """The column of each coordinate."""
        return [i for i in range(len(self.form.dtypes)) if i not in self.constants]

    def rows(self, data: Any) -> Float[Tensor, "n dim"]:
        """Rows of coordinates in the default dtype, NaN where a value is missing.

        :raises TypeError, ValueError: no table of these columns, or a state that was never seen.
        """
        columns = self._columns(data)
        found = torch.full((len(columns[0]), len(self.levels)), torch.nan, **_ON_CPU)
        for i, (levels, place) in enumerate(zip(self.levels, self._places, strict=True)):
            if levels is not None:
                found[:, i] = torch.from_numpy(_codes(columns[place], levels, place))
        if self.continuous:
            found[:, self.continuous] = self.margins.forward(self._values(columns))
        return found.to(torch.get_default_dtype())

    def log_slope(self, data: Any) -> Float[Tensor, " n"]:
        """log |dz/dx| of every row, which a density in the units of the data takes along."""
        columns = self._columns(data)
        if not self.continuous:
            return torch.zeros(len(columns[0]), **_ON_CPU)
        return self.margins.log_slope(self._values(columns)).sum(1)

    def off(self, data: Any) -> Bool[Tensor, " n"]:
        """Which rows have another value in a column that never changes."""
        columns = self._columns(data)
        found = np.zeros(len(columns[0]), dtype=bool)
        for place, constant in self.constants.items():
            column = columns[place].astype(np.float64)
            found |= (column != constant) & ~np.isnan(column)
        return torch.from_numpy(found)

    def table(self, rows: Float[Tensor, "n dim"]) -> Any:
        """Rows of coordinates as they were given: a data frame, or an array [n, *event]."""
        return joined_columns(self._taken_back(rows), self.form)

    def filled(self, data: Any, rows: Float[Tensor, "n dim"]) -> Any:
        """The table with what is missing taken from rows of coordinates, in its own form; whatever
        is there stays exactly what it is."""
        columns, values = self._columns(data), self._taken_back(rows)
        some = [place for place, column in enumerate(columns) if missing(column).any()]
        return filled_columns(data, {place: values[place] for place in some})

    def _taken_back(self, rows: Tensor) -> list[np.ndarray]:
        values = {at: np.full(len(rows), constant) for at, constant in self.constants.items()}
        moved = self.margins.inverse(rows[:, self.continuous].detach().double().cpu())
        numbers = iter(moved.T.numpy())
        for i, (levels, place) in enumerate(zip(self.levels, self._places, strict=True)):
            if levels is None:
                values[place] = next(numbers)
            else:
                values[place] = array_of(levels)[rows[:, i].long().cpu().numpy()]
        return [values[place] for place in range(len(values))]

    def _values(self, columns: Sequence[np.ndarray]) -> Tensor:
        return _numbers([columns[self._places[i]] for i in self.continuous], len(columns[0]))

    def _columns(self, data: Any) -> list[np.ndarray]:
        columns, (event, names, _) = split_columns(data)
        mine = self.form.names
        if event != self.event_shape or (names is not None and mine not in (None, names)):
            raise ValueError(
                f"expected rows of shape {self.event_shape} as in fit"
                f"{'' if mine is None else f' with columns {list(mine)}'}, got "
                f"{event}{'' if names is None else f' with columns {list(names)}'}."
            )
        return columns


def read_columns(data: Any, kinds: Any, *, margins: str, point_masses: bool) -> Columns:
    """What the columns of data are.

    :param kinds: "auto", one kind for all, one for each, or {column: kind} for some of them; kinds
        are "continuous", "binary" and "categorical".
    :param margins: "normal", "plain", or "auto": normal for tables with enough rows.
    :param point_masses: whether continuous columns of a table that never change have no coordinate,
        as long as there are others.
    """
    columns, form = split_columns(data)
    image, names = len(form.event_shape) > 1, form.names
    wanted = wanted_kinds(kinds, len(columns), names, image=image)
    levels = [
        states_of_column(
            column,
            wanted[place],
            place if names is None else names[place],
            dtype=form.dtypes[place],
            in_frame=names is not None,
        )
        for place, column in enumerate(columns)
    ]
    places = [place for place, each in enumerate(levels) if each is None]
    values = _numbers([columns[place] for place in places], len(columns[0]))
    still = _never_change(values)
    if point_masses and not image and int(still.sum()) < len(columns):
        constants = {
            place: float(column[~column.isnan()][0])
            for place, column, never in zip(places, values.T, still, strict=True)
            if never
        }
        values, still = values[:, ~still], still[~still]
    else:
        constants = {}
    return Columns(
        tuple(each for place, each in enumerate(levels) if place not in constants),
        _margins(values, margins, image=image, normal=not bool(still.any())),
        constants,
        form,
    )


def _margins(values: Tensor, wanted: str, *, image: bool, normal: bool) -> Margins:
    plain = plain_margins(values)
    if image and values.shape[1]:
        # Pixels have one unit: some of them never change.
        middle, spread = values.nanmean(), (values - values.nanmean()).square().nanmean().sqrt()
        spread = spread if float(spread) > 0.0 else torch.ones_like(spread)
        return plain._replace(
            center=middle.expand_as(plain.center), scale=spread.expand_as(plain.scale)
        )
    if not values.shape[1] or wanted == "plain":
        return plain
    fewest = int((~values.isnan()).sum(0).min())
    enough = normal and fewest >= _ROWS_FOR_MARGINS
    return normal_margins(values) if wanted == "normal" or enough else plain


def _never_change(values: Tensor) -> Bool[Tensor, " columns"]:
    """Which columns have one value only, NaN left out."""
    gone = values.isnan()
    low, high = values.masked_fill(gone, torch.inf), values.masked_fill(gone, -torch.inf)
    return low.amin(0) == high.amax(0)


def _numbers(columns: Sequence[np.ndarray], number: int) -> Float[Tensor, "n columns"]:
    values = torch.zeros(number, len(columns), **_ON_CPU)
    for place, column in enumerate(columns):
        values[:, place] = torch.from_numpy(column.astype(np.float64))
    if bool(values.isinf().any()):
        raise ValueError(
            "expected finite numbers, or NaN where a value is missing, got infinity. Replace "
            "it by a number or NaN."
        )
    return values


def _codes(column: np.ndarray, levels: tuple[Any, ...], place: int) -> np.ndarray:
    """The number of the state of each value, NaN where it is missing."""
    places = {value: code for code, value in enumerate(levels)}
    try:
        return np.array(
            [
                np.nan if gone else places[value]
                for gone, value in zip(missing(column), column.tolist(), strict=True)
            ],
            dtype=np.float64,
        )
    except KeyError as error:
        raise ValueError(
            f"expected one of the states {list(levels)} in column {place}, got {error.args[0]!r}. "
            "Leave the row out, or fit with rows that have it."
        ) from None
