"""Parallel tempering: places are changed rightly, log Z and its error are, and modes are found."""

import math
from itertools import pairwise

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch.distributions import constraints

from pyro_ebm import MCMC, NUTS, EnergyDistribution, ParallelTempering, Target
from pyro_ebm.annealing import ladder as ladder_module
from pyro_ebm.annealing.ladder import Ladder, Rungs, _visits, exchange, swap_log_ratio
from pyro_ebm.annealing.moves import HMCMoves
from pyro_ebm.annealing.path import geometric
from pyro_ebm.annealing.stepping_stones import stepping_stones
from tests.models.normalisers import normaliser

from .paths import normal_base

# From N(0, 3^2) to N(2, 1): every density between is normal.
SCALE, CENTER = 3.0, 2.0
LOG_Z = 0.5 * math.log(2 * math.pi)


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def shifted(x):
    return 0.5 * (x - CENTER).square()


def rungs(num_temperatures: int, step_size: float = 0.5) -> Rungs:
    betas = torch.linspace(0.0, 1.0, num_temperatures + 1)
    return Rungs(betas, torch.full_like(betas, step_size), torch.ones(len(betas), 1, 1))


def normal_ladder() -> Ladder:
    target = Target.from_distribution(EnergyDistribution(shifted, ()))
    return Ladder(geometric(target, normal_base(1, scale=SCALE)), HMCMoves())


def exact(betas, *shape):
    """Exact draws [*shape[:-1], t, shape[-1]], and the mean and sd at each temperature [t]."""
    precision = (1.0 - betas) / SCALE**2 + betas
    mean, sd = betas * CENTER / precision, precision**-0.5
    drawn = torch.randn(*shape[:-1], len(betas), shape[-1])
    return mean[:, None] + sd[:, None] * drawn, mean, sd


def least_p_value(positions, mean, sd) -> float:
    """Of the draws [t, n] being normal, over temperatures and over neighbours' independence."""
    white = ((positions - mean[:, None]) / sd[:, None]).numpy()
    each = [stats.kstest(row, "norm").pvalue for row in white]
    both = [stats.pearsonr(a, b).pvalue for a, b in pairwise(white)]
    return min(each + both) * len(each + both)


@pytest.mark.parametrize("number", [0, 1])
def test_changing_places_leaves_the_joint_density_invariant(number):
    ladder, steps = normal_ladder(), rungs(4)
    positions, mean, sd = exact(steps.betas, 20_000)
    slope = ladder.slope(positions[None], steps)
    generator = torch.Generator().manual_seed(number)
    order = exchange(swap_log_ratio(slope, steps.betas), number, generator)
    moved = (order != torch.arange(5)[:, None]).double().mean(1)
    assert bool((moved[number : number + 4] > 0.2).all())
    assert least_p_value(positions.gather(0, order), mean, sd) > 1e-3
    wrong = exchange(-swap_log_ratio(slope, steps.betas), number, generator)
    assert least_p_value(positions.gather(0, wrong), mean, sd) < 1e-6


def test_sweeps_leave_every_temperature_invariant(monkeypatch):
    ladder, steps = normal_ladder(), rungs(4)
    positions, mean, sd = exact(steps.betas, 4_000)
    start = ladder_module.Replicas(positions[None], torch.zeros(5, 4_000, dtype=torch.long))

    def after_sweeps() -> float:
        replicas, generator = start, torch.Generator().manual_seed(1)
        for number in range(4):
            replicas, sweep = ladder.sweep(replicas, steps, number, generator)
        assert bool((sweep.acceptance > 0.5).all())
        return least_p_value(replicas.positions[0], mean, sd)

    assert after_sweeps() > 1e-3
    monkeypatch.setattr(ladder_module, "swap_log_ratio", lambda *a: -swap_log_ratio(*a))
    assert after_sweeps() < 1e-6


