"""The exchange algorithm: its law against quadrature and enumeration, and what it refuses."""

import itertools

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm import draws_by_params
from pyro_ebm.mcmc.api import sentences
from pyro_ebm.mcmc.api.record import RunRecord
from pyro_ebm.mcmc.exchange import exchange
from pyro_ebm.mcmc.kernel import Noise, Settings
from pyro_ebm.mcmc.metric import DenseMetric
from tests.models.graphs import SEVEN

SPINS = torch.tensor([[1.0, 1, -1], [1, 1, 1]], dtype=torch.float64)

# Sampled from the Ising model at J = 0.3; the posterior of J under a uniform prior on (0, 1) by
# quadrature over the enumerated density of states of the 4x4 torus (2^16 configurations).
TORUS = torch.ones(4, 4, dtype=torch.float64)
TORUS[2, 2] = -1.0
TORUS_MEAN, TORUS_SD = 0.4727751637571229, 0.1528001865293836

# All 2^21 graphs of 7 nodes listed, quadrature under independent N(0, 2^2) priors.
GRAPH = torch.tensor(SEVEN, dtype=torch.float64)
GRAPH_MEANS, GRAPH_SDS = (1.8213421869649706, -0.5716226586058577), (1.47806845, 0.37954512)


class HiddenIsing(ebm.Ising):
    """An Ising model that does not tell its log Z."""

    def _log_z(self, temperature):
        return None


def chain_of_three(x, coupling, field):
    return -coupling * (x[1:] * x[:-1]).sum() - field * x.sum()


