"""The step size that many chains agree on."""

import math

import pytest
import torch
from torch import Tensor

from pyro_ebm.energies import DiagonalGaussian
from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.kernel import Kernel
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Problem, Result, run_chains
from pyro_ebm.mcmc.step_size import (
    reasonable_step_size,
    start_dual_average,
    trimmed_mean,
    update_dual_average,
)
from pyro_ebm.target.vectorize import traced

from .stage import identity, problem_of, settings_of


def test_dual_averaging_finds_the_step_size_of_the_target_acceptance():
    state = start_dual_average(1.0)
    for _ in range(1000):
        acceptance = (-0.5 * state.log_step_size.exp()).exp() + 0.1 * torch.randn(())
        state = update_dual_average(state, acceptance, 0.8)
    torch.testing.assert_close(
        float(state.log_average.exp()), -2 * math.log(0.8), rtol=0.1, atol=0.0
    )


@pytest.mark.parametrize("chains", [1, 4, 9])
def test_few_votes_are_all_counted(chains: int):
    votes = torch.rand(chains)
    torch.testing.assert_close(trimmed_mean(votes), votes.mean())


@pytest.mark.parametrize("chains", [10, 16, 100])
def test_one_vote_of_many_moves_little(chains: int):
    votes = torch.full((chains,), 0.8)
    votes[3] = 0.0
    torch.testing.assert_close(trimmed_mean(votes), torch.tensor(0.8))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("guess", [1e-3, 1.0, 1e3])
def test_the_first_guess_fits_the_scale_of_the_target(scale: float, guess: float):
    energy = DiagonalGaussian(torch.zeros(3), scale).double()
    problem = problem_of(energy)
    position = energy.exact_sample((64,)).T.contiguous()
    log_density, gradient = problem.log_density_and_gradient(position)
    found = reasonable_step_size(
        problem.log_density_and_gradient,
        position,
        log_density,
        gradient,
        settings_of(1.0, identity(3)),
        torch.randn(3, 64, dtype=torch.float64),
        first_guess=guess * scale,
    )
    assert 0.3 < found / scale < 2.5


def with_a_wall() -> Problem:
    """A standard normal, and NaN far out: a chain that starts there can go nowhere."""
    gaussian = problem_of(DiagonalGaussian(torch.zeros(3), 1.0)).log_density_and_gradient

    def density(positions: Tensor) -> tuple[Tensor, Tensor]:
        log_density, gradient = gaussian(positions)
        return torch.where(positions[0] > 50.0, torch.nan, log_density), gradient

    return Problem(density, traced)


def adapted(
    kernel: Kernel, problem: Problem, start: Tensor, *, adapt_metric: bool, seed: int
) -> Result:
    return run_chains(
        problem,
        kernel,
        start,
        Plan(2, Warmup(200, adapt_metric=adapt_metric)),
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("adapt_metric", [False, True])
@pytest.mark.parametrize("kernel", [nuts(), hmc(trajectory_length=1.5)], ids=["nuts", "hmc"])
def test_one_of_sixteen_chains_at_a_wall_moves_the_step_size_by_less_than_a_tenth(
    kernel: Kernel, adapt_metric: bool
):
    start = torch.randn(3, 16)
    stuck = start.clone()
    stuck[:, 0] = 100.0
    step_sizes = []
    for begin in (start, stuck):
        result = adapted(kernel, with_a_wall(), begin, adapt_metric=adapt_metric, seed=1)
        assert result.error is None
        assert result.state is not None
        step_sizes.append(result.draws.statistics["step_size"])
        rejected = result.draws.positions[:, 0, 0].eq(100.0).all()
        assert bool(rejected) == (begin is stuck)
    torch.testing.assert_close(step_sizes[1], step_sizes[0], rtol=0.1, atol=0.0)
