"""Sequential Monte Carlo against closed forms: its mean, its error, its weights, its islands."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_ebm import SMC, EnergyDistribution, ExactDraws, Linear
from pyro_ebm.annealing import Adaptive, islands
from pyro_ebm.annealing.islands import Islands, anneal, reweighted
from pyro_ebm.annealing.moves import HMCMoves, Mover
from pyro_ebm.annealing.path import geometric
from pyro_ebm.annealing.weights import log_mean_exp
from tests.models.normalisers import normaliser

from .paths import constant_tuning, normal_base
from .skewed import PRIOR_SD, skewed_case

REPEATS = 250


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def repeats(case, base, group, *, num_temperatures=8, step_size=0.5):
    """log Z - truth, and the error reported, of frozen runs [REPEATS] each.

    Islands never meet, so that one run with the islands of all is all of them at once.
    """
    mover = Mover(geometric(case.target, base), HMCMoves())
    tuning = constant_tuning(case.target.dim, step_size)
    betas = torch.linspace(0.0, 1.0, num_temperatures + 1).tolist()
    generator = torch.Generator().manual_seed(3)
    many = group._replace(num_islands=REPEATS * group.num_islands)
    every = anneal(mover, betas, tuning, many, generator)
    parts = zip(every.log_z.chunk(REPEATS), every.relative_variance.chunk(REPEATS), strict=True)
    found = [every._replace(log_z=z, relative_variance=v).estimate for z, v in parts]
    estimate, error = torch.tensor(found).T
    return estimate - case.log_z, error


def is_unbiased(deviation) -> bool:
    """Whether the mean of exp(log Z - truth) is one; false too where its error cannot be told."""
    ratio = deviation.exp()
    if float(ratio.var()) > 0.05:
        return False
    return abs(float(ratio.mean()) - 1.0) < 4.0 * float(ratio.std()) / math.sqrt(len(ratio))


GROUPS = {
    "seldom resampled": Islands(8, 32, 0.5),
    "never resampled": Islands(4, 64, 0.0),
    "always resampled": Islands(8, 32, 1.0),
    "one island": Islands(1, 256, 1.0),
    "waste-free": Islands(8, 32, 0.5, 4),
}


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_z_is_unbiased_and_its_error_is_the_spread_of_repeats(group):
    case = normaliser("double_well_0.5_1.0")
    deviation, error = repeats(case, normal_base(1, scale=1.5), group)
    assert is_unbiased(deviation)
    assert 0.8 < float((deviation / error).std()) < 1.25


def test_a_base_that_is_not_normalised_is_caught():
    case = normaliser("double_well_0.5_1.0")
    wrong = normal_base(1, scale=1.5, factor=1.05)
    assert not is_unbiased(repeats(case, wrong, GROUPS["seldom resampled"])[0])


# Particles that hardly move keep weights that matter; with none resampled nothing hides it.
UNEQUAL = {
    "double well": (
        lambda: normaliser("double_well_0.5_1.0"),
        normal_base(1),
        Islands(4, 64, 0.0),
        1e-3,
    ),
    "skewed": (skewed_case, normal_base(1, scale=PRIOR_SD), Islands(4, 128, 0.2), 0.02),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_increments_of_unequal_weights_are_weighted(name, monkeypatch):
    make, base, group, step_size = UNEQUAL[name]
    case, setting = make(), {"num_temperatures": 3, "step_size": step_size}
    assert is_unbiased(repeats(case, base, group, **setting)[0])

    def unweighted(log_weights, increments):
        return reweighted(log_weights, increments)[0], torch.stack(
            [log_mean_exp(row) for row in increments]
        )

    monkeypatch.setattr(islands, "reweighted", unweighted)
    assert not is_unbiased(repeats(case, base, group, **setting)[0])


@pytest.mark.parametrize("group", [GROUPS["seldom resampled"], GROUPS["always resampled"]])
def test_a_skewed_posterior_has_the_evidence_of_quadrature(group):
    base = normal_base(1, scale=PRIOR_SD)
    deviation, error = repeats(skewed_case(), base, group)
    assert is_unbiased(deviation)
    assert 0.8 < float((deviation / error).std()) < 1.25


def test_normalised_weights_and_increments_by_hand():
    weights = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    growth = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    new, total = reweighted(weights.log(), growth.log())
    torch.testing.assert_close(total, torch.tensor([2.0, 0.0]).log())
    torch.testing.assert_close(new[0].exp(), torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(new[1].exp(), weights[1])


def test_resampling_rounds_expected_numbers_and_stays_on_the_island():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(3, 50, generator=generator).softmax(1)
    uneven = torch.tensor([True, False, True])
    chosen = islands._ancestors(weights.log(), 50, uneven, generator)
    for row in (0, 2):
        counts = torch.bincount(chosen[row], minlength=50)
        assert bool(((counts - 50 * weights[row]).abs() < 1.0).all())
    assert chosen[1].tolist() == list(range(50))
    positions = torch.arange(150.0)[None]
    taken = islands._take(positions, chosen).reshape(3, 50)
    assert bool((taken // 50 == torch.arange(3)[:, None]).all())


CASES = {
    "double_well_1.0_3.0": normal_base(1, scale=1.5),
    "double_well_2.0_1.0": normal_base(1, scale=1.5),
    "student_t_3": normal_base(1, scale=5.0),
}


@pytest.mark.parametrize("schedule", [None, Adaptive(), Linear(20)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_log_z_is_within_its_error_of_closed_forms(name, schedule):
    case = normaliser(name)
    found = SMC(case.model, base=CASES[name], schedule=schedule, reverse=False).run()
    assert 0.0 < found.std_error < 0.1
    assert abs(found.log_z - case.log_z) < 4.0 * found.std_error


def test_the_adaptive_schedule_keeps_the_conditional_ess():
    case = normaliser("double_well_1.0_3.0")
    schedule = Adaptive(conditional_ess=0.8)
    run = SMC(case.model, base=normal_base(1, scale=3.0), schedule=schedule, reverse=False)
    barrier = run.run().path["barrier"]
    allowed = math.sqrt(-math.log(0.8))
    assert all(abs(step - allowed) < 1e-6 for step in barrier[:-1])
    assert barrier[-1] <= allowed


def conjugate(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def test_a_model_has_its_evidence_its_posterior_and_a_check_backwards():
    y = torch.tensor([0.3, 1.1, 0.7, 2.0, 1.4])
    covariance = torch.eye(5) + 4.0
    truth = float(dist.MultivariateNormal(torch.zeros(5), covariance).log_prob(y))
    found = SMC(conjugate).run(y)
    assert abs(found.log_z - truth) < 4.0 * found.std_error
    assert found.reliable
    assert found.backward is not None
    precision = 0.25 + 5.0
    draws = found.draws(1000)["mean"]
    band = 4.0 / math.sqrt(precision * found.ess)
    assert abs(float(draws.mean()) - float(y.sum()) / precision) < band


def test_particles_of_a_waste_free_run_are_weighted_draws():
    model = EnergyDistribution(lambda x: 0.5 * (x - 1.0).square().sum(), (2,))
    run = SMC(model, base=normal_base(2, scale=2.0), waste_free=True, reverse=False)
    found = run.run()
    assert found.positions.shape == (2, 1024)
    assert found.details["resamplings"] == found.details["num_temperatures"] - 1
    assert abs(found.log_z - math.log(2 * math.pi)) < 4.0 * found.std_error
    mean = found.positions @ found.log_weights.softmax(0)
    # Chains of eight are worth one draw at least.
    assert bool(((mean - 1.0).abs() < 4.0 / math.sqrt(1024 / 8)).all())


def test_draws_of_the_base_outside_of_the_support_are_lost():
    model = EnergyDistribution(lambda x: 0.0 * x, (), support=constraints.interval(-1.0, 1.0))
    base = dist.Normal(0.0, 1.0, validate_args=False)
    found = SMC(model, base=base, reverse=False).run()
    assert abs(found.log_z - math.log(2.0)) < 4.0 * found.std_error


def test_without_a_check_backwards_nothing_is_reliable():
    found = SMC(
        normaliser("double_well_0.5_1.0").model, base=normal_base(1, scale=1.5), reverse=False
    ).run()
    assert not found.reliable
    assert "Not contradicted" in found.why


def test_exact_draws_make_the_estimate_from_backwards_a_bound():
    model = EnergyDistribution(lambda x: 0.5 * x.square().sum(), (2,))
    draws = ExactDraws(torch.randn(400, 2))
    found = SMC(model, base=normal_base(2, scale=1.5), reverse=draws).run()
    low, high = found.bounds(0.999)
    assert low < math.log(2 * math.pi) < high


def test_markov_bounds_nothing_that_a_run_has_adapted_to_itself():
    model = EnergyDistribution(lambda x: 0.5 * x.square().sum(), (2,))
    draws = ExactDraws(torch.randn(400, 2))
    run = SMC(model, base=normal_base(2, scale=1.5), schedule=Adaptive(), reverse=draws)
    with pytest.raises(ValueError, match="this one by SMC has not"):
        run.run().bounds()


def test_a_base_that_misses_a_mode_is_not_reliable():
    model = EnergyDistribution(lambda x: 0.5 * (x.abs() - 6.0).square(), ())
    exact = torch.randn(400) + 6.0 * torch.sign(torch.randn(400))
    found = SMC(model, base=normal_base(1, loc=6.0), reverse=ExactDraws(exact)).run()
    assert abs(found.log_z - math.log(2.0) - 0.5 * math.log(2 * math.pi)) > 4.0 * found.std_error
    assert not found.reliable


def test_a_seed_repeats_a_run_and_two_runs_differ():
    run = SMC(
        normaliser("double_well_0.5_1.0").model, base=normal_base(1, scale=1.5), reverse=False
    )
    pyro.set_rng_seed(5)
    first, second = run.run(), run.run()
    pyro.set_rng_seed(5)
    again = run.run()
    assert first.log_z == again.log_z
    assert first.log_z != second.log_z


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gaussian_20d", "student_t_3", "double_well_1.0_3.0", "mixture_40_box"]
)
def test_with_a_base_of_its_own_no_estimate_is_both_wrong_and_reliable(name):
    case = normaliser(name)
    found = SMC(case.model).run()
    wrong = abs(found.log_z - case.log_z) > 4.0 * math.hypot(found.std_error, case.log_z_error)
    assert not (wrong and found.reliable), found.why
    assert not wrong or name == "mixture_40_box"