def by_params(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    field = pyro.sample("field", dist.Normal(0.0, 1.0))
    with pyro.plate("n", len(x)):
        energy = ebm.EnergyDistribution(
            chain_of_three, (3,), support=ebm.spin, params=(coupling, field)
        )
        pyro.sample("x", energy, obs=x)


def built_inside(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    field = pyro.sample("field", dist.Normal(0.0, 1.0))
    energy = HiddenIsing.lattice((3,), coupling, field, periodic=False)
    with pyro.plate("n", len(x)):
        pyro.sample("x", ebm.EnergyDistribution(energy), obs=x)


def two_sites(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    field = pyro.sample("field", dist.Normal(0.0, 1.0))
    for number, row in enumerate(x):
        energy = HiddenIsing.lattice((3,), coupling, field, periodic=False)
        pyro.sample(f"x{number}", ebm.EnergyDistribution(energy), obs=row)


def torus(x):
    coupling = pyro.sample("coupling", dist.Uniform(0.0, 1.0))
    pyro.sample("x", ebm.EnergyDistribution(HiddenIsing.lattice((4, 4), coupling)), obs=x)


def graph_model(adjacency):
    edges = pyro.sample("edges", dist.Normal(0.0, 2.0))
    two_stars = pyro.sample("two_stars", dist.Normal(0.0, 2.0))
    graph = ebm.ExponentialRandomGraph(7, edges=edges, two_stars=two_stars)
    pyro.sample("x", ebm.EnergyDistribution(graph), obs=graph.configuration(adjacency))


def quadrature():
    """Mean and sd of coupling and field of the three spins, on a grid."""
    grid = torch.linspace(-6, 6, 601, dtype=torch.float64)
    coupling, field = torch.meshgrid(grid, grid, indexing="ij")

    def log_f(x):
        return -chain_of_three(x, coupling, field)

    every = [torch.tensor(x) for x in itertools.product([-1.0, 1.0], repeat=3)]
    log_z = torch.stack([log_f(x) for x in every]).logsumexp(0)
    log_p = sum(log_f(x) - log_z for x in SPINS) - 0.5 * (coupling.square() + field.square())
    weights = (log_p - log_p.max()).exp()
    weights = weights / weights.sum()
    found = {}
    for name, value in (("coupling", coupling), ("field", field)):
        mean = float((weights * value).sum())
        found[name] = (mean, float((weights * (value - mean).square()).sum().sqrt()))
    return found


def run(kernel, *args, num_samples, num_chains=64, warmup_steps=150):
    pyro.set_rng_seed(7)
    mcmc = ebm.MCMC(
        kernel,
        num_samples=num_samples,
        warmup_steps=warmup_steps,
        num_chains=num_chains,
        disable_progbar=True,
    )
    mcmc.run(*args)
    return mcmc


def check(data, truth):
    """Means and sds of sites within four standard errors."""
    for name, (mean, sd) in truth.items():
        draws = data.posterior[name]
        for method, seen, right in (
            ("mean", float(draws.mean()), mean),
            ("sd", float(draws.std()), sd),
        ):
            ess = float(az.ess(data, var_names=[name], method=method)[name])
            assert ess > 400
            error = sd / ess**0.5 if method == "mean" else sd / (2 * ess) ** 0.5
            assert abs(seen - right) < 4 * error, (name, method, seen, right, error)


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (by_params, {}),
        pytest.param(by_params, {"exact": False, "sweeps": 8}, marks=pytest.mark.slow),
        (built_inside, {"exact": False, "sweeps": 8, "bridges": 0}),
        pytest.param(two_sites, {}, marks=pytest.mark.slow),
    ],
    ids=["exact draws", "by chains", "an Ising model by chains", "two sites"],
)
def test_the_posterior_is_that_of_quadrature(model, options):
    mcmc = run(ebm.Exchange(model, **options), SPINS, num_samples=200)
    check(mcmc.to_arviz(), quadrature())
    assert mcmc.record.attrs["auxiliary_exact"] == ("exact" not in options or options["exact"])


def one_step_and_many(log_ratio, *, uniforms):
    """How far the mean of theta moves in its own errors: theta ~ N(0, 1), x = 1 of f = exp(theta x)
    on {0, 1}, from exact draws of the posterior through ten transitions."""
    generator = torch.Generator().manual_seed(3)
    grid = torch.linspace(-8, 8, 20001)
    log_p = grid - torch.nn.functional.softplus(grid) - 0.5 * grid.square()
    weights = log_p.softmax(0)
    mean = float((weights * grid).sum())
    draws = 40_000
    start = grid[torch.multinomial(weights, draws, True, generator=generator)][None]

    def density(position):
        return (position - 0.5 * position.square())[0], 1 - position

    kernel = exchange(log_ratio, uniforms=uniforms)
    settings = Settings(
        torch.full((draws,), 1.5),
        DenseMetric(torch.eye(1)[None]),
        torch.zeros((), dtype=torch.long),
        torch.zeros((), dtype=torch.long),
    )
    state = kernel.init(start, *density(start), settings)
    for _ in range(10):
        noise = Noise(
            torch.randn(1, draws, generator=generator),
            torch.rand(1 + uniforms, draws, generator=generator),
        )
        state, transition = kernel.step(density, state, noise, settings)
    position = transition.position[0]
    return float((position.mean() - mean) / position.std() * draws**0.5)


def exact_ratio(new, old, uniform):
    y = (uniform[0] < new[0].sigmoid()).to(new)
    return y * (old[0] - new[0])


def test_the_posterior_is_left_as_it_is():
    assert abs(one_step_and_many(exact_ratio, uniforms=1)) < 4


@pytest.mark.parametrize(
    "broken",
    [
        lambda new, old, uniform: torch.zeros_like(new[0]),
        lambda new, old, uniform: -exact_ratio(new, old, uniform),
    ],
    ids=["no ratio", "wrong sign"],
)
def test_a_broken_exchange_is_caught(broken):
    assert abs(one_step_and_many(broken, uniforms=1)) > 8


def test_the_coupling_of_an_ising_torus_has_its_exact_posterior():
    mcmc = run(ebm.Exchange(torus, sweeps=12), TORUS, num_samples=250)
    check(mcmc.to_arviz(), {"coupling": (TORUS_MEAN, TORUS_SD)})
    assert "not exact draws" in mcmc.diagnose()


@pytest.mark.slow
def test_a_random_graph_of_seven_nodes_has_its_exact_posterior():
    mcmc = run(ebm.Exchange(graph_model, sweeps=12), GRAPH, num_samples=400)
    pairs = zip(GRAPH_MEANS, GRAPH_SDS, strict=True)
    check(mcmc.to_arviz(), dict(zip(("edges", "two_stars"), pairs, strict=True)))
    assert abs(mcmc.record.attrs["auxiliary_shift"]) < 0.15


# Independent N(0, 1) priors, quadrature over the enumerated 2^16 configurations.
FREE = torch.tensor(
    [[-1, 1, -1, -1], [1, 1, -1, -1], [1, 1, 1, -1], [1, 1, 1, -1]], dtype=torch.float64
)
FREE_MEANS = (0.2844263681798842, 0.06375965857133674)
FREE_SDS = (0.1822182334523531, 0.18311647988106505)


def autologistic(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    field = pyro.sample("field", dist.Normal(0.0, 1.0))
    lattice = HiddenIsing.lattice((4, 4), coupling, field, periodic=False)
    pyro.sample("x", ebm.EnergyDistribution(lattice), obs=x)


@pytest.mark.slow
def test_the_autologistic_model_has_its_exact_posterior():
    # Single spins seldom turn a strongly coupled lattice: after 12 sweeps the mean is still off by
    # 0.1 posterior standard deviations, which the run tells.
    mcmc = run(ebm.Exchange(autologistic, sweeps=100), FREE, num_samples=300)
    pairs = zip(FREE_MEANS, FREE_SDS, strict=True)
    check(mcmc.to_arviz(), dict(zip(("coupling", "field"), pairs, strict=True)))


def frozen_at_the_data(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 0.3))
    pyro.sample("x", ebm.EnergyDistribution(HiddenIsing.lattice((16, 16), coupling)), obs=x)


def test_auxiliary_chains_that_are_too_short_are_told():
    # A checkerboard under a coupling near zero: one sweep does not forget it.
    board = 1.0 - 2.0 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2)
    short = run(ebm.Exchange(frozen_at_the_data, sweeps=1), board, num_samples=60, warmup_steps=60)
    assert "Raise sweeps=" in short.diagnose()


