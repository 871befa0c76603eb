"""Weights in closed form: log-normal ones, equal ones, none."""

import math

import pytest
import torch

from pyro_ebm.annealing.log_z import Backward
from pyro_ebm.annealing.verdict import backward_problems, weight_problems
from pyro_ebm.annealing.weights import (
    effective_sample_size,
    local_barrier,
    log_mean_exp,
    standard_error,
    systematic_resampling,
)
from pyro_ebm.diagnostics import pareto_khat

SIGMA = 0.5


def log_normal(n):
    """Weights of mean one and relative variance exp(sigma^2) - 1."""
    return SIGMA * torch.randn(n, dtype=torch.float64) - 0.5 * SIGMA**2


def test_equal_weights_are_worth_their_number():
    weights = torch.full((50,), -700.0, dtype=torch.float64)
    assert effective_sample_size(weights) == pytest.approx(50)
    assert standard_error(weights) == pytest.approx(0.0, abs=1e-12)
    assert float(log_mean_exp(weights)) == pytest.approx(-700.0)


def test_no_weight_is_worth_nothing():
    weights = torch.full((50,), -torch.inf, dtype=torch.float64)
    assert effective_sample_size(weights) == 0.0
    assert standard_error(weights) == math.inf


def test_one_weight_has_no_error_that_could_be_known():
    weights = torch.full((50,), -torch.inf, dtype=torch.float64)
    weights[3] = 0.0
    assert standard_error(weights) == math.inf


def test_the_error_of_log_normal_weights_is_that_of_their_law():
    n = 200_000
    expected = math.sqrt((math.exp(SIGMA**2) - 1) / n)
    assert standard_error(log_normal(n)) == pytest.approx(expected, rel=0.02)


def test_estimates_scatter_as_their_errors_say():
    scores = []
    for _ in range(1000):
        weights = log_normal(500)
        scores.append(float(log_mean_exp(weights)) / standard_error(weights))
    assert torch.tensor(scores).std() == pytest.approx(1.0, abs=0.09)


def test_intervals_from_weights_with_a_heavy_tail_hold_the_truth_as_often_as_they_say():
    """Those of sqrt(1/ESS - 1/N) alone do so in 93 of 100 cases."""
    inside = []
    for _ in range(4000):
        weights = 1.3 * torch.randn(512, dtype=torch.float64) - 0.5 * 1.3**2
        error = abs(float(log_mean_exp(weights)))
        inside.append(error < 1.96 * standard_error(weights))
    assert 0.935 < sum(inside) / len(inside) < 0.965


def test_the_local_barrier_of_log_normal_increments_is_their_spread():
    """log E G^2 - 2 log E G is sigma^2 whatever the mean."""
    increments = 3.0 + log_normal(400_000)
    before = torch.zeros_like(increments)
    assert local_barrier(before, increments) == pytest.approx(SIGMA, rel=0.02)


def test_the_local_barrier_counts_particles_by_their_weight():
    increments = torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64)
    without_last = torch.tensor([0.0, 0.0, -torch.inf], dtype=torch.float64)
    assert local_barrier(without_last, increments) == pytest.approx(0.0, abs=1e-7)
    assert local_barrier(torch.zeros(3, dtype=torch.float64), increments) > 0.5


def test_resampling_keeps_shares():
    log_weights = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64).log()
    chosen = systematic_resampling(log_weights, 0.5)
    assert torch.bincount(chosen, minlength=4).tolist() == [2, 1, 1, 0]


def test_khat_finds_tails_without_a_mean():
    uniform = torch.rand(4000, dtype=torch.float64)
    assert pareto_khat(-0.3 * uniform.log()) < 0.5
    assert pareto_khat(-1.2 * uniform.log()) > 0.9


def test_a_tail_is_judged_only_where_weights_are_many_times_their_mean():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(1024, dtype=torch.float64, generator=generator)
    heavy = -1.2 * uniform.log()
    said = weight_problems(heavy, pareto_khat(heavy))
    assert any("heavy tail" in problem for problem in said)
    # Ten free spins in a weak field: a few values, each a little blurred.
    up = (torch.rand(10, 1024, generator=generator) < 0.5).double().sum(0)
    few = 0.05 * up.clamp(min=7) + 1e-3 * uniform
    assert pareto_khat(few) > 0.7
    assert weight_problems(few, pareto_khat(few)) == []


def test_a_gap_between_both_ends_counts_from_a_third_of_the_stated_error():
    # Weights that are cut off: a sixth of the particles carries nothing, the others are alike.
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(1280, dtype=torch.float64, generator=generator)
    forward, works = noise[:1024].clone(), noise[1024:]
    forward[:164] = -30.0
    for gap, problems in ((0.0, 0), (1.0, 0), (3.0, 1)):
        # Bennett's ratio of both moves by a quarter of what the works do.
        moved = works + gap * standard_error(forward)
        found = backward_problems(forward, Backward(moved, 0.0, 0.0, 0.0, 0.0), 256.0)
        assert len(found) == problems, found


def test_khat_of_equal_weights_is_minus_infinity_and_of_few_not_known():
    assert pareto_khat(torch.zeros(100, dtype=torch.float64)) == -math.inf
    assert math.isnan(pareto_khat(torch.zeros(10, dtype=torch.float64)))
    resampled = torch.cat([torch.linspace(-3.0, -1.0, 400), torch.zeros(600)]).double()
    assert pareto_khat(resampled) == -math.inf
