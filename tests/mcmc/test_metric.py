"""Every metric is one linear map L, seen in three ways: L p, L^T g and L L^T."""

import pytest
import torch
from torch import Tensor

from pyro_ebm.mcmc.metric import (
    DenseMetric,
    DiagonalMetric,
    LowRankMetric,
    Metric,
    force,
    identity_metric,
    inverse_mass_matrix,
    mass_times,
    velocity,
)

from .stage import metrics

DIM = 4
EYE = torch.eye(DIM, dtype=torch.float64)
METRICS = pytest.mark.parametrize("metric", metrics(DIM).values(), ids=metrics(DIM))


def root_of(metric: Metric, version: int) -> Tensor:
    """L, column by column."""
    return velocity(metric, torch.full((DIM,), version), EYE)


@METRICS
@pytest.mark.parametrize("version", [0, 1])
def test_force_is_the_transpose_of_velocity(metric: Metric, version: int):
    pushed = force(metric, torch.full((DIM,), version), EYE)
    torch.testing.assert_close(pushed, root_of(metric, version).T)


@METRICS
@pytest.mark.parametrize("version", [0, 1])
def test_the_inverse_mass_matrix_is_the_root_times_its_transpose(metric: Metric, version: int):
    root = root_of(metric, version)
    found = inverse_mass_matrix(metric, version)
    torch.testing.assert_close(found.diag() if found.dim() == 1 else found, root @ root.T)


@METRICS
@pytest.mark.parametrize("version", [0, 1])
def test_the_mass_is_the_inverse_of_the_inverse_mass(metric: Metric, version: int):
    found = inverse_mass_matrix(metric, version)
    found = found.diag() if found.dim() == 1 else found
    x = torch.randn(DIM, 3, dtype=torch.float64)
    torch.testing.assert_close(found @ mass_times(metric, version, x), x)


def test_roots_are_what_the_docstrings_say():
    diagonal, dense, low_rank = metrics(DIM).values()
    assert isinstance(diagonal, DiagonalMetric)
    assert isinstance(dense, DenseMetric)
    assert isinstance(low_rank, LowRankMetric)
    torch.testing.assert_close(root_of(diagonal, 1), diagonal.scale[1].diag())
    torch.testing.assert_close(root_of(dense, 1), dense.factor[1])
    scale, directions, stretch = (part[1] for part in low_rank)
    core = EYE + directions @ (stretch - 1).diag() @ directions.T
    torch.testing.assert_close(root_of(low_rank, 1), scale.diag() @ core)


@METRICS
@pytest.mark.parametrize("mapped", [velocity, force])
def test_each_chain_uses_its_own_version(metric: Metric, mapped):
    version = torch.tensor([0, 1, 1, 0, 1])
    x = torch.randn(DIM, 5, dtype=torch.float64)
    both = [mapped(metric, torch.full((5,), index), x) for index in (0, 1)]
    expected = torch.where(version == 0, both[0], both[1])
    torch.testing.assert_close(mapped(metric, version, x), expected)
    one = type(metric)(*(part[1:] for part in metric))
    torch.testing.assert_close(mapped(one, torch.zeros(5, dtype=torch.long), x), both[1])


@METRICS
def test_the_identity_metric_is_the_identity(metric: Metric):
    torch.testing.assert_close(root_of(identity_metric(metric), 1), EYE)
