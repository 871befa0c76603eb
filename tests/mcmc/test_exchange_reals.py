"""The exchange algorithm with continuous data: its law against quadrature, and its chains' own."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from tests.mcmc.test_exchange import check, run

ROWS = torch.tensor([0.9, -0.3, 1.6, 0.02, -1.2, 0.7, -0.8, 1.1], dtype=torch.float64)
PAIRS = torch.tensor([[0.9, 0.6], [-0.4, -0.8], [0.5, -0.1]], dtype=torch.float64)
POSITIVE = ROWS.abs()


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def observe(energy, x, *params, **options):
    with pyro.plate("n", len(x)):
        found = ebm.EnergyDistribution(energy, params=params, **options)
        pyro.sample("x", found, obs=x)


def quartic(x):
    th = pyro.sample("th", dist.Gamma(3.0, 2.0))
    observe(lambda x, th: (x / th) ** 4, x, th)


def stretched(x):
    th = pyro.sample("th", dist.Gamma(3.0, 2.0))
    observe(lambda x, th: (x / th) ** 1.5, x, th, support=dist.constraints.positive)


def decaying(x):
    th = pyro.sample("th", dist.Normal(0.0, 3.0))
    observe(lambda x, th: th * x, x, th, support=dist.constraints.interval(0.0, 2.0))


def pair_energy(x, coupling, mass):
    quartic = (x**4).sum(-1) + mass * x.square().sum(-1)
    return quartic + coupling * (x[..., 0] - x[..., 1]).square()


def pairs(x):
    coupling = pyro.sample("coupling", dist.Normal(0.0, 1.0))
    mass = pyro.sample("mass", dist.Normal(0.0, 1.0))
    observe(pair_energy, x, coupling, mass, event_shape=(2,))


def moments(values, log_p):
    weights = log_p.reshape(-1).softmax(0)
    mean = (weights * values.reshape(-1)).sum()
    return float(mean), float((weights * (values.reshape(-1) - mean).square()).sum().sqrt())


def scale_truth(x, power):
    """Z = constant * th."""
    th = torch.linspace(0.05, 12.0, 40001)
    powers = (x.abs() ** power).sum()
    return {"th": moments(th, (2.0 - len(x)) * th.log() - 2.0 * th - powers / th**power)}


def decaying_truth(x):
    th = torch.linspace(-15.0, 15.0, 40000)
    log_z = ((1 - (-2.0 * th).exp()) / th).log()
    return {"th": moments(th, -th * x.sum() - len(x) * log_z - th.square() / 18.0)}


def pairs_truth(x):
    coupling, mass = torch.meshgrid(*[torch.linspace(-5.0, 5.0, 81)] * 2, indexing="ij")
    grid = torch.linspace(-4.5, 4.5, 161)
    every = torch.cartesian_prod(grid, grid)
    at = coupling.reshape(-1, 1), mass.reshape(-1, 1)
    log_z = (-pair_energy(every, *at)).logsumexp(1).reshape(coupling.shape)
    log_p = -0.5 * (coupling.square() + mass.square()) - len(x) * log_z
    for row in x:
        log_p = log_p - pair_energy(row, coupling, mass)
    return {"coupling": moments(coupling, log_p), "mass": moments(mass, log_p)}


CASES = {
    "quartic": (quartic, ROWS, lambda x: scale_truth(x, 4.0)),
    "positive": (stretched, POSITIVE, lambda x: scale_truth(x, 1.5)),
    "interval": (decaying, POSITIVE, decaying_truth),
    "pairs": (pairs, PAIRS, pairs_truth),
}


@pytest.mark.parametrize(
    ("case", "bridges"),
    [
        ("quartic", 0),
        *[
            pytest.param(case, bridges, marks=pytest.mark.slow)
            for case, bridges in itertools.product(CASES, (0, 4))
            if (case, bridges) != ("quartic", 0)
        ],
    ],
)
def test_the_posterior_is_that_of_quadrature(case, bridges):
    model, x, truth = CASES[case]
    kernel = ebm.Exchange(model, sweeps=10, bridges=bridges)
    mcmc = run(kernel, x, num_samples=120, num_chains=64, warmup_steps=100)
    check(mcmc.to_arviz(), truth(x))
    assert mcmc.record.attrs["auxiliary_exact"] is False
    assert abs(mcmc.record.attrs["auxiliary_shift"]) < 0.2
    assert "several kinds of data" not in mcmc.diagnose()


def drawn(model, x, **options):
    kernel = ebm.Exchange(model, **options)
    (draws,) = kernel._draws(kernel.target((x,), {}, None))
    return draws


def test_a_transition_leaves_the_density_as_it_is():
    # Exact draws of exp(-x^4) by the quantiles of a grid; the data, and so the scale, elsewhere.
    number, generator = 4000, torch.Generator().manual_seed(5)
    grid = torch.linspace(-3.0, 3.0, 20001)
    cumulative = (-(grid**4)).softmax(0).cumsum(0)
    exact = grid[torch.searchsorted(cumulative, torch.rand(number, generator=generator))]
    draws = drawn(quartic, torch.tensor([2.0]), sweeps=3)
    position = torch.zeros(1, number)
    uniform = torch.rand(3 * draws.uniforms_of_sweep, number, generator=generator)
    y = draws.swept(position, exact[None].contiguous(), uniform)[0]
    assert float((y != exact).double().mean()) > 0.5
    for power in (1, 2, 4):
        truth = ((-(grid**4)).softmax(0) * grid**power).sum()
        seen = y**power
        assert abs(float((seen.mean() - truth) / seen.std() * number**0.5)) < 4


def test_the_ratio_of_normalisers_has_the_right_mean():
    number = 4000
    draws = drawn(quartic, ROWS[:1], sweeps=10, bridges=3)
    new, old = torch.full((1, number), 0.4), torch.full((1, number), -0.1)
    uniform = torch.rand(draws.uniforms, number, generator=torch.Generator().manual_seed(1))
    # Z(old) / Z(new) is the ratio of the two th.
    ratio = (draws.log_ratio(new, old, uniform) + 0.5).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / number**0.5


@pytest.mark.parametrize("x", [0.0, 1e-3, 1.0, 2.0])
def test_steps_fit_the_density_wherever_the_data_are(x):
    draws = drawn(quartic, torch.tensor([x]), sweeps=20)
    uniform = torch.rand(draws.uniforms, 500, generator=torch.Generator().manual_seed(1))
    y = draws.draw(torch.zeros(1, 500), uniform[: 20 * draws.uniforms_of_sweep])[0]
    assert 0.6 < float(y.square().mean() / 0.33798) < 1.5


def test_auxiliary_data_of_a_few_chains_at_a_time_are_the_same():
    draws = drawn(pairs, PAIRS, sweeps=1, bridges=1)
    generator = torch.Generator().manual_seed(2)
    new, old = torch.randn(2, 2, 5, generator=generator)
    uniform = torch.rand(draws.uniforms, 5, generator=generator)
    in_pieces = draws._replace(batch=2).log_ratio(new, old, uniform)
    assert torch.allclose(in_pieces, draws.log_ratio(new, old, uniform))


def test_an_energy_that_is_infinite_somewhere_keeps_its_data_inside():
    def walled(x):
        th = pyro.sample("th", dist.Normal(0.0, 1.0))
        observe(lambda x, th: torch.where(x.abs() < 1, th * x, torch.inf), x, th)

    draws = drawn(walled, ROWS[1:2], sweeps=20)
    uniform = torch.rand(draws.uniforms, 200, generator=torch.Generator().manual_seed(1))
    y = draws.draw(torch.zeros(1, 200), uniform[: 20 * draws.uniforms_of_sweep])
    assert bool((y.abs() < 1).all())


@pytest.mark.parametrize(
    ("x", "exact", "said"),
    [(POSITIVE, True, "are continuous"), (0.0 * ROWS, "auto", "border of their support")],
)
def test_what_no_chain_can_draw_is_refused(x, exact, said):
    def model(x):
        th = pyro.sample("th", dist.Gamma(3.0, 2.0))
        observe(lambda x, th: x / th, x, th, support=dist.constraints.nonnegative)

    with pytest.raises(ValueError, match=said):
        drawn(model, x, exact=exact)
