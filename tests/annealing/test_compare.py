"""Estimates beside one another: differences, probabilities, and errors carried through."""

import math
import warnings

import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm import compare_evidence

from .estimates import plain


def pair(**second):
    return {"one": plain(-310.128, 0.02), "two": plain(**{"log_z": -301.70, **second})}


def test_the_highest_comes_first_and_differences_have_their_errors():
    rows = compare_evidence(pair(std_error=0.05)).table
    assert list(rows) == ["two", "one"]
    assert rows["two"]["difference"] == rows["two"]["difference_error"] == 0.0
    assert rows["one"]["difference"] == pytest.approx(-8.428)
    assert rows["one"]["difference_error"] == pytest.approx(math.hypot(0.02, 0.05))


def test_probabilities_are_those_of_bayes():
    found = compare_evidence(pair())
    odds = math.exp(-310.128 + 301.70)
    assert found["one"]["probability"] == pytest.approx(odds / (1 + odds))
    prior = {"one": 3.0, "two": 1.0}
    assert compare_evidence(pair(), prior=prior)["one"]["probability"] == pytest.approx(
        3 * odds / (1 + 3 * odds)
    )


def test_a_model_without_prior_probability_has_none_afterwards():
    found = compare_evidence(pair(), prior={"one": 1.0, "two": 0.0})
    assert found["two"]["probability"] == 0.0
    assert found["one"]["probability_low"] == 1.0


def test_intervals_have_their_probability_over_the_errors():
    estimates = {"one": plain(0.0, 0.3), "two": plain(1.0, 0.4)}
    # The log odds are Gaussian: quantiles pass through the logistic function.
    half = math.hypot(0.3, 0.4) * 1.6448536
    expected = torch.sigmoid(torch.tensor([-1.0 - half, -1.0 + half]))
    row = compare_evidence(estimates, num_draws=200_000)["one"]
    assert row["probability_low"] == pytest.approx(float(expected[0]), rel=0.02)
    assert row["probability_high"] == pytest.approx(float(expected[1]), rel=0.02)


def test_estimates_without_error_have_intervals_without_width():
    row = compare_evidence({"one": plain(0.0, 0.0), "two": plain(1.0, 0.0)})["one"]
    ends = [row["probability_low"], row["probability_high"]]
    assert ends == pytest.approx([row["probability"]] * 2, abs=1e-12)


def test_a_seed_repeats_the_intervals():
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(compare_evidence(pair())["one"]["probability_low"])
    assert found[0] == found[1] != found[2]


def test_what_is_not_reliable_is_told():
    estimates = pair(reliable=False, why="A region is missed.")
    with pytest.warns(UserWarning, match="1 of 2 estimates is not reliable.*'two': A region"):
        found = compare_evidence(estimates)
    assert not found["two"]["reliable"]
    assert "not reliable" in repr(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare_evidence(pair())


def test_it_prints_as_a_table_with_aligned_columns():
    lines = repr(compare_evidence(pair(method="bridge sampling"))).splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:4] == ["log", "Z", "error", "difference"]
    assert "-301.700" in lines[1]
    assert "1 - 2e-04" in lines[1]
    assert lines[1].endswith("bridge sampling")
    assert len({line.index("AIS" if "AIS" in line else "bridge") for line in lines[1:]}) == 1
    assert "not reliable" not in "".join(lines)


def test_one_estimate_alone_is_certain():
    row = compare_evidence({"only": plain()})["only"]
    assert row["probability"] == row["probability_low"] == row["probability_high"] == 1.0


@pytest.mark.parametrize(
    ("estimates", "said"),
    [
        ({}, "at least one estimate"),
        ([("a", plain()), ("a", plain())], "'a' twice"),
        ({"a": plain(math.nan)}, "finite log Z and error for 'a', got nan"),
        ({"a": plain(-math.inf)}, "got -inf"),
        ({"a": plain(std_error=math.inf)}, "± inf"),
        ({"a": plain(std_error=math.nan)}, "± nan"),
    ],
)
def test_what_cannot_be_compared_is_refused(estimates, said):
    with pytest.raises(ValueError, match=said):
        compare_evidence(estimates)


def test_what_is_no_estimate_is_refused():
    with pytest.raises(TypeError):
        compare_evidence(plain())
    with pytest.raises(TypeError):
        compare_evidence({"a": -3.0})
    with pytest.raises(TypeError):
        compare_evidence({1: plain()})
    with pytest.raises(TypeError):
        compare_evidence([3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prior": {"one": 1.0}}, r"a prior for each of \['one', 'two'\]"),
        ({"prior": {"one": -1.0, "two": 1.0}}, "not negative"),
        ({"prior": {"one": 0.0, "two": 0.0}}, "not all zero"),
        ({"interval": 1.0}, "interval in"),
        ({"num_draws": 3}, "num_draws"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        compare_evidence(pair(), **options)


def test_it_is_public():
    assert isinstance(ebm.compare_evidence(pair()), ebm.Comparison)
