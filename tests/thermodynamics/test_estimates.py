"""Reweighting a ladder of exact draws: harmonic oscillators, of which everything is known."""

import math

import pytest
import torch

from pyro_ebm.annealing.multistate import ladder, log_mixture, log_normalizers
from pyro_ebm.thermodynamics.estimates import LadderDraws, Rungs, estimate

DIM, WIDE = 3, 2.0
BETAS = torch.linspace(0.0, 1.0, 6, dtype=torch.float64)


def oscillators(draws=150, ladders=12, seed=1, coldest=0.25):
    """Exact draws between N(0, WIDE^2) and exp(-|x|^2 / 2 / coldest)."""
    generator = torch.Generator().manual_seed(seed)
    precision = 1 / WIDE**2 + BETAS * (1 / coldest - 1 / WIDE**2)
    x = torch.randn(draws, len(BETAS), ladders, DIM, generator=generator, dtype=torch.float64)
    x = x / precision.sqrt()[:, None, None]
    square = x.square().sum(-1).reshape(-1, ladders)
    energy = 0.5 * square
    log_base = -0.5 * square / WIDE**2 - DIM * (math.log(WIDE) + 0.5 * math.log(2 * math.pi))
    slope = -energy / coldest - log_base
    log_z = 0.5 * DIM * torch.log(2 * math.pi / precision) - (1 - BETAS) * DIM * (
        math.log(WIDE) + 0.5 * math.log(2 * math.pi)
    )
    return LadderDraws(slope, energy, -log_base, {"square": square}), log_z


def equal(betas):
    return torch.full_like(betas, 1 / len(betas))


def test_the_normalisers_of_all_rungs_are_right_whatever_the_search_begins_with():
    draws, exact = oscillators()
    log_f = ladder(draws.slope.reshape(-1), BETAS)
    for first in (torch.zeros(6), 50.0 * torch.randn(6, generator=torch.manual_seed(0))):
        found = log_normalizers(log_f, equal(BETAS), first)
        assert float(found[0]) == 0.0
        assert float((found - exact).abs().max()) < 0.04
        # Each rung's weights sum to one.
        mixture = log_mixture(log_f, equal(BETAS), found)
        for state, log_z in zip(log_f, found, strict=True):
            assert float((state - log_z - mixture).exp().mean()) == pytest.approx(1.0)


def test_draws_outside_of_the_support_carry_no_weight_but_count():
    # Half of the base lies outside: U is minus infinity there.
    slope = torch.tensor([-torch.inf, 0.7] * 50 + [0.7] * 100, dtype=torch.float64)
    betas = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = log_normalizers(ladder(slope, betas), equal(betas), torch.zeros(2))
    assert float(found[1]) == pytest.approx(math.log(0.5) + 0.7)


def test_equal_draws_may_be_counted():
    slope = torch.tensor([0.0, 0.4, 0.4, 0.4, -1.0, -1.0], dtype=torch.float64)
    betas = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    one_by_one = log_normalizers(ladder(slope, betas), equal(betas), torch.zeros(3))
    values, counts = slope.unique(return_counts=True)
    log_f = ladder(values, betas)
    counted = log_normalizers(log_f, equal(betas), torch.zeros(3), counts.double())
    assert torch.allclose(one_by_one, counted, atol=1e-8)


def test_thermodynamics_of_oscillators():
    temperatures = torch.tensor([0.25, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    off = {name: [] for name in ("log_z", "internal_energy", "entropy", "heat_capacity", "square")}
    for seed in range(20):
        draws, log_z = oscillators(seed=seed)
        found = estimate(draws, Rungs(BETAS, log_z), temperatures)
        exact = {
            "log_z": 0.5 * DIM * torch.log(2 * math.pi * temperatures),
            "internal_energy": 0.5 * DIM * temperatures,
            "entropy": 0.5 * DIM * (1 + torch.log(2 * math.pi * temperatures)),
            "heat_capacity": torch.full_like(temperatures, 0.5 * DIM),
            "square": DIM * temperatures,
        }
        for name, values in off.items():
            values.append((found.values[name] - exact[name]) / found.errors[name])
        assert torch.allclose(found.values["free_energy"], -temperatures * found.values["log_z"])
    for name, values in off.items():
        scores = torch.stack(values)
        assert float(scores.abs().max()) < 4.5, name
        # A jackknife of 12 groups has scores of Student's t with 11 degrees of freedom.
        assert 0.8 < float(scores.square().mean().sqrt()) < 1.35, name
        assert float(scores.mean(0).abs().max()) < 4 * 1.1 / math.sqrt(len(scores)), name
