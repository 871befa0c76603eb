"""The inverse mass from draws and gradients: exact for a Gaussian, whatever the draws."""

import pytest
import torch
from torch import Tensor

from pyro_ebm.mcmc.estimate import (
    dense_factor,
    diagonal_scale,
    geometric_mean,
    low_rank,
    scale_from_start,
)
from pyro_ebm.mcmc.metric import LowRankMetric, inverse_mass_matrix


def covariance_of(dim: int) -> Tensor:
    root = torch.randn(dim, dim, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(dim, dtype=torch.float64)


def gaussian(covariance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Draws [dim, n] that are anything but exact, and the gradients of the log density there."""
    draws = torch.randn(len(covariance), n, dtype=torch.float64).exp()
    return draws, -torch.linalg.solve(covariance, draws)


@pytest.mark.parametrize("dim", [1, 2, 5, 20])
def test_geometric_mean_is_the_covariance_of_a_gaussian(dim: int):
    covariance = covariance_of(dim)
    draws, gradients = gaussian(covariance, 3 * dim + 2)
    found = geometric_mean(
        torch.cov(draws).reshape(dim, dim), torch.cov(gradients).reshape(dim, dim)
    )
    torch.testing.assert_close(found, covariance, rtol=1e-6, atol=1e-6)


def test_geometric_mean_solves_its_equation_and_changes_with_coordinates():
    a, b, change = covariance_of(4), covariance_of(4), torch.randn(4, 4, dtype=torch.float64)
    mean = geometric_mean(a, b)
    torch.testing.assert_close(mean @ b @ mean, a)
    inverse = torch.linalg.inv(change)
    moved = geometric_mean(change @ a @ change.T, inverse.T @ b @ inverse)
    torch.testing.assert_close(moved, change @ mean @ change.T)


def test_diagonal_scale_is_exact_for_independent_gaussians():
    scale = torch.tensor([1e-3, 0.1, 1.0, 50.0], dtype=torch.float64)
    draws, gradients = gaussian(scale.square().diag(), 10)
    torch.testing.assert_close(diagonal_scale(draws, gradients, torch.ones(4)), scale)


def test_a_coordinate_without_spread_or_gradient_keeps_its_scale():
    draws, gradients = gaussian(torch.eye(3, dtype=torch.float64), 10)
    draws[0], gradients[1] = 2.0, 0.0
    found = diagonal_scale(draws, gradients, torch.tensor([5.0, 6.0, 7.0]))
    torch.testing.assert_close(found, torch.tensor([5.0, 6.0, 1.0], dtype=torch.float64))


def test_scales_from_starts_are_finite_and_those_of_a_gaussian_in_kind():
    scale = torch.tensor([0.01, 1.0, 100.0])
    starts = 4 * torch.rand(3, 1000) - 2
    found = scale_from_start(-starts / scale[:, None].square())
    # The median of |x| on (-2, 2) is 1, the variance of x 4/3: the scale is (4/3)^(1/4) sd.
    torch.testing.assert_close(found.float() / scale, torch.full((3,), 1.07), rtol=0.1, atol=0.0)
    assert scale_from_start(torch.zeros(3, 4)).equal(torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("count", [12, 60, 10_000])
def test_dense_factor_is_nearly_the_covariance_and_always_a_root(count: int):
    dim = 20
    covariance = covariance_of(dim)
    draws, gradients = gaussian(covariance, count)
    scale = diagonal_scale(draws, gradients, torch.ones(dim, dtype=torch.float64))
    everywhere = torch.ones(dim, dim, dtype=torch.bool)
    factor = dense_factor(draws, gradients, scale, everywhere)
    assert factor.triu(1).eq(0).all()
    if count > 2 * dim:
        whitened = torch.linalg.solve_triangular(
            factor, torch.linalg.cholesky(covariance), upper=False
        )
        spectrum = torch.linalg.svdvals(whitened)
        assert spectrum.min() > 0.5
        assert spectrum.max() < 2.0


def test_dense_factor_keeps_to_its_blocks():
    covariance = torch.block_diag(covariance_of(2), covariance_of(3))
    blocks = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).bool()
    draws, gradients = gaussian(covariance, 5000)
    scale = diagonal_scale(draws, gradients, torch.ones(5, dtype=torch.float64))
    factor = dense_factor(draws, gradients, scale, blocks)
    assert factor[~blocks].eq(0).all()


def test_low_rank_finds_the_directions_that_a_diagonal_misses():
    dim, rank = 30, 2
    scale = torch.rand(dim, dtype=torch.float64) + 0.5
    axis, _ = torch.linalg.qr(torch.randn(dim, rank, dtype=torch.float64))
    stretch = torch.tensor([5.0, 0.1], dtype=torch.float64)
    core = torch.eye(dim) + axis @ (stretch.square() - 1).diag() @ axis.T
    covariance = scale[:, None] * core * scale
    noise = torch.randn(dim, 400, dtype=torch.float64)
    draws = torch.linalg.cholesky(covariance) @ noise
    gradients = -torch.linalg.solve(covariance, draws)
    directions, found = low_rank(draws, gradients, scale, rank=rank, cutoff=2.0)
    torch.testing.assert_close(directions.T @ directions, torch.eye(rank, dtype=torch.float64))
    metric = LowRankMetric(scale[None], directions[None], found[None])
    whitened = torch.linalg.solve(covariance, inverse_mass_matrix(metric))
    spectrum = torch.linalg.eigvals(whitened).real
    assert spectrum.max() / spectrum.min() < 2.0
    assert torch.linalg.cond(core) > 1000


def test_low_rank_leaves_what_a_diagonal_gets_right_alone():
    draws, gradients = gaussian(torch.eye(6, dtype=torch.float64), 500)
    scale = torch.ones(6, dtype=torch.float64)
    _, stretch = low_rank(draws, gradients, scale, rank=3, cutoff=2.0)
    assert stretch.eq(1.0).all()
