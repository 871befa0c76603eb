"""Numbers are the same whatever they come in."""

import numpy as np
import pandas
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.learning.evaluation.rows import flat_alike
from pyro_ebm.learning.rows import as_rows
from pyro_ebm.numeric import as_numbers

NUMBERS = [[1.5, 2.0], [0.25, -3.0], [4.0, 0.5]]


@pytest.mark.parametrize(
    "data",
    [
        torch.tensor(NUMBERS),
        torch.tensor(NUMBERS, requires_grad=True),
        np.array(NUMBERS, dtype=np.float32),
        np.array(NUMBERS, dtype=">f4"),
        np.asfortranarray(NUMBERS, dtype=np.float32)[::-1][::-1],
        pandas.DataFrame(NUMBERS, dtype="float32", index=[7, 8, 9], columns=["a", "b"]),
        NUMBERS,
        tuple(np.array(row) for row in NUMBERS),
    ],
    ids=["tensor", "leaf", "array", "big-endian", "strided", "frame", "lists", "arrays in a tuple"],
)
def test_numbers_are_the_same_whatever_they_come_in(data):
    found = as_numbers("data", data)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.tolist() == NUMBERS


def test_columns_of_several_kinds_are_joined_and_what_is_missing_is_nan():
    table = pandas.DataFrame({"a": [1.5, 2.5], "b": [1, 2], "c": [True, False]})
    assert as_numbers("data", table).tolist() == [[1.5, 1.0, 1.0], [2.5, 2.0, 0.0]]
    assert as_numbers("data", table[["b"]]).dtype == torch.int64
    some = pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64"), "b": [1.0, None]})
    assert as_numbers("data", some).isnan().tolist() == [[False, False], [True, True]]


def test_an_array_is_not_tied_to_the_tensor():
    array = np.zeros(3)
    array.flags.writeable = False
    as_numbers("data", array)[0] = 1.0
    assert array[0] == 0.0


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (pandas.DataFrame({"a": [1.0], "b": ["red"]}), TypeError, "got 'red'. Turn labels"),
        ([["one", "two"]], TypeError, "real numbers, got <U3"),
        ({1.0, 2.0}, TypeError, "expected rows to be a tensor.* got set"),
        ("rows", TypeError, "got str"),
        ([[1.0], [1.0, 2.0]], ValueError, "one length"),
        (np.ones(3, dtype=complex), TypeError, "complex"),
    ],
)
def test_what_is_no_number_is_told(data, error, said):
    with pytest.raises(error, match=said):
        as_numbers("rows", data)


def test_learning_and_its_measures_take_data_frames_and_lists():
    rows = torch.randn(40, 2)
    table = pandas.DataFrame(rows.double().numpy())
    assert torch.equal(as_rows(table), rows)
    assert torch.equal(as_rows(rows.tolist()), rows)
    energy = ebm.Gaussian(torch.zeros(2), scale_tril=torch.nn.Parameter(torch.eye(2)))
    ebm.fit(energy, table, ebm.ScoreMatching(), num_steps=1, disable_progbar=True)
    whole = rows.double()
    assert all(torch.equal(whole, each) for each in flat_alike(a=table, b=rows.tolist()))
    found = ebm.classifier_two_sample_test(table, -table, repeats=1)
    assert found.num_rows == 40