def strong_ring(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    energy = ebm.EnergyDistribution(
        lambda x, c: -c * (x * x.roll(1)).sum(), (8,), support=ebm.spin, params=(coupling,)
    )
    pyro.sample("x", energy, obs=x)


def test_the_error_of_a_shift_is_that_from_run_to_run():
    grid = torch.linspace(-3, 4, 4001)
    log_z = torch.logaddexp(8 * (2 * grid.cosh()).log(), 8 * (2 * grid.sinh().abs()).log())
    weights = (8 * grid - log_z - 0.5 * grid.square()).softmax(0)
    target = ebm.Exchange(strong_ring, exact=False, sweeps=1, bridges=0).target(
        (torch.ones(8),), {}, None
    )
    generator = torch.Generator().manual_seed(0)
    kernel = ebm.Exchange(strong_ring, exact=False, sweeps=1, bridges=0)
    shifts, errors = [], []
    for _ in range(8):
        draws = grid[torch.multinomial(weights, 16 * 8, True, generator=generator)]
        record = RunRecord(target, draws.reshape(16, 8, 1), {})
        seen = kernel.examined(record, generator)
        shifts.append(seen["auxiliary_shift"])
        errors.append(seen["auxiliary_shift_error"])
    told, seen = sum(errors) / 8, float(torch.tensor(shifts).std())
    assert 0.4 < told / seen < 2.5


def test_a_shift_that_cannot_be_told_is_a_problem():
    attrs = {
        "auxiliary_sweeps": 2,
        "auxiliary_shift": 2.0,
        "auxiliary_shift_error": 1.0,
        "auxiliary_shift_site": "theta",
    }
    for shift, error, severity in (
        (2.0, 1.0, "problem"),
        (float("nan"), float("nan"), "problem"),
        (0.05, 0.02, "note"),
        (0.5, 0.02, "problem"),
    ):
        known = {**attrs, "auxiliary_shift": shift, "auxiliary_shift_error": error}
        record = RunRecord(None, torch.zeros(4, 2, 1), {}, attrs=known)
        assert sentences.auxiliary(record).severity == severity


def curie_weiss(x):
    coupling = pyro.sample("coupling", dist.Uniform(1.2, 1.6))
    energy = ebm.EnergyDistribution(
        lambda x, c: -c * x.sum() ** 2 / 80 - 0.1 * x.sum(),
        (40,),
        support=ebm.spin,
        params=(coupling,),
    )
    pyro.sample("x", energy, obs=x)


def test_data_of_several_kinds_are_told():
    # Most spins against the field: chains from there do not turn over, and those of the other kind
    # weigh more.
    x = -torch.ones(40)
    x[:4] = 1.0
    kernel = ebm.Exchange(curie_weiss, sweeps=2, bridges=0)
    mcmc = run(kernel, x, num_samples=50, num_chains=16, warmup_steps=50)
    assert "several kinds of data" in mcmc.diagnose()


def test_warm_up_may_come_from_nuts():
    listed = ebm.listed_log_normalizer(chain_of_three, 2, event_shape=(3,), support=ebm.spin)

    def known(x):
        coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
        field = pyro.sample("field", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(x)):
            energy = ebm.EnergyDistribution(
                chain_of_three,
                (3,),
                support=ebm.spin,
                params=(coupling, field),
                log_normalizer=listed,
            )
            pyro.sample("x", energy, obs=x)

    nuts = ebm.MCMC(
        ebm.NUTS(known, full_mass=False, jit_compile=False),
        num_samples=20,
        warmup_steps=60,
        disable_progbar=True,
    )
    nuts.run(SPINS)
    for warmup_steps in (None, 60):
        kernel = ebm.Exchange(by_params, exact=False, sweeps=2)
        after = ebm.MCMC(
            kernel,
            num_samples=20,
            warmup_steps=warmup_steps,
            warmup_from=nuts,
            disable_progbar=True,
        )
        after.run(SPINS)
        assert float(after.record.statistics["acceptance_rate"].mean()) > 0.05
        assert after.record.attrs["auxiliary_shift_error"] > 0


def test_auxiliary_data_of_a_few_chains_at_a_time_are_the_same():
    kernel = ebm.Exchange(by_params, exact=False, sweeps=2, bridges=1)
    (whole,) = kernel._draws(kernel.target((SPINS,), {}, None))
    generator = torch.Generator().manual_seed(2)
    new, old = torch.randn(2, 2, 5, generator=generator)
    uniform = torch.rand(whole.uniforms, 5, generator=generator)
    in_pieces = whole._replace(batch=2).log_ratio(new, old, uniform)
    assert torch.allclose(in_pieces, whole.log_ratio(new, old, uniform))


def noise_of_the_ratio(bridges):
    """The standard deviation of log Z(old)/Z(new), whose estimate has the right mean."""
    kernel = ebm.Exchange(built_inside, exact=False, sweeps=10, bridges=bridges)
    (draws,) = kernel._draws(kernel.target((SPINS,), {}, None))
    number = 4000
    new, old = torch.tensor([[0.7], [0.4]]), torch.tensor([[-0.2], [0.1]])
    uniform = torch.rand(draws.uniforms, number, generator=torch.Generator().manual_seed(1))
    found = draws.log_ratio(new.repeat(1, number), old.repeat(1, number), uniform)
    log_z = [
        2 * float(ebm.Ising.lattice((3,), *at[:, 0], periodic=False).log_normalizer())
        for at in (new, old)
    ]
    ratio = found.exp() / torch.tensor(log_z[1] - log_z[0]).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / number**0.5
    return float(found.std())


def test_densities_between_leave_less_noise_in_the_ratio_of_normalisers():
    assert noise_of_the_ratio(6) < 0.75 * noise_of_the_ratio(0)


def test_a_run_repeats_with_its_seed_and_goes_on_from_disk(tmp_path):
    kernel = ebm.Exchange(built_inside, bridges=1)
    first = run(kernel, SPINS, num_samples=20, num_chains=8, warmup_steps=30)
    again = run(kernel, SPINS, num_samples=20, num_chains=8, warmup_steps=30)
    assert torch.equal(first.get_samples()["field"], again.get_samples()["field"])
    pyro.set_rng_seed(7)
    kept = ebm.MCMC(
        kernel,
        num_samples=10,
        warmup_steps=30,
        num_chains=8,
        store=tmp_path / "run",
        disable_progbar=True,
    )
    kept.run(SPINS)
    more = ebm.MCMC.resume(tmp_path / "run", kernel, num_samples=20)
    more.run(SPINS)
    assert torch.equal(first.get_samples()["field"], more.get_samples()["field"])


def latent(x):
    th = pyro.sample("th", dist.Normal(0.0, 1.0))
    pyro.sample("x", ebm.EnergyDistribution(HiddenIsing.lattice((3,), th)))
    pyro.sample("y", dist.Normal(th, 1.0), obs=x[0, 0])


def fixed(x):
    pyro.sample("th", dist.Normal(0.0, 1.0))
    pyro.sample("x", ebm.EnergyDistribution(HiddenIsing.lattice((3,), 0.3)), obs=x[0])


def discrete_parent(x):
    z = pyro.sample("z", dist.Bernoulli(0.5))
    pyro.sample("th", dist.Normal(0.0, 1.0))
    energy = ebm.EnergyDistribution(chain_of_three, (3,), support=ebm.spin, params=(z, 0.0))
    pyro.sample("x", energy, obs=x[0])


def scaled(x):
    with pyro.poutine.scale(scale=2.0):
        by_params(x)


def outside(x):
    by_params(0.5 * x)


def without_plate(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    energy = ebm.EnergyDistribution(
        chain_of_three, (3,), support=ebm.spin, params=(coupling, torch.tensor(0.0))
    )
    pyro.sample("x", energy, obs=x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (latent, "is latent"),
        (fixed, "every normaliser is known, or constant"),
        (discrete_parent, r"discrete sites \['z'\]"),
        (scaled, "has a scale"),
        (outside, "outside its support"),
        (without_plate, "into a plate"),
    ],
)
def test_what_auxiliary_data_cannot_stand_in_for_is_refused(model, said):
    with pytest.raises(ValueError, match=said):
        run(ebm.Exchange(model), SPINS, num_samples=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sweeps": 0}, "sweeps"),
        ({"bridges": -1}, "bridges"),
        ({"target_accept_prob": 1.0}, "target_accept_prob"),
        ({"exact": "yes"}, "exact"),
    ],
)
def test_arguments_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ebm.Exchange(by_params, **options)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="Pyro model"):
        ebm.Exchange(ebm.Ising.lattice((3,)))