def test_each_temperature_moves_by_its_own_metric_and_step_size():
    wide = EnergyDistribution(lambda x: 0.5 * (x / torch.tensor([1.0, 100.0])).square().sum(), (2,))
    target = Target.from_distribution(wide)
    ladder = Ladder(geometric(target, normal_base(2)), HMCMoves())
    factor = torch.stack([torch.eye(2), torch.eye(2), torch.diag(torch.tensor([1.0, 100.0]))])
    steps = Rungs(torch.tensor([0.0, 1e-9, 1.0]), torch.tensor([0.5, 0.5, 0.5]), factor)
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 100.0]])
    positions = scales[:, :, None] * torch.randn(2, 3, 5_000)
    moved, acceptance = ladder._move(positions, steps, generator)
    assert bool((acceptance > 0.5).all())
    white = moved / scales[:, :, None]
    assert min(stats.kstest(row, "norm").pvalue for row in white.reshape(6, -1).numpy()) > 1e-4
    distance = (moved - positions).std(2) / scales
    assert float(distance.min()) > 0.5 * float(distance.max())


def test_a_replica_that_is_always_exchanged_goes_up_and_down_in_turn():
    places, generator = 6, torch.Generator().manual_seed(0)
    upward = torch.zeros(places, 1, dtype=torch.long)
    arrivals = trips = 0
    for number in range(10 * places):
        upward, arrived, returned = _visits(upward)
        arrivals, trips = arrivals + int(arrived), trips + int(returned)
        order = exchange(torch.full((places - 1, 1), torch.inf), number, generator)
        upward = upward.gather(0, order)
    # Everyone goes round in 2 x places sweeps, and the first arrivals take half of that.
    assert trips == pytest.approx(10 * places * places / (2 * places), abs=places)
    assert trips <= arrivals <= trips + places


def independent_stones(betas, slope_of=None):
    """Estimates [REPEATS, 3] and their errors from exact and independent draws."""
    drawn, _, _ = exact(betas, 400, 16, 24)
    slope = 0.5 * (drawn / SCALE).square() + math.log(SCALE) + LOG_Z - shifted(drawn)
    slope = slope if slope_of is None else slope_of(slope)
    found = torch.tensor([stepping_stones(each, betas) for each in slope])
    return found[:, :, 0] - LOG_Z, found[:, :, 1]


def test_stepping_stones_and_their_error_are_right_either_way():
    deviation, error = independent_stones(torch.linspace(0.0, 1.0, 7) ** 2)
    spread = (deviation / error).std(0)
    assert bool(((spread > 0.85) & (spread < 1.15)).all())
    # log of a mean is below the mean of the log by half the variance.
    bias = torch.tensor([-0.5, 0.5, 0.0]) * deviation.var(0)
    assert bool(((deviation - bias).mean(0).abs() < 4.0 * deviation.std(0) / 20.0).all())


def test_a_base_that_is_not_normalised_is_caught_by_stepping_stones():
    off, _ = independent_stones(torch.linspace(0.0, 1.0, 7) ** 2, lambda slope: slope - 0.03)
    assert bool((off.mean(0).abs() > 4.0 * off.std(0) / 20.0).all())


def small(model, base, **settings):
    """A run without a search and without annealing backwards."""
    return ParallelTempering(model, base=base, reverse=False, **settings).run()


CASES = {
    "double_well_1.0_3.0": normal_base(1, scale=1.5),
    "double_well_2.0_1.0": normal_base(1, scale=1.5),
    "student_t_3": normal_base(1, scale=5.0),
}


@pytest.mark.parametrize("name", CASES)
def test_log_z_is_within_its_error_of_closed_forms(name):
    case = normaliser(name)
    found = small(case.model, CASES[name], num_sweeps=64)
    assert 0.0 < found.std_error < 0.1
    assert abs(found.log_z - case.log_z) < 4.0 * found.std_error
    assert found.details["round_trips"] > 100
    assert found.barrier == pytest.approx(found.details["global_barrier"])


def asymmetric(x):
    """-log of 0.85 N(-8, 1) + 0.15 N(8, 1/4) in each of two coordinates together."""
    left = math.log(0.85) - 0.5 * (x + 8.0).square().sum() - math.log(2 * math.pi)
    right = math.log(0.15) - 2.0 * (x - 8.0).square().sum() - math.log(2 * math.pi) + math.log(4.0)
    return -torch.logaddexp(left, right)


