"""The benchmarks' own parts: their statistics, their tables and the handing over of draws."""

import json

import numpy as np
import pytest

from benchmarks.process import Failure, measure
from benchmarks.statistics import agreement, worst
from benchmarks.table import Table, number, write
from benchmarks.targets import EIGHT_SCHOOLS, GAUSSIANS, truth

SEEDS, PARAMETERS, ESS = 400, 8, 500.0


def correlated_errors(generator, *, scale=1.0):
    """Means [seed, parameter] whose errors have half of their variance in common."""
    shared, own = generator.normal(size=(SEEDS, 1)), generator.normal(size=(SEEDS, PARAMETERS))
    return scale * (shared + own) / np.sqrt(2 * ESS)


def agreement_of(means):
    ess = np.full_like(means, ESS)
    return agreement(means, ess, np.zeros(PARAMETERS), np.ones(PARAMETERS))


def test_correlated_parameters_count_as_fewer_degrees_of_freedom():
    checked = agreement_of(correlated_errors(np.random.default_rng(0)))
    # R is 1 on the diagonal and 1/2 beside it.
    expected = SEEDS * PARAMETERS**2 / (PARAMETERS + PARAMETERS * (PARAMETERS - 1) / 4)
    assert checked.degrees == pytest.approx(expected, rel=0.15)


def test_the_interval_holds_true_errors_and_no_others():
    generator = np.random.default_rng(1)
    inside = [agreement_of(correlated_errors(generator)).holds for _ in range(200)]
    # 200 chances of 0.002: more than four outside happen once in ten thousand such tests.
    assert sum(inside) >= 196
    assert not agreement_of(correlated_errors(generator, scale=1.25)).holds
    assert not agreement_of(correlated_errors(generator, scale=0.8)).holds


def test_the_worst_parameter_is_the_slowest():
    generator = np.random.default_rng(2)
    draws = generator.normal(size=(4, 500, 2))
    for step in range(1, 500):
        draws[:, step, 1] += 0.9 * draws[:, step - 1, 1]
    assert worst(draws) == worst(draws[..., 1:])
    assert worst(draws).bulk < 0.5 * worst(draws[..., :1]).bulk


@pytest.mark.parametrize("name", [EIGHT_SCHOOLS, *GAUSSIANS])
def test_every_target_has_a_truth_for_each_parameter(name):
    mean, sd = truth(name)
    assert mean.shape == sd.shape
    assert (sd > 0).all()


def test_results_are_written_as_markdown_and_json(tmp_path):
    table = Table("Speed", ("library", "speed"), [["a", number(12345.0)]], "Fast.", {"a": 12345.0})
    write(
        [table], tmp_path / "results", heading="All", remarks=("Words.",), attributes={"cores": 2}
    )
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "| a | 12,300 |" in lines
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers == {"attributes": {"cores": 2}, "Speed": {"a": 12345.0}}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.0123"), (1.0, "1.00"), (123.4, "123"), (999.9, "1,000")]
)
def test_numbers_have_three_figures(value, text):
    assert number(value) == text


def test_a_measurement_that_fails_says_why():
    with pytest.raises(Failure, match=r"No module named benchmarks\.peers\.nobody"):
        measure("benchmarks.peers.nobody", {}, time_limit=60.0)
