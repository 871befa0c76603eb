"""Warm-up: its windows add up, many chains need little of it, and few chains lose nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyro_ebm.energies import DiagonalGaussian, Gaussian
from pyro_ebm.mcmc.adaptation import Auto, Dense, Diagonal, LowRank, MetricKind, Warmup, windows
from pyro_ebm.mcmc.metric import DenseMetric, DiagonalMetric, inverse_mass_matrix
from pyro_ebm.mcmc.metric_kinds import chosen, converted
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Result, run_chains
from pyro_ebm.target import Target

from ..models.eight_schools import eight_schools
from .stage import problem_of

SCALES = torch.logspace(-2, 0, 20)
Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def run(target: Target, *, warmup: Warmup, chains: int, num_samples: int = 100) -> Result:
    generator = torch.Generator().manual_seed(0)
    start = target.initial_positions(chains, generator=generator)
    plan = Plan(num_samples, warmup)
    result = run_chains(problem_of(target), nuts(), start, plan, generator=generator)
    assert result.error is None
    return result


@pytest.mark.parametrize("chains", [1, 4, 8, 64, 4096])
def test_windows_add_up(chains: int):
    for steps in [*range(200), 980, 1480, 9980]:
        plan = windows(steps, chains)
        assert sum(plan) == steps
        assert all(length > 0 for length in plan)


def gaussian() -> Target:
    return Target.from_energy(DiagonalGaussian(torch.zeros(20), SCALES))


def schools() -> Target:
    return Target.from_model(eight_schools, SIGMA, Y)


@pytest.mark.parametrize(
    ("make", "target_acceptance"), [(gaussian, 0.65), (gaussian, 0.9), (schools, 0.8)]
)
def test_a_short_warm_up_of_many_chains_reaches_its_target(
    make: Callable[[], Target], target_acceptance: float
):
    warmup = Warmup(200, target_acceptance=target_acceptance)
    result = run(make(), warmup=warmup, chains=64, num_samples=50)
    acceptance = float(result.draws.statistics["acceptance_rate"].mean())
    assert abs(acceptance - target_acceptance) < 0.08


def scales(draws: Tensor) -> Tensor:
    """Standard deviations [dim] of draws [n, dim, chains], about the known mean of zero."""
    return draws.square().mean((0, 2)).sqrt()


@pytest.mark.parametrize("chains", [1, 4])
def test_few_chains_learn_scales_over_two_orders_of_magnitude(chains: int):
    result = run(gaussian(), warmup=Warmup(300), chains=chains, num_samples=800 // chains)
    statistics = result.draws.statistics
    # With the right metric a step of one scale suits all coordinates: trees stay short.
    assert float(statistics["n_steps"].mean()) < 16
    assert not bool(statistics["diverging"].any())
    # NUTS on an adapted Gaussian is at least half as good as independent draws.
    n = 0.5 * 800
    ratio = scales(result.draws.positions) / SCALES
    assert float((ratio - 1).abs().max()) < 4.5 * (1 / (2 * n)) ** 0.5


@pytest.mark.parametrize("kind", [Diagonal(), Dense(), LowRank(rank=2)])
def test_the_inverse_mass_is_the_covariance_of_a_gaussian(kind: MetricKind):
    root = torch.tensor([[1.0, 0.0, 0.0], [4.0, 1.0, 0.0], [0.0, 0.0, 0.1]])
    covariance = root @ root.T
    if isinstance(kind, Diagonal):
        covariance = covariance.diag().diag()
    target = Target.from_energy(Gaussian(torch.zeros(3), covariance_matrix=covariance))
    result = run(target, warmup=Warmup(200, kind=kind), chains=32, num_samples=10)
    assert result.state is not None
    settings = result.state.settings
    found = inverse_mass_matrix(settings.metric, int(settings.version))
    found = found.diag() if found.dim() == 1 else found
    spectrum = torch.linalg.eigvals(torch.linalg.solve(covariance, found)).real
    assert float(spectrum.min()) > 0.5
    assert float(spectrum.max()) < 2.0


def test_nothing_adapts_when_nothing_shall():
    warmup = Warmup(100, step_size=0.2, adapt_step_size=False, adapt_metric=False)
    target = Target.from_energy(DiagonalGaussian(torch.zeros(2), 1.0))
    result = run(target, warmup=warmup, chains=4, num_samples=10)
    assert result.state is not None
    assert result.draws.statistics["step_size"].unique().tolist() == pytest.approx([0.2])
    assert inverse_mass_matrix(result.state.settings.metric).eq(1.0).all()


@pytest.mark.parametrize(
    ("dim", "num_draws", "expected"),
    [(20, 100, Dense()), (20, 99, Diagonal()), (128, 10**6, Dense()), (129, 10**6, Diagonal())],
)
def test_a_metric_left_open_is_dense_where_draws_are_ample(
    dim: int, num_draws: int, expected: MetricKind
):
    assert chosen(Auto(), dim=dim, num_draws=num_draws) == expected
    assert chosen(LowRank(3), dim=dim, num_draws=num_draws) == LowRank(3)


@pytest.mark.parametrize(
    ("chains", "warmup", "dense"),
    [
        (32, Warmup(100, kind=Auto()), True),
        (2, Warmup(30, kind=Auto()), False),
        (32, Warmup(0, kind=Auto()), False),
        pytest.param(
            32, Warmup(100, kind=Auto(), adapt_metric=False), False, marks=pytest.mark.slow
        ),
    ],
)
def test_without_draws_to_learn_it_from_no_metric_is_dense(
    chains: int, warmup: Warmup, dense: bool
):
    result = run(gaussian(), warmup=warmup, chains=chains, num_samples=5)
    assert result.state is not None
    assert isinstance(result.state.settings.metric, DenseMetric) == dense


@pytest.mark.parametrize("kind", [Diagonal(), Dense(), LowRank(2)])
def test_a_metric_left_open_stays_what_an_earlier_run_has_learned(kind: MetricKind):
    like = torch.ones(4)
    earlier = converted(DiagonalMetric(2 * like[None]), kind, 0, like=like)
    kept = converted(earlier, Auto(), 0, like=like)
    assert type(kept) is type(earlier)
    assert all(torch.equal(*parts) for parts in zip(kept, earlier, strict=True))


def correlated() -> Target:
    """Ten coordinates of correlation 0.999."""
    covariance = torch.full((10, 10), 0.999) + 0.001 * torch.eye(10)
    return Target.from_energy(Gaussian(torch.zeros(10), covariance_matrix=covariance))


def test_a_metric_left_open_learns_correlations_that_many_chains_show():
    def mean_steps(kind: Auto | Diagonal) -> float:
        result = run(correlated(), warmup=Warmup(100, kind=kind), chains=64, num_samples=30)
        return float(result.draws.statistics["n_steps"].mean())

    left_open = mean_steps(Auto())
    assert left_open < 8.0
    assert mean_steps(Diagonal()) > 2 * left_open


def test_trees_are_short_until_a_metric_is_learned_and_deep_afterwards():
    far = correlated()
    generator = torch.Generator().manual_seed(0)
    plan = Plan(10, Warmup(100), keep_warmup=True)
    start = far.initial_positions(32, generator=generator)
    result = run_chains(problem_of(far), nuts(), start, plan, generator=generator)
    assert result.error is None
    assert result.state is not None
    assert result.warmup_draws is not None
    first = windows(80, 32)[0]
    depths = result.warmup_draws.statistics["tree_depth"]
    assert int(depths[:first].max()) <= 6
    assert int(result.state.settings.max_tree_depth) == 10