def test_a_list_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="lists at most"):
        run(ebm.Exchange(torus, exact=True), TORUS, num_samples=2)


def test_log_z_is_still_asked_for_without_exchange():
    with pytest.raises(ValueError, match="Exchange"):
        run(ebm.NUTS(torus), TORUS, num_samples=2)


@pytest.mark.filterwarnings("ignore::pyro_ebm.draws.ApproximateSampleWarning")
@pytest.mark.parametrize("listed", [True, False])
def test_it_predicts_data_from_the_energy_at_every_draw(listed, monkeypatch):
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(6)
    kernel = ebm.Exchange(by_params)
    mcmc = ebm.MCMC(kernel, 25, 25, num_chains=16, disable_progbar=True)
    mcmc.run(SPINS)
    if not listed:
        monkeypatch.setattr(draws_by_params, "_MOST_LISTED", 0)
    times = 8 if listed else 2
    found = [mcmc.predict(SPINS)["x"] for _ in range(times)]
    assert found[0].shape == (16, 25, 2, 3)
    draws = mcmc.get_samples(group_by_chain=True)
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    pairs, totals = (states[:, 1:] * states[:, :-1]).sum(1), states.sum(1)
    shares = (draws["coupling"][..., None] * pairs + draws["field"][..., None] * totals).softmax(-1)
    rows = torch.stack(found)
    for statistic, seen in ((pairs, rows[..., 1:] * rows[..., :-1]), (totals, rows)):
        mean = shares @ statistic
        scores = seen.sum(-1) - mean[..., None]
        variance = shares @ statistic.square() - mean.square()
        # Draws are independent, given the posterior draws.
        assert abs(float(scores.sum())) < 4 * float((variance.sum() * 2 * times) ** 0.5)
