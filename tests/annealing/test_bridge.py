"""Bridge sampling is right within its error, which is calibrated, or says what is wrong."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm import MCMC, NUTS, Target, bridge_sampling
from tests.mcmc.records import made_up
from tests.models.normalisers import normaliser

DIM, LOG_Z = 3, 2.5
REPEATS = 60


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)


def log_density(x):
    """x = sinh(y), y standard normal, times exp(LOG_Z): heavy tails and a known normaliser."""
    y = torch.asinh(x)
    each = -0.5 * y.square() - 0.5 * math.log(2 * math.pi) - 0.5 * torch.log1p(x.square())
    return each.sum(-1) + LOG_Z


def sinh_target():
    return Target.from_energy(lambda x: -log_density(x), event_shape=(DIM,))


def chains_of(chains, draws, correlation=0.5):
    """Stationary chains of that target: autoregressive in y."""
    y = torch.randn(chains, DIM)
    kept = []
    for _ in range(draws):
        noise = math.sqrt(1 - correlation**2) * torch.randn(chains, DIM)
        y = correlation * y + noise
        kept.append(y.sinh())
    return torch.stack(kept, dim=1)


def finished(target, positions, **statistics):
    """An MCMC that has these draws."""
    mcmc = MCMC(NUTS(target), num_samples=positions.shape[1], disable_progbar=True)
    flat, _ = target.log_density_and_gradient(positions.flatten(0, 1).T.contiguous())
    lp = flat.reshape(positions.shape[:2])
    mcmc._record = made_up(target, positions, statistics={"lp": lp, **statistics})
    return mcmc


@pytest.mark.parametrize(
    "name",
    [
        "gp_regr",
        "double_well_0.5_1.0",
        pytest.param("eight_schools", marks=pytest.mark.slow),
        pytest.param("gaussian_20d", marks=pytest.mark.slow),
        pytest.param("german_credit", marks=pytest.mark.slow),
    ],
)
def test_log_z_of_a_known_target_is_right_within_its_error(name):
    case = normaliser(name)
    kernel = NUTS(case.model)
    mcmc = MCMC(kernel, num_samples=300, warmup_steps=200, num_chains=16, disable_progbar=True)
    mcmc.run(*case.args)
    estimate = bridge_sampling(mcmc)
    assert estimate.reliable, estimate.why
    assert abs(estimate.log_z - case.log_z) < 4 * math.hypot(estimate.std_error, case.log_z_error)
    assert estimate.std_error < 0.05


def test_a_normalised_distribution_has_log_z_zero():
    def model():
        pyro.sample("x", dist.Gamma(3.0, 2.0))

    mcmc = MCMC(NUTS(model), num_samples=200, warmup_steps=200, num_chains=16, disable_progbar=True)
    mcmc.run()
    estimate = bridge_sampling(mcmc)
    assert abs(estimate.log_z) < 4 * estimate.std_error < 0.1


# By chains; by the halves of each; and so short that only the chains' means tell.
@pytest.mark.parametrize(
    ("chains", "draws"),
    [
        pytest.param(8, 100, marks=pytest.mark.slow),
        pytest.param(2, 300, marks=pytest.mark.slow),
        pytest.param(40, 20, marks=pytest.mark.slow),
    ],
)
def test_the_error_is_calibrated(chains, draws):
    target = sinh_target()
    scores = []
    for _ in range(REPEATS):
        estimate = bridge_sampling(finished(target, chains_of(chains, draws)))
        scores.append((estimate.log_z - LOG_Z) / estimate.std_error)
    scores = torch.tensor(scores)
    assert abs(scores.mean()) < 4 * scores.std() / math.sqrt(REPEATS)
    assert 0.75 < scores.std() < 1.3


def test_draws_that_count_as_independent_would_give_too_small_an_error():
    target = sinh_target()
    estimate = bridge_sampling(finished(target, chains_of(8, 200, correlation=0.9)))
    free = bridge_sampling(finished(target, chains_of(8, 200, correlation=0.0)))
    assert estimate.ess < 0.4 * free.ess
    assert estimate.std_error > 1.2 * free.std_error


def test_a_constant_in_the_density_is_a_constant_in_log_z():
    mcmc = finished(sinh_target(), chains_of(8, 100))
    raised = Target.from_energy(lambda x: -log_density(x) - 30.0, event_shape=(DIM,))
    higher = finished(raised, mcmc.record.positions)
    pyro.set_rng_seed(3)
    first = bridge_sampling(mcmc)
    pyro.set_rng_seed(3)
    second = bridge_sampling(higher)
    assert second.log_z == pytest.approx(first.log_z + 30.0, abs=1e-6)
    assert second.std_error == pytest.approx(first.std_error, rel=1e-4)


def test_a_seed_repeats_it_and_another_does_not():
    mcmc = finished(sinh_target(), chains_of(8, 100))
    found = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        found.append(bridge_sampling(mcmc).log_z)
    assert found[0] == found[1] != found[2]


def test_the_result_holds_the_draws_and_both_works():
    mcmc = finished(sinh_target(), chains_of(8, 100))
    estimate = bridge_sampling(mcmc, num_draws=400)
    assert estimate.num_particles == 400
    assert estimate.positions.shape == (DIM, 400)
    assert len(estimate.backward.works) == len(estimate.details["forward_works"]) == 400
    assert set(estimate.draws()) == {"x"}
    with pytest.raises(ValueError, match="this one by bridge sampling has not"):
        estimate.bounds()
    kept = {tuple(row.tolist()) for row in mcmc.record.positions.flatten(0, 1)}
    assert all(tuple(row.tolist()) in kept for row in estimate.positions.T)


def test_separate_modes_are_not_reliable():
    means = torch.tensor([[-30.0], [30.0]])
    target = Target.from_energy(
        lambda x: -(-0.5 * (x - means).square().sum(-1)).logsumexp(0), event_shape=(1,)
    )
    positions = torch.randn(8, 200, 1)
    positions[:3] += 30.0
    positions[3:] -= 30.0
    estimate = bridge_sampling(finished(target, positions))
    assert not estimate.reliable
    assert "separate groups" in estimate.why


def test_divergences_are_not_reliable():
    positions = chains_of(8, 100)
    diverging = torch.zeros(8, 100)
    diverging[:, ::50] = 1.0
    estimate = bridge_sampling(finished(sinh_target(), positions, diverging=diverging))
    assert not estimate.reliable
    assert "diverged" in estimate.why


def test_few_short_chains_are_not_reliable():
    estimate = bridge_sampling(finished(sinh_target(), chains_of(4, 20)))
    assert not estimate.reliable
    assert "too short and too few" in estimate.why


def test_a_density_unlike_any_proposal_is_not_reliable():
    # A thin ring: draws of it fit a broad blob that hardly meets it.
    target = Target.from_energy(lambda x: 2e5 * (x.norm() - 1.0).square(), event_shape=(12,))
    directions = torch.randn(16, 200, 12)
    radii = 1.0 + torch.randn(16, 200, 1) / math.sqrt(4e5)
    positions = radii * directions / directions.norm(dim=-1, keepdim=True)
    estimate = bridge_sampling(finished(target, positions))
    assert not estimate.reliable
    assert "overlap" in estimate.why


def test_what_is_no_finished_run_is_refused():
    with pytest.raises(TypeError):
        bridge_sampling(3)
    with pytest.raises(RuntimeError, match="call run"):
        bridge_sampling(MCMC(NUTS(sinh_target()), num_samples=5))


def test_a_run_whose_density_lacks_log_z_is_refused():
    def energy(x, coupling):
        return -coupling * (x[1:] * x[:-1]).sum()

    def model(x):
        coupling = pyro.sample("coupling", dist.Normal(0.0, 0.5))
        site = ebm.EnergyDistribution(energy, (4,), support=ebm.spin, params=(coupling,))
        pyro.sample("x", site, obs=x)

    for exact in (True, False):
        kernel = ebm.Exchange(model, exact=exact)
        mcmc = MCMC(kernel, 20, 20, num_chains=4, disable_progbar=True)
        mcmc.run(torch.tensor([1.0, 1.0, -1.0, 1.0]))
        with pytest.raises(TypeError, match=r"lacks log Z.*log_normalizer=.*NUTS.*AIS"):
            bridge_sampling(mcmc)


def test_a_run_without_whole_positions_is_refused():
    def model():
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0))

    mcmc = MCMC(NUTS(model), 20, 20, num_chains=4, sites=["a"], disable_progbar=True)
    mcmc.run()
    with pytest.raises(ValueError, match="expected a run that kept all 2 coordinates, got one"):
        bridge_sampling(mcmc)


def test_numbers_of_draws_that_make_no_sense_are_refused():
    mcmc = finished(sinh_target(), chains_of(4, 20))
    for wrong in (0, -1, True):
        with pytest.raises(ValueError, match="num_draws"):
            bridge_sampling(mcmc, num_draws=wrong)
    with pytest.raises(ValueError, match="expected at least 24 draws for 3 coordinates"):
        bridge_sampling(mcmc, num_draws=8)


def test_it_is_a_public_name():
    assert ebm.bridge_sampling is bridge_sampling
