"""The sampling loop: what it keeps, how it repeats, and what an interrupted run gives back."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_ebm.energies import Banana, DiagonalGaussian
from pyro_ebm.mcmc.adaptation import SETTLE, Dense, Diagonal, LowRank, MetricKind, Warmup
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.kernel import Kernel
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import STATISTICS, Plan, Problem, Progress, Result, run_chains

from .stage import identity, problem_of, settings_of

CHAINS = 6
KERNELS = {"nuts": nuts(), "hmc": hmc(num_steps=4, jitter=0.5)}


def run(
    plan: Plan,
    *,
    kernel: Kernel = KERNELS["nuts"],
    seed: int = 0,
    problem: Problem | None = None,
    **options: Any,
) -> Result:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, CHAINS, generator=generator)
    return run_chains(
        problem or problem_of(Banana()), kernel, start, plan, generator=generator, **options
    )


def draws_of(result: Result) -> Tensor:
    assert result.error is None
    return result.draws.positions


@pytest.mark.parametrize("warmup_steps", [0, 10, 40])
def test_thinning_keeps_every_kth_transition_of_each_chain(warmup_steps: int):
    all_of_them = draws_of(run(Plan(12, Warmup(warmup_steps))))
    every_third = draws_of(run(Plan(4, Warmup(warmup_steps), thinning=3)))
    assert torch.equal(every_third, all_of_them[2::3])


def test_stored_coordinates_are_those_of_the_whole_draws():
    whole = draws_of(run(Plan(5, Warmup(0))))
    stored = draws_of(run(Plan(5, Warmup(0), coordinates=torch.tensor([1]))))
    assert torch.equal(stored, whole[:, 1:])


def test_a_given_number_of_leapfrog_steps_is_kept():
    warmup = Warmup(0, step_size=1e-3, adapt_step_size=False)
    result = run(Plan(1, warmup), kernel=hmc(num_steps=1100))
    assert draws_of(result).shape[0] == 1
    assert result.draws.statistics["n_steps"].unique().tolist() == [1100]


@pytest.mark.parametrize(
    ("kernel", "kind"), [("nuts", LowRank(rank=1)), ("hmc", Diagonal()), ("hmc", Dense())]
)
def test_the_same_seed_repeats_a_run_exactly(kernel: str, kind: MetricKind):
    plan = Plan(5, Warmup(40, kind=kind))
    first, again, other = (run(plan, kernel=KERNELS[kernel], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(draws_of(first), draws_of(again))
    for name in STATISTICS:
        assert torch.equal(first.draws.statistics[name], again.draws.statistics[name])
    assert not torch.equal(draws_of(first), draws_of(other))


def test_without_warm_up_the_first_transition_is_kept():
    settings = settings_of(0.5, identity(2, dtype=torch.float32))
    result = run(Plan(7, Warmup(0)), settings=settings)
    assert draws_of(result).shape == (7, 2, CHAINS)
    assert result.draws.statistics["step_size"].eq(0.5).all()
    longer = run(Plan(9, Warmup(0)), settings=settings)
    assert torch.equal(draws_of(longer)[:7], draws_of(result))


@pytest.mark.parametrize("warmup_steps", [1, 10, SETTLE, SETTLE + 1, 60])
def test_any_length_of_warm_up_is_kept_when_asked_for(warmup_steps: int):
    result = run(Plan(3, Warmup(warmup_steps), keep_warmup=True))
    assert draws_of(result).shape == (3, 2, CHAINS)
    assert result.warmup_draws is not None
    assert result.warmup_draws.complete == warmup_steps


def test_settings_freeze_with_the_end_of_warm_up():
    step_sizes = run(Plan(20, Warmup(60))).draws.statistics["step_size"]
    assert step_sizes.unique().numel() == 1


def test_statistics_belong_to_their_draws():
    result = run(Plan(20, Warmup(40)))
    problem = problem_of(Banana())
    found = result.draws.statistics
    for draw, lp in zip(draws_of(result), found["lp"], strict=True):
        torch.testing.assert_close(problem.log_density_and_gradient(draw)[0], lp)
    assert (found["energy"] + found["lp"] >= 0).all(), "the kinetic energy is not negative"
    assert ((found["acceptance_rate"] >= 0) & (found["acceptance_rate"] <= 1)).all()
    assert (found["n_steps"] < 2 ** found["tree_depth"]).all()
    assert (found["n_steps"] >= 2 ** (found["tree_depth"] - 1)).all()


def failing(after: int, error: BaseException) -> Problem:
    """A density that raises at some call, evaluated anew at every step."""
    right = problem_of(Banana()).log_density_and_gradient
    calls = 0

    def density(positions: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return right(positions)

    def record(function: Callable, *example: Any) -> Callable:
        return function

    return Problem(density, record)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no more")])
def test_an_interrupted_run_gives_the_draws_that_every_chain_has(error: BaseException):
    plan = Plan(100, Warmup(10))
    result = run(plan, problem=failing(400, error))
    assert result.error is error
    complete = result.draws.complete
    assert 0 < complete < 100
    assert complete == int(result.draws.kept.min()) < int(result.draws.kept.max())
    assert result.draws.positions.shape == (complete, 2, CHAINS)
    assert all(value.shape == (complete, CHAINS) for value in result.draws.statistics.values())
    whole = run(Plan(complete, Warmup(10)))
    assert torch.equal(result.draws.positions, draws_of(whole))


@pytest.mark.parametrize("after", [0, 1, 40])
def test_a_run_interrupted_in_its_warm_up_has_no_draws(after: int):
    result = run(Plan(10, Warmup(100)), problem=failing(after, KeyboardInterrupt()))
    assert isinstance(result.error, KeyboardInterrupt)
    assert result.draws.complete == 0
    assert result.draws.positions.shape == (0, 2, CHAINS)


def test_progress_is_told_of_both_stages_and_never_goes_back():
    told: list[Progress] = []
    result = run(Plan(50, Warmup(40)), report=told.append)
    assert result.error is None
    assert {progress.stage for progress in told} == {"warmup", "sample"}
    for stage, total in (("warmup", 40), ("sample", 50)):
        done = [progress.done for progress in told if progress.stage == stage]
        assert done == sorted(done)
        assert done[-1] == total or stage == "warmup"
        assert all(progress.total == total for progress in told if progress.stage == stage)


def test_an_interrupt_in_the_report_stops_a_run():
    def report(progress: Progress) -> None:
        if progress.stage == "sample":
            raise KeyboardInterrupt

    result = run(Plan(1000, Warmup(30)), report=report)
    assert isinstance(result.error, KeyboardInterrupt)
    assert result.state is not None


@pytest.mark.parametrize("chains", [1, 2, 100])
def test_any_number_of_chains_runs(chains: int):
    start = torch.zeros(3, chains)
    result = run_chains(
        problem_of(DiagonalGaussian(torch.zeros(3), 1.0)),
        nuts(),
        start,
        Plan(5, Warmup(40)),
        generator=torch.Generator().manual_seed(0),
    )
    assert draws_of(result).shape == (5, 3, chains)
