"""Annealed importance sampling against exact normalisers, and whether it knows when it is wrong."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm
from pyro_ebm.annealing.moves import HMCMoves, Mover
from pyro_ebm.annealing.passes import forward
from pyro_ebm.annealing.path import geometric
from pyro_ebm.annealing.weights import log_mean_exp
from tests.models.normalisers import normaliser

from .paths import constant_tuning, normal_base
from .skewed import COUNTS, PRIOR_SD, counts, skewed_case

QUICK = ["student_t_1", "eight_schools"]
SLOW = [
    "double_well_0.5_1.0",
    "mueller_brown_25",
    "funnel_10d",
    "gaussian_20d",
    "student_t_3",
    "double_well_2.0_3.0",
    "many_well_32d",
    "mixture_40_box",
    "mixture_40_plane",
    "phi4_ring_16",
    "mueller_brown_10",
    "eight_schools_centred",
    "radiata_pine_m1",
    "pima_indian_m1",
    "diabetes",
    "gp_regr",
    "german_credit",
    "german_credit_wide",
    "brownian_motion_unknown_scales",
    "galaxy_k4_unequal",
]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def run(case, **options):
    base = {} if case.base is None else {"base": case.base}
    return ebm.AIS(case.model, **base, **options).run(*case.args)


def check(name):
    case = normaliser(name)
    estimate = run(case)
    error = math.hypot(estimate.std_error, case.log_z_error)
    assert abs(estimate.log_z - case.log_z) < 4 * error
    assert estimate.std_error <= case.most_error
    return estimate


@pytest.mark.parametrize("name", QUICK)
def test_a_known_normaliser_lies_within_four_errors(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_known_normaliser_of_the_suite_lies_within_four_errors(name):
    check(name)


def two_modes(x):
    """Standard normals at -4 and 4, the right one three times as heavy: Z = 4 sqrt(2 pi)."""
    left, right = -0.5 * (x + 4).square(), math.log(3.0) - 0.5 * (x - 4).square()
    return -torch.logaddexp(left, right)


TWO_MODES = math.log(4.0) + 0.5 * math.log(2 * math.pi)


def two_modes_draws(n):
    return torch.where(torch.rand(n) < 0.75, 4.0, -4.0) + torch.randn(n)


def test_a_base_that_meets_one_mode_is_found_out_by_exact_draws():
    energy = ebm.as_energy(two_modes, event_shape=())
    estimate = ebm.AIS(
        energy,
        base=dist.Normal(-4.0, 0.3),
        num_particles=512,
        schedule=ebm.Linear(4),
        reverse=ebm.ExactDraws(two_modes_draws(512)),
    ).run()
    assert not estimate.reliable
    assert "missed a region" in estimate.why or "too narrow" in estimate.why


@pytest.mark.slow
def test_a_wider_base_mends_it():
    energy = ebm.as_energy(two_modes, event_shape=())
    estimate = ebm.AIS(energy, base=dist.Normal(0.0, 6.0)).run()
    assert estimate.reliable, estimate.why
    assert abs(estimate.log_z - TWO_MODES) < 4 * estimate.std_error


@pytest.mark.parametrize(
    "scale", [pytest.param(scale, marks=pytest.mark.slow) for scale in (0.05, 0.3)]
)
def test_a_base_far_too_narrow_is_never_wrong_and_reliable(scale):
    case = normaliser("gaussian_20d")
    narrow = dist.Normal(0.0, scale * 0.01).expand([20]).to_event(1)
    estimate = ebm.AIS(case.model, base=narrow, schedule=ebm.Linear(5)).run()
    wrong = abs(estimate.log_z - case.log_z) > 4 * estimate.std_error
    assert not (wrong and estimate.reliable)


@pytest.mark.slow
def test_tails_heavier_than_the_base_are_never_wrong_and_reliable():
    case = normaliser("student_t_1")
    estimate = ebm.AIS(case.model, base=dist.Normal(0.0, 1.0), schedule=ebm.Linear(2)).run()
    wrong = abs(estimate.log_z - case.log_z) > 4 * estimate.std_error
    assert not (wrong and estimate.reliable)


def test_sixteen_particles_are_told_to_be_few():
    estimate = ebm.AIS(conjugate, num_particles=16).run(torch.zeros(3))
    assert not estimate.reliable
    assert "fewer than 100" in estimate.why


def test_nan_regions_are_named():
    def energy(x):
        return torch.where(x > 1.0, torch.nan, 0.5 * x.square())

    estimate = ebm.AIS(ebm.as_energy(energy, event_shape=()), base=dist.Normal(0.0, 1.5)).run()
    assert not estimate.reliable
    assert "NaN" in estimate.why


def test_a_base_that_misses_the_support_gives_no_number():
    energy = ebm.as_energy(lambda x: x.square(), event_shape=(), support=constraints.interval(3, 4))
    estimate = ebm.AIS(energy, base=dist.Normal(-30.0, 1.0)).run()
    assert estimate.log_z == -math.inf
    assert not estimate.reliable
    assert "support" in estimate.why


def test_a_forward_estimate_alone_is_not_called_reliable():
    estimate = ebm.AIS(conjugate, reverse=False).run(torch.zeros(3))
    assert not estimate.reliable
    assert estimate.backward is None
    assert "Not contradicted" in estimate.why


def conjugate(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def evidence(y):
    covariance = torch.eye(len(y)) + 1.0
    return float(dist.MultivariateNormal(torch.zeros(len(y)), covariance).log_prob(y))


def test_draws_that_generated_the_data_bound_the_evidence_from_above():
    """For simulated data the latents that generated them are one exact draw of the posterior."""
    mu = torch.randn(())
    y = mu + torch.randn(6)
    exact = ebm.ExactDraws({"mu": mu.expand(1)})
    estimate = ebm.AIS(conjugate, reverse=exact).run(y)
    assert estimate.backward is not None
    assert estimate.backward.exact
    low, high = estimate.bounds(0.998)
    assert low < evidence(y) < high


def guide(y):
    pyro.sample("mu", dist.Normal(0.3, 0.7))


BASES = {
    "a distribution of the value": lambda y: dist.Normal(0.0, 1.0),
    "a distribution of the coordinates": lambda y: dist.Normal(0.0, 1.0).expand([1]).to_event(1),
    "a guide": lambda y: guide,
    "a run": lambda y: finished(y),
    "an autoguide": lambda y: trained(y),
}


def finished(y):
    mcmc = ebm.MCMC(ebm.NUTS(conjugate), 100, num_chains=8, disable_progbar=True)
    mcmc.run(y)
    return mcmc


def trained(y):
    found = pyro.infer.autoguide.AutoDiagonalNormal(conjugate, init_scale=0.6)
    found(y)
    return found


@pytest.mark.parametrize("name", BASES)
def test_every_kind_of_base_gives_the_same_evidence(name):
    y = torch.tensor([0.3, -0.4, 1.1, 0.8])
    estimate = ebm.AIS(conjugate, base=BASES[name](y), num_particles=512).run(y)
    assert abs(estimate.log_z - evidence(y)) < 4 * estimate.std_error


def test_the_prior_is_chosen_where_it_is_near():
    y = torch.tensor([0.3, -0.4])
    assert ebm.AIS(conjugate).run(y).details["base"] == "the model's prior"


MOVES = {
    "mala": ebm.HMCMoves(num_steps=1),
    "nuts": ebm.NUTSMoves(max_tree_depth=3),
    "bounded nuts": ebm.NUTSMoves(max_tree_depth=1, target_acceptance=0.999),
}


@pytest.mark.parametrize("name", MOVES)
def test_every_kernel_gives_the_same_evidence(name):
    y = torch.tensor([0.3, -0.4, 1.1, 0.8])
    estimate = ebm.AIS(conjugate, base=dist.Normal(0.0, 2.0), moves=MOVES[name], reverse=False).run(
        y
    )
    assert abs(estimate.log_z - evidence(y)) < 4 * estimate.std_error


def test_temperature_is_respected():
    """exp(-x^2 / (2 T)) has Z = sqrt(2 pi T)."""
    energy = ebm.as_energy(lambda x: 0.5 * x.square(), event_shape=())
    estimate = ebm.AIS(ebm.EnergyDistribution(energy, temperature=3.0)).run()
    assert abs(estimate.log_z - 0.5 * math.log(6 * math.pi)) < 4 * estimate.std_error + 1e-9


def test_a_known_normaliser_does_not_enter():
    estimate = ebm.AIS(
        ebm.EnergyDistribution(ebm.DiagonalGaussian(torch.zeros(2), torch.ones(2)))
    ).run()
    assert abs(estimate.log_z - math.log(2 * math.pi)) < 4 * estimate.std_error + 1e-9


def test_an_estimate_makes_a_normalised_distribution():
    energy = ebm.as_energy(lambda x: 0.5 * x.square(), event_shape=())
    estimate = ebm.AIS(energy).run()
    known = ebm.EnergyDistribution(energy, log_normalizer=estimate)
    assert known.normalized
    assert float(known.log_prob(torch.zeros(()))) == pytest.approx(-estimate.log_z)


def test_a_seed_repeats_an_estimate():
    y = torch.tensor([0.3, -0.4])
    found = []
    for _ in range(2):
        pyro.set_rng_seed(3)
        found.append(ebm.AIS(conjugate, reverse=False, num_particles=256).run(y).log_z)
    assert found[0] == found[1]
    assert ebm.AIS(conjugate, reverse=False, num_particles=256).run(y).log_z != found[0]


def test_ctrl_c_gives_what_there_is_and_says_so(monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyro_ebm.annealing.rounds.forward", interrupt)
    y = torch.tensor([0.3, -0.4])
    estimate = ebm.AIS(conjugate).run(y)
    assert not estimate.reliable
    assert "interrupted" in estimate.why
    assert abs(estimate.log_z - evidence(y)) < 0.5


def test_a_base_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="expected a base over"):
        ebm.AIS(conjugate, base=dist.Normal(torch.zeros(3), 1.0)).run(torch.zeros(2))


def few_particles(scale, repeats, particles, *, factor=1.0):
    """log Z of tiny runs with everything fixed beforehand, on exp(-x^2 / 2) from a wide base."""
    target = ebm.Target.from_energy(ebm.as_energy(lambda x: 0.5 * x.square(), event_shape=()))
    mover = Mover(geometric(target, normal_base(1, scale=scale, factor=factor)), HMCMoves(2))
    betas = [0.0, 0.2, 0.5, 1.0]
    generator = torch.Generator().manual_seed(int(torch.randint(2**30, ())))
    found = forward(mover, betas, constant_tuning(1), repeats * particles, generator)
    weights = found.log_weights.reshape(repeats, particles)
    return torch.stack([log_mean_exp(each) for each in weights])


def exceeds_one(log_ratios):
    """How many errors the mean of Z / truth lies from one."""
    ratio = log_ratios.exp()
    assert float(ratio.var()) < 0.05
    return abs(float(ratio.mean()) - 1.0) / (float(ratio.std()) / math.sqrt(len(ratio)))


def test_the_mean_of_z_is_the_truth_whatever_the_number_of_particles():
    truth = 0.5 * math.log(2 * math.pi)
    assert exceeds_one(few_particles(2.0, 2000, 16) - truth) < 4


def test_a_skewed_posterior_has_the_evidence_of_quadrature():
    case = skewed_case()
    mover = Mover(geometric(case.target, normal_base(1, scale=PRIOR_SD)), HMCMoves(2))
    generator = torch.Generator().manual_seed(7)
    betas = [0.0, 0.05, 0.2, 0.5, 1.0]
    found = forward(mover, betas, constant_tuning(1, 1.0), 64 * 500, generator).log_weights
    assert (
        exceeds_one(torch.stack([log_mean_exp(each) for each in found.chunk(500)]) - case.log_z) < 4
    )
    whole = ebm.AIS(counts, num_particles=512, reverse=False).run(COUNTS)
    assert abs(whole.log_z - case.log_z) < 4 * whole.std_error


def test_a_base_wrong_by_three_percent_is_caught():
    truth = 0.5 * math.log(2 * math.pi)
    assert exceeds_one(few_particles(2.0, 2000, 16, factor=1.03) - truth) > 4


UNFIT = {
    "its normaliser is not known": lambda: ebm.EnergyDistribution(lambda x: 0.25 * x.square(), ()),
    "discrete": lambda: dist.Poisson(1.0),
    "no density": lambda: dist.Delta(torch.tensor(0.0)),
    "masked": lambda: dist.Normal(0.0, 1.0).mask(False),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_base_that_does_not_weigh_as_it_draws_is_refused(reason):
    with pytest.raises(ValueError, match=reason):
        ebm.AIS(ebm.DiagonalGaussian(torch.zeros(()), torch.ones(())), base=UNFIT[reason]()).run()


@pytest.mark.parametrize("kind", ["scaled", "factor"])
def test_a_guide_that_does_not_weigh_as_it_draws_is_refused(kind):
    def guide(y):
        with pyro.poutine.scale(scale=0.5 if kind == "scaled" else 1.0):
            pyro.sample("mu", dist.Normal(0.0, 1.0))
        if kind == "factor":
            pyro.factor("extra", torch.tensor(3.0), has_rsample=False)

    with pytest.raises(ValueError, match="weighs as it draws"):
        ebm.AIS(conjugate, base=guide).run(torch.tensor([0.3]))


@pytest.mark.parametrize(("a", "b", "seen"), [(1.0, 0.02, False), (0.5, 0.5, True)])
def test_mass_that_numbers_round_to_the_border_is_told(a, b, seen):
    """Of Beta(1, 0.02) half the mass lies within 1e-16 of one, where numbers are one."""
    estimate = ebm.AIS(lambda: pyro.sample("p", dist.Beta(a, b))).run()
    assert estimate.reliable == seen
    assert ("border" in estimate.why) == (not seen)
    assert (abs(estimate.log_z) < 4 * estimate.std_error) == seen


def test_a_masked_prior_is_not_drawn_from():
    def model():
        m = pyro.sample("m", dist.Normal(0.0, 1.0).mask(False))
        pyro.sample("y", dist.Normal(m, 1.0), obs=torch.tensor(1.0))

    estimate = ebm.AIS(model).run()
    assert abs(estimate.log_z) < 4 * estimate.std_error
    assert estimate.reliable
