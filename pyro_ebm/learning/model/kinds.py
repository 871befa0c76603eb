"""Kinds: which columns are continuous, and the states of those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .table import missing

KINDS = ("continuous", "binary", "categorical")
# Whole numbers with so many different values at most are taken for states.
_MOST_STATES = 10
# So many names without one that comes twice are taken for identifiers.
_FEWEST_IDENTIFIERS = 20


def wanted_kinds(kinds: Any, number: int, names: Any, *, image: bool) -> list[str]:
    """The kind asked for, or "auto", of each column.

    :raises ValueError: there is no such kind or column.
    """
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


def states_of_column(
    column: np.ndarray, kind: str, name: Any, *, dtype: Any, in_frame: bool
) -> tuple[Any, ...] | None:
    """The states of a column in order, None of a continuous one.

    :param name: what to call it in an error.
    :param dtype: its type where it came from, a data frame or an array.
    :raises ValueError: it is not of this kind, or of none.
    """
    kept = column[~missing(column)]
    if not len(kept):
        raise ValueError(f"expected a value in every column, got none in column {name!r}.")
    if kind == "continuous":
        if column.dtype.kind not in "fiub":
            try:
                column.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"expected numbers in column {name!r}, which is continuous, got {dtype}."
                ) from error
        return None
    if kind == "auto":
        # What data frames make of whole numbers when some are missing.
        lost = len(kept) < len(column) and in_frame
        whole = getattr(dtype, "kind", "O") in "iu" or lost
        if _looks_continuous(kept, whole=whole):
            return None
    found = _ordered(set(kept.tolist()))
    if kind == "binary" and len(found) > 2:
        raise ValueError(
            f"expected two states in column {name!r}, which is binary, got {len(found)}. Call it "
            '"categorical" or "continuous".'
        )
    if kind == "auto" and len(found) == len(kept) >= _FEWEST_IDENTIFIERS:
        raise ValueError(
            f"expected names that come again in column {name!r}, got {len(kept)} that are all "
            f"different, such as {kept.tolist()[0]!r}: an identifier says nothing. Leave the "
            "column out, turn it into numbers if it holds such, or give "
            f'columns={{{name!r}: "categorical"}}.'
        )
    return found


def _looks_continuous(kept: np.ndarray, *, whole: bool) -> bool:
    if kept.dtype.kind == "O":
        numbers = all(isinstance(each, int | float | np.number) for each in kept)
        if not numbers or all(isinstance(each, bool) for each in kept):
            return False
        kept = np.array(kept.tolist())
    if kept.dtype.kind in "iu" or (kept.dtype.kind == "f" and whole and (kept % 1 == 0).all()):
        return len(np.unique(kept)) > _MOST_STATES
    return kept.dtype.kind == "f" and set(np.unique(kept)) != {0.0, 1.0}


def _ordered(values: set[Any]) -> tuple[Any, ...]:
    """In order; values of several types by the names of these first."""
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(sorted(values, key=lambda value: (type(value).__name__, value)))
