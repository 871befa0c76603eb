"""Batched L-BFGS comes to known minima, says so, and says when there is none."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyro_ebm.optimize import Optimum, distinct_minima, lbfgs
from pyro_ebm.optimize.lbfgs import ValueAndGradient

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
Function = Callable[[Tensor], Tensor]


def with_gradient(function: Function) -> ValueAndGradient:
    """The function of positions [dim, runs] with its gradient."""

    def call(positions: Tensor) -> tuple[Tensor, Tensor]:
        z = positions.detach().requires_grad_()
        value = function(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient

    return call


def run(function: Function, starts: Tensor, **options: int) -> Optimum:
    return lbfgs(with_gradient(function), starts, **options)


def dispersed(dim: int, runs: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 4 * torch.rand(dim, runs, dtype=dtype) - 2


def rosenbrock(z: Tensor) -> Tensor:
    return (100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum(0)


def double_well(z: Tensor) -> Tensor:
    return ((z**2 - 1) ** 2).sum(0)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_every_run_of_an_ill_conditioned_gaussian_ends_at_its_mean(offset: float):
    scale = torch.logspace(-2, 0, 100, dtype=torch.float64)[:, None]
    mean = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    end = run(lambda z: offset + 0.5 * ((z - mean) / scale).square().sum(0), dispersed(100, 16))
    assert bool(end.converged.all())
    # Half the squared gradient of a whitened coordinate is its share of the value.
    noise = math.sqrt(1e3 * torch.finfo(torch.float64).eps * max(1.0, offset))
    assert float(((end.positions - mean) / scale).abs().max()) < noise
    if not offset:
        assert float(end.gradients.abs().max()) < 1e-6


@DTYPES
def test_rosenbrock_is_solved_in_tens_of_steps(dtype: torch.dtype):
    end = run(rosenbrock, dispersed(2, 64, dtype), max_evaluations=100)
    assert bool(end.converged.all())
    # The Hessian at (1, 1) has its small eigenvalue at 0.4.
    allowed = 10 * math.sqrt(torch.finfo(dtype).eps)
    assert float((end.positions - 1).abs().max()) < allowed


@DTYPES
def test_every_run_of_a_double_well_ends_in_a_well(dtype: torch.dtype):
    end = run(double_well, dispersed(5, 64, dtype))
    assert bool(end.converged.all())
    torch.testing.assert_close(end.positions.abs(), torch.ones_like(end.positions))
    assert bool((end.positions > 0).any())
    assert bool((end.positions < 0).any())


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e8])
def test_the_unit_of_the_value_does_not_matter(unit: float):
    end = run(lambda z: unit * double_well(z), dispersed(3, 32))
    assert bool(end.converged.all())
    torch.testing.assert_close(
        end.positions.abs(), torch.ones_like(end.positions), rtol=1e-5, atol=0.0
    )


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_unit_of_the_coordinates_does_not_matter(scale: float):
    end = run(lambda z: double_well(z / scale), scale * dispersed(3, 32))
    assert bool(end.converged.all())
    found = end.positions.abs() / scale
    torch.testing.assert_close(found, torch.ones_like(found), rtol=1e-5, atol=0.0)


def test_a_run_is_the_same_alone_and_among_others():
    starts = dispersed(4, 8)
    together = run(rosenbrock, starts)
    for index in range(8):
        alone = run(rosenbrock, starts[:, index : index + 1])
        torch.testing.assert_close(alone.positions[:, 0], together.positions[:, index])
        assert int(alone.num_steps) == int(together.num_steps[index])


def test_a_kink_is_found():
    end = run(lambda z: (z - 0.3).abs().sum(0), dispersed(2, 16))
    assert bool(end.converged.all())
    torch.testing.assert_close(end.positions, torch.full_like(end.positions, 0.3))


def test_a_start_at_the_minimum_has_converged():
    off = 1e-9 * torch.randn(3, 8, dtype=torch.float64)
    assert bool(run(lambda z: ((z - 0.3) ** 2).sum(0), 0.3 + off).converged.all())
    assert bool(run(lambda z: (z**2).sum(0), torch.zeros(3, 8)).converged.all())


def test_regions_of_nan_and_infinity_are_turned_back_from():
    def function(z: Tensor) -> Tensor:
        # NaN for z < 0 and infinite beyond 3; the minimum is at 1, where curvature is 1.
        inside = (z - 1 - z.log()).sum(0)
        return torch.where((z > 3).any(0), torch.inf, inside)

    end = run(function, 0.02 + 2.9 * torch.rand(4, 64, dtype=torch.float64))
    assert bool(end.converged.all())
    torch.testing.assert_close(end.positions, torch.ones_like(end.positions))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: -z.sum(0),
        lambda z: -(z**2).sum(0),
        lambda z: -torch.log1p(z**2).sum(0),
        lambda z: 1 / (1 + z**2).sum(0),
    ],
    ids=["linear", "quadratic", "logarithm", "levels off"],
)
def test_falling_without_end_is_told_and_is_never_nan(function: Function):
    end = run(function, dispersed(3, 16))
    assert not bool(end.converged.any())
    assert bool(end.unbounded.all())
    assert bool(end.positions.isfinite().all())
    assert bool(end.values.isfinite().all())


def test_a_value_of_minus_infinity_is_told():
    end = run(lambda z: torch.where(z.sum(0) > 3, -torch.inf, -z.sum(0)), torch.ones(2, 4))
    assert bool(end.unbounded.all())
    assert not bool(end.converged.any())


def test_a_run_at_a_cliff_has_not_converged():
    # The value falls towards z = 1, and is NaN beyond.
    end = run(lambda z: (z + (z - 1).sqrt()).sum(0), 1 + dispersed(1, 8).abs())
    assert not bool(end.converged.any())
    assert not bool(end.unbounded.any())


def test_a_run_out_of_evaluations_has_not_converged():
    end = run(rosenbrock, dispersed(10, 8), max_evaluations=5)
    assert not bool(end.converged.any())
    assert bool((end.num_steps <= 5).all())


def test_a_start_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"runs \[1\] of 3"):
        run(lambda z: z.square().sum(0), torch.tensor([[0.0, math.nan, 1.0]]))
    with pytest.raises(ValueError, match="finite"):
        run(lambda z: z.log().sum(0), torch.tensor([[-1.0, 1.0]]))


def test_ends_are_grouped_lowest_first_by_value_and_position():
    positions = torch.tensor([[1.0, -1.0, 1.00001, -1.0, 0.0]], dtype=torch.float64)
    values = torch.tensor([0.0, -1.0, 0.0, -1.0, 5.0], dtype=torch.float64)
    found = distinct_minima(
        positions,
        values,
        converged=torch.tensor([False, True, True, True, False]),
        spread=torch.ones(1, dtype=torch.float64),
    )
    assert found.counts.tolist() == [2, 2, 1]
    assert found.labels.tolist() == [1, 0, 1, 0, 2]
    # The converged end stands for those that lie with it.
    assert found.representatives.tolist() == [1, 2, 4]


def test_mirrored_minima_are_distinct_and_every_run_is_counted_once():
    end = run(double_well, dispersed(3, 200))
    spread = torch.ones(3, dtype=torch.float64)
    found = distinct_minima(end.positions, end.values, converged=end.converged, spread=spread)
    assert len(found.counts) == 8
    assert int(found.counts.sum()) == 200
    torch.testing.assert_close(torch.bincount(found.labels), found.counts)


@pytest.mark.parametrize("decrement", [1.0, 1e4])
def test_a_run_may_stop_on_its_way_where_the_curvature_says_that_it_is_near(decrement: float):
    scale = torch.logspace(-2, 0, 5, dtype=torch.float64)[:, None]

    def quadratic(x: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 * (x / scale).square().sum(0), x / scale.square()

    starts = 100 * torch.randn(5, 16, dtype=torch.float64)
    found = lbfgs(quadratic, starts, decrement=decrement)
    ended = lbfgs(quadratic, starts)
    assert found.converged.all()
    assert (found.num_steps < ended.num_steps).all()
    assert (found.values > 1e-12).all()
    assert (found.values < quadratic(starts)[0]).all()
