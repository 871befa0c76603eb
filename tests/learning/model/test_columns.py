"""Columns: what kind each is, and which are refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ebm.learning.model.columns import read_columns
from pyro_ebm.learning.model.margins import NormalMargins


def _levels(data, kinds="auto"):
    return read_columns(data, kinds, margins="auto", point_masses=True).levels


def test_standardised_columns_are_not_taken_for_constant_ones():
    rows = np.random.RandomState(0).gamma(2.0, size=(200, 3))
    for _ in range(3):
        rows = (rows - rows.mean(0)) / rows.std(0)
        found = read_columns(rows, "auto", margins="auto", point_masses=True)
        assert isinstance(found.margins, NormalMargins)


def test_whole_numbers_of_a_data_frame_are_states_though_some_are_missing():
    table = pd.DataFrame(
        {
            "floats": [0.0, 1.0, 2.0, np.nan] * 10,
            "nullable": pd.array([1, 2, None, 2] * 10, dtype="Int64"),
            "nullable whole": pd.array([1, 2, 3, 2] * 10, dtype="Int64"),
            "boolean": pd.array([True, None, False, True] * 10, dtype="boolean"),
            "objects": pd.Series([True, None, False, True] * 10, dtype=object),
            "fractions": [0.5, 1.0, 2.0, np.nan] * 10,
            "many": [*range(39), np.nan],
        }
    )
    assert _levels(table) == (
        (0, 1, 2),
        (1, 2),
        (1, 2, 3),
        (False, True),
        (False, True),
        None,
        None,
    )


def test_arrays_of_floats_are_continuous_but_for_zeros_and_ones():
    whole = np.array([[0.0, 0.0, 3.0], [1.0, 1.0, np.nan], [2.0, 0.0, 5.0]])
    assert _levels(whole) == (None, (0.0, 1.0), None)
    assert _levels(whole[:, :2].astype(int)) == ((0, 1, 2), (0, 1))


def test_objects_that_are_numbers_are_judged_as_numbers():
    rows = np.array([[0.5 * i, i, i % 3, "ab"[i % 2]] for i in range(30)], dtype=object)
    assert _levels(rows) == (None, None, (0, 1, 2), ("a", "b"))


def test_states_of_several_types_have_an_order():
    assert _levels(pd.DataFrame({"a": ["x", 1, 2.5, None] * 10})) == ((2.5, 1, "x"),)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (pd.DataFrame({"a": pd.date_range("2020", periods=30)}), TypeError, "Turn them into"),
        (pd.DataFrame({"a": pd.timedelta_range("1h", periods=30)}), TypeError, "got times"),
        (np.array([["2020-01-01"], ["2020-01-02"]], dtype="M8[D]"), TypeError, "got times"),
        (
            pd.DataFrame({"a": pd.date_range("2020", periods=30).date}),
            TypeError,
            "in column 'a', got times",
        ),
        (pd.DataFrame({"a": [f"id{i}" for i in range(30)]}), ValueError, "an identifier"),
        (np.array([[f"id{i}", "x"] for i in range(30)]), ValueError, "an identifier"),
        (pd.DataFrame(np.eye(30)[:, :2], columns=["a", "a"]), ValueError, "more than once"),
        (pd.DataFrame({"a": [np.nan, np.nan]}), ValueError, "a value in every column"),
    ],
)
def test_columns_that_say_nothing_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        _levels(table)


def test_identifiers_that_are_called_states_are_taken():
    table = pd.DataFrame({"a": [f"id{i:02}" for i in range(30)]})
    assert _levels(table, {"a": "categorical"}) == (tuple(table.a),)
    assert _levels(table[:19]) == (tuple(table.a[:19]),)


def test_coordinates_are_taken_back_to_what_they_came_from():
    rows = np.array([[0.5 * i, 7.0, i % 3, "ab"[i % 2]] for i in range(30)], dtype=object)
    columns = read_columns(rows, "auto", margins="auto", point_masses=True)
    assert columns.constants == {1: 7.0}
    moved = columns.rows(rows)
    assert moved.shape == (30, 3)
    again = columns.table(moved.to(torch.float64))
    assert again.dtype == object
    assert (again[:, 1:] == rows[:, 1:]).all()
    assert np.allclose(again[:, 0].astype(float), rows[:, 0].astype(float), atol=1e-5)