def test_weights_of_modes_that_nuts_cannot_leave_are_found():
    model = EnergyDistribution(asymmetric, (2,))
    chains = 8
    starts = 8.0 * torch.sign(torch.arange(chains) % 2 - 0.5)[:, None].expand(chains, 2)
    nuts = MCMC(
        NUTS(model),
        num_samples=20,
        warmup_steps=50,
        num_chains=chains,
        initial_params={"x": starts},
        disable_progbar=True,
    )
    nuts.run()
    kept = (nuts.get_samples(group_by_chain=True)["x"][..., 0] < 0.0).double()
    assert kept.mean(1).tolist() == [1.0, 0.0] * (chains // 2)

    found = small(model, normal_base(2, scale=10.0), num_sweeps=128)
    assert abs(found.log_z) < 4.0 * found.std_error
    left = (found.positions[0] < 0.0).double().reshape(found.details["num_sweeps"], -1).mean(0)
    error = float(left.std()) / math.sqrt(len(left))
    assert error < 0.03
    assert abs(float(left.mean()) - 0.85) < 4.0 * error
    assert found.draws(500)["x"].shape == (500, 2)


def test_rounds_make_the_rejection_rates_more_equal():
    case = normaliser("student_t_3")
    base = normal_base(1, scale=50.0)
    settings = {"num_temperatures": 8, "num_sweeps": 32, "num_ladders": 64}
    rates = [
        np.array(small(case.model, base, num_rounds=rounds, **settings).details["rejection"])
        for rounds in (1, 5)
    ]
    assert rates[1].std() < 0.35 * rates[1].mean()
    assert rates[1].max() < 1.2 * rates[0].max()


def conjugate(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def test_a_model_has_its_evidence_its_posterior_and_a_check_backwards():
    y = torch.tensor([0.3, 1.1, 0.7, 2.0, 1.4])
    truth = float(dist.MultivariateNormal(torch.zeros(5), torch.eye(5) + 4.0).log_prob(y))
    found = ParallelTempering(conjugate, num_sweeps=64).run(y)
    assert abs(found.log_z - truth) < 4.0 * found.std_error
    assert found.reliable, found.why
    band = 4.0 / math.sqrt(5.25 * found.ess)
    assert abs(float(found.positions.mean()) - float(y.sum()) / 5.25) < band


def test_draws_of_the_base_outside_of_the_support_are_lost():
    model = EnergyDistribution(lambda x: 0.0 * x, (), support=constraints.interval(-1.0, 1.0))
    found = small(model, dist.Normal(0.0, 1.0, validate_args=False), num_sweeps=64)
    for way in ("forward", "reverse"):
        log_z, error = found.details[way].values()
        assert abs(log_z - math.log(2.0)) < 4.0 * error
    assert abs(found.log_z - math.log(2.0)) < 4.0 * found.std_error


def test_without_a_check_backwards_nothing_is_reliable():
    case = normaliser("double_well_0.5_1.0")
    found = small(case.model, normal_base(1, scale=1.5), num_sweeps=32)
    assert not found.reliable


def test_a_seed_repeats_a_run_and_two_runs_differ():
    run = ParallelTempering(
        normaliser("double_well_0.5_1.0").model,
        base=normal_base(1, scale=1.5),
        num_sweeps=8,
        num_ladders=4,
        reverse=False,
    )
    pyro.set_rng_seed(5)
    first, second = run.run(), run.run()
    pyro.set_rng_seed(5)
    again = run.run()
    assert first.log_z == again.log_z
    assert first.log_z != second.log_z


@pytest.mark.slow
def test_the_error_of_a_run_is_the_spread_of_repeats():
    case = normaliser("double_well_0.5_1.0")
    settings = {"num_ladders": 16, "num_sweeps": 32, "num_temperatures": 6}
    runs = [small(case.model, normal_base(1, scale=1.5), **settings) for _ in range(60)]
    deviation = torch.tensor([(found.log_z - case.log_z) / found.std_error for found in runs])
    assert 0.8 < float(deviation.std()) < 1.25


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gaussian_20d", "student_t_3", "double_well_1.0_3.0", "mixture_40_box"]
)
def test_with_a_base_of_its_own_no_estimate_is_both_wrong_and_reliable(name):
    case = normaliser(name)
    found = ParallelTempering(case.model).run()
    wrong = abs(found.log_z - case.log_z) > 4.0 * math.hypot(found.std_error, case.log_z_error)
    assert not (wrong and found.reliable), found.why
    assert not wrong or name == "mixture_40_box"
