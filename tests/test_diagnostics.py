"""The diagnostics are ArviZ's numbers, whatever the event's shape, and NaN where none exist."""

import math

import arviz as az
import numpy as np
import pytest
import torch
from scipy import stats

from pyro_ebm import diagnostics
from pyro_ebm.diagnostics import ess_bulk, ess_is_reliable, nested_rhat, rhat_threshold, split_rhat

FIGURES = {
    "split_rhat": (split_rhat, lambda x: az.rhat(x, method="rank")),
    "ess_bulk": (ess_bulk, lambda x: az.ess(x, method="bulk")),
    "ess_tail": (diagnostics.ess_tail, lambda x: az.ess(x, method="tail", prob=(0.05, 0.95))),
    "ess_mean": (diagnostics.ess_mean, lambda x: az.ess(x, method="mean")),
    "mcse_mean": (diagnostics.mcse_mean, lambda x: az.mcse(x, method="mean")),
    "mcse_sd": (diagnostics.mcse_sd, lambda x: az.mcse(x, method="sd")),
    "mcse_quantile": (
        lambda x: diagnostics.mcse_quantile(x, 0.05),
        lambda x: az.mcse(x, method="quantile", prob=0.05),
    ),
}


def autoregression(chains, draws, *event, rho=0.6):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(chains, draws, *event))
    for i in range(1, draws):
        x[:, i] = rho * x[:, i - 1] + math.sqrt(1 - rho**2) * x[:, i]
    return x


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_arvizs_for_every_element_of_the_event(name):
    ours, theirs = FIGURES[name]
    draws = autoregression(4, 200, 2, 3)
    expected = [[theirs(draws[:, :, i, j]) for j in range(3)] for i in range(2)]
    # Variances of n draws are divided by n or by n - 1.
    np.testing.assert_allclose(ours(draws), expected, rtol=1 / 400)
    assert ours(draws[:, :, 0, 0]).shape == ()


@pytest.mark.parametrize("name", FIGURES)
def test_tensors_and_arrays_have_the_same_figures(name):
    ours, _ = FIGURES[name]
    draws = autoregression(2, 100, 2)
    np.testing.assert_array_equal(ours(torch.as_tensor(draws)), ours(draws))


@pytest.mark.parametrize("name", FIGURES)
def test_what_does_not_move_or_is_not_finite_has_no_figure(name):
    ours, _ = FIGURES[name]
    draws = autoregression(4, 100, 3)
    draws[..., 1] = 7.0
    draws[2, 50, 2] = np.inf
    assert np.isnan(ours(draws)).tolist() == [False, True, True]
    assert np.isnan(ours(draws[:, :3])).all()


def test_bfmi_is_one_number_a_chain_and_arvizs():
    energy = autoregression(4, 500)
    np.testing.assert_allclose(diagnostics.bfmi(energy), az.bfmi(energy), rtol=1 / 400)
    assert np.isnan(diagnostics.bfmi(energy[:, :2])).all()


def test_a_single_chain_is_judged_by_its_halves():
    still = autoregression(1, 400)
    moved = still + (np.arange(400) >= 200)
    assert split_rhat(still) < 1.05 < split_rhat(moved)


def test_nested_rhat_is_its_equation():
    draws, ids = autoregression(8, 50), np.repeat([0, 1], 4)

    def equation(values):
        ranks = stats.rankdata(values).reshape(values.shape)
        scores = stats.norm.ppf((ranks - 3 / 8) / (values.size + 1 / 4))
        groups = [scores[np.tile(ids, 2) == k] for k in (0, 1)]
        between = np.var([group.mean() for group in groups], ddof=1)
        within = [g.mean(1).var(ddof=1) + g.var(1, ddof=1).mean() for g in groups]
        return math.sqrt(1 + between / np.mean(within))

    halves = np.concatenate([draws[:, :25], draws[:, 25:]])
    expected = max(equation(halves), equation(abs(halves - np.median(halves))))
    np.testing.assert_allclose(nested_rhat(draws, ids), expected, rtol=1e-12)


def test_nested_rhat_sees_superchains_apart_which_short_chains_hide():
    draws = autoregression(128, 8, rho=0.0)
    ids = np.repeat(np.arange(8), 16)
    threshold = rhat_threshold(num_chains=128, chains_per_superchain=16)
    assert nested_rhat(draws, ids) < threshold
    assert nested_rhat(draws + (ids == 3)[:, None], torch.as_tensor(ids)) > threshold


def test_superchains_of_different_sizes_are_cut_to_the_smallest():
    draws = autoregression(10, 50)
    ids = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    uneven = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    keep = [0, 1, 2, 3, 4, 5, 6, 7]
    assert nested_rhat(draws, uneven) == nested_rhat(draws[keep], uneven[keep])
    assert nested_rhat(draws, ids) != nested_rhat(draws, uneven)


def test_superchains_that_compare_nothing_are_refused():
    draws = autoregression(4, 50)
    with pytest.raises(ValueError, match=r"one superchain id for each of 4 chains, got .*\(3,\)"):
        nested_rhat(draws, [0, 0, 1])
    with pytest.raises(ValueError, match="at least two superchains"):
        nested_rhat(draws, [5, 5, 5, 5])


def test_thresholds_are_those_of_the_literature():
    assert rhat_threshold(num_chains=4) == 1.01
    assert rhat_threshold(num_chains=127, chains_per_superchain=16) == 1.01
    assert rhat_threshold(num_chains=256, chains_per_superchain=32) == math.sqrt(1 + 1 / 32 + 1e-4)


def test_ess_counts_only_from_chains_of_fifty_draws():
    assert ess_is_reliable(50)
    assert not ess_is_reliable(49)
    # What the rule is for: draws of AR(1) are worth (1 - rho) / (1 + rho) of themselves, and chains
    # of 8 cannot see it.
    truth = 256 * 8 * (1 - 0.9) / (1 + 0.9)
    assert ess_bulk(autoregression(256, 8, rho=0.9)) > 4 * truth


@pytest.mark.parametrize("rho", [0.0, 0.95])
@pytest.mark.parametrize("shape", [(32, 100), (1024, 16), (256, 5)])
def test_chains_that_have_arrived_do_not_move_together(rho, shape):
    rng = np.random.default_rng(3)
    for _ in range(20):
        draws = rng.standard_normal((*shape, 50))
        for t in range(1, shape[1]):
            draws[:, t] = rho * draws[:, t - 1] + np.sqrt(1 - rho**2) * draws[:, t]
        shift = diagnostics.half_shift(np.exp(draws))
        assert not diagnostics.still_moves(shift, num_chains=shape[0]).any()


def test_chains_on_their_way_are_seen_to_move_though_they_agree():
    """From one start, 3 deviations away; R-hat compares the chains, and they are alike."""
    rng = np.random.default_rng(4)
    draws = rng.standard_normal((512, 16, 1))
    draws += 3.0 * 0.8 ** np.arange(16)[:, None]
    shift = diagnostics.half_shift(draws)
    assert diagnostics.still_moves(shift, num_chains=512).all()
    assert diagnostics.nested_rhat(draws, np.arange(512) // 64)[0] < diagnostics.rhat_threshold(
        num_chains=512, chains_per_superchain=64
    )


def test_a_coordinate_that_never_moves_has_no_shift():
    shift = diagnostics.half_shift(np.ones((40, 8, 2)))
    assert not diagnostics.still_moves(shift, num_chains=40).any()
