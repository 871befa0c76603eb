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
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
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


@pytest.mark.parametrize("kernel", [nuts(), hmc(trajectory_length=1.5)], ids=["nuts", "hmc"])
def test_one_of_sixteen_chains_at_a_wall_moves_the_step_size_by_less_than_a_tenth(kernel: Kernel):
    log_step_sizes: list[list[float]] = [[], []]
    # A single warm-up scatters by some hundredths: averages over a few seeds are compared.
    for seed in range(4):
        start = torch.randn(3, 16)
        stuck = start.clone()
        stuck[:, 0] = 100.0
        for begin, found in zip((start, stuck), log_step_sizes, strict=True):
            generator = torch.Generator().manual_seed(seed)
            plan = Plan(2, Warmup(200))
            result = run_chains(with_a_wall(), kernel, begin, plan, generator=generator)
            assert result.error is None
            assert bool(result.draws.positions[:, 0, 0].eq(100.0).all()) == (begin is stuck)
            found.append(float(result.draws.statistics["step_size"].median().log()))
    moved = torch.tensor(log_step_sizes[1]).mean() - torch.tensor(log_step_sizes[0]).mean()
    assert abs(float(moved)) < math.log(1.1)
