"""EnergyDistribution: densities, shapes, normalisers, and draws."""

import math
import warnings
from typing import NamedTuple
from unittest import mock

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import (
    InitMessenger,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pyro.infer.mcmc.util import initialize_model
from torch.distributions import Normal, constraints
from torch.fx.experimental.proxy_tensor import make_fx

import pyro_ebm as ebm
from pyro_ebm import draws_by_params
from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.draws import (
    NUM_TRANSITIONS,
    ApproximateSampleWarning,
    draw,
    propose_starts,
    warn_approximate,
)
from pyro_ebm.energies import DiagonalGaussian, DoubleWell, Energy
from pyro_ebm.target import Target


@pytest.fixture(autouse=True)
def _nothing_told_yet():
    warn_approximate.cache_clear()
    yield
    warn_approximate.cache_clear()


class Gaussian1(Energy):
    """(x - m)^2 / 2, with everything known."""

    def __init__(self, center=1.0):
        super().__init__()
        self.center = center

    def forward(self, x):
        return 0.5 * (x - self.center) ** 2

    def log_normalizer(self, temperature=1.0):
        return 0.5 * (2 * math.pi * torch.as_tensor(temperature)).log()

    def mean(self, temperature=1.0):
        return torch.full(torch.as_tensor(temperature).shape, self.center)

    def variance(self, temperature=1.0):
        return torch.as_tensor(temperature)

    def exact_sample(self, shape=(), *, temperature=1.0, generator=None):
        noise = torch.randn(shape, generator=generator)
        return self.center + torch.as_tensor(temperature).sqrt() * noise


class Estimate(NamedTuple):
    """Anything with log_z."""

    log_z: float


def square(x, a):
    return 0.5 * a * x.square().sum()


class Noisy(torch.nn.Module):
    """A net whose dropout is no layer."""

    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, self.training).sum(-1)


A = torch.tensor([1.0, 4.0])
X = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.5]])


def test_the_density_is_the_exponential_of_minus_energy_over_temperature():
    d = EnergyDistribution(square, (3,), params=(A,), temperature=torch.tensor([2.0, 0.5]))
    wanted = -0.5 * A * X.square().sum(-1) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(d.log_prob(X), wanted)
    torch.testing.assert_close(d.unnormalized_log_prob(X), wanted)
    torch.testing.assert_close(d.energy_value(X), 0.5 * A * X.square().sum(-1))
    assert not d.normalized


@pytest.mark.parametrize(
    ("keywords", "batch"),
    [
        ({}, ()),
        ({"params": (A,)}, (2,)),
        ({"params": (A, torch.ones(5, 1))}, (5, 2)),
        ({"params": (A,), "batch_shape": (4, 1)}, (4, 2)),
        ({"params": (A,), "temperature": torch.ones(3, 2)}, (3, 2)),
        ({"support": constraints.interval(torch.zeros(6, 1), torch.ones(3))}, (6,)),
        ({"params": (2.0,)}, ()),
    ],
)
def test_the_batch_shape_is_what_everything_broadcasts_to(keywords, batch):
    d = EnergyDistribution(lambda x, *params: x.square().sum() * sum(params, 0.0), (3,), **keywords)
    assert d.batch_shape == batch
    assert d.event_shape == (3,)
    assert d.log_prob(torch.full(d.shape(), 0.5)).shape == batch


def test_the_support_is_widened_to_the_event():
    d = EnergyDistribution(lambda x: x.sum(), (2, 3), support=constraints.positive)
    assert d.support.event_dim == 2
    assert (
        EnergyDistribution(lambda x: x.sum(), (2, 3), support=constraints.simplex).support.event_dim
        == 2
    )
    assert EnergyDistribution(Gaussian1()).support.event_dim == 0


# --- Normalisers. --------------------------------------------------------------------------------

LOG_Z = 0.5 * math.log(2 * math.pi)


@pytest.mark.parametrize(
    "given",
    [
        LOG_Z,
        torch.tensor(LOG_Z),
        Estimate(LOG_Z),
        lambda a, temperature: 0.5 * (2 * math.pi * temperature / a).log(),
    ],
    ids=["number", "tensor", "estimate", "function"],
)
def test_a_given_normalizer_normalizes(given):
    d = EnergyDistribution(square, params=(torch.tensor(1.0),), log_normalizer=given)
    x = torch.tensor([-1.0, 0.2, 3.0])
    assert d.normalized
    torch.testing.assert_close(d.log_prob(x), dist.Normal(0.0, 1.0).log_prob(x))
    torch.testing.assert_close(d.unnormalized_log_prob(x), -0.5 * x**2)


def test_a_function_gets_the_params_and_the_temperature_of_the_batch():
    temperature = torch.tensor([[1.0], [3.0]])
    d = EnergyDistribution(
        square,
        params=(A,),
        temperature=temperature,
        log_normalizer=lambda a, t: 0.5 * (2 * math.pi * t / a).log(),
    )
    x = torch.tensor(0.7)
    wanted = dist.Normal(0.0, (temperature / A).sqrt()).log_prob(x)
    torch.testing.assert_close(d.log_prob(x), wanted)


def test_what_the_energy_knows_is_used():
    d = EnergyDistribution(Gaussian1(), temperature=torch.tensor([1.0, 4.0]))
    truth = dist.Normal(1.0, torch.tensor([1.0, 2.0]))
    x = torch.tensor([[0.3], [2.0]])
    torch.testing.assert_close(d.log_prob(x), truth.log_prob(x))
    torch.testing.assert_close(d.mean, truth.mean)
    torch.testing.assert_close(d.variance, truth.variance)
    assert d.normalized


def test_what_the_energy_knows_on_another_support_is_not_used():
    d = EnergyDistribution(Gaussian1(), support=constraints.positive)
    assert not d.normalized
    with pytest.raises(NotImplementedError, match="mean"):
        _ = d.mean


def test_a_users_normalizer_goes_before_the_energys_own():
    d = EnergyDistribution(Gaussian1(), log_normalizer=0.0)
    torch.testing.assert_close(d.log_prob(torch.tensor(1.0)), torch.tensor(0.0))


def test_a_detached_parent_is_no_parent():
    th = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(ValueError, match="log Z"):
        EnergyDistribution(square, params=(th,)).log_prob(torch.tensor(1.0))
    EnergyDistribution(square, params=(th.detach(),)).log_prob(torch.tensor(1.0))
    with torch.no_grad():
        EnergyDistribution(square, params=(th,)).log_prob(torch.tensor(1.0))


# --- What is refused at the boundary. ------------------------------------------------------------

BAD = {
    "not an energy": (lambda: EnergyDistribution(3.0), TypeError, "expected an energy"),
    "not a support": (
        lambda: EnergyDistribution(Gaussian1(), support="positive"),
        TypeError,
        "expected support",
    ),
    "another event shape": (
        lambda: EnergyDistribution(Gaussian1(), (3,)),
        ValueError,
        "expected event_shape",
    ),
    "a support over more than the event": (
        lambda: EnergyDistribution(lambda x: x, support=constraints.simplex),
        ValueError,
        "event dimension",
    ),
    "temperature zero": (
        lambda: EnergyDistribution(Gaussian1(), temperature=0.0),
        ValueError,
        "positive, finite temperature",
    ),
    "temperatures not all positive": (
        lambda: EnergyDistribution(Gaussian1(), temperature=torch.tensor([1.0, -1.0])),
        ValueError,
        "positive, finite temperature",
    ),
    "temperature no number": (
        lambda: EnergyDistribution(Gaussian1(), temperature="warm"),
        TypeError,
        "temperature",
    ),
    "shapes that do not broadcast": (
        lambda: EnergyDistribution(square, params=(A,), batch_shape=(3,)),
        ValueError,
        r"broadcast to one batch shape, got batch_shape \(3,\), params \(2,\)",
    ),
    "params no tensors": (
        lambda: EnergyDistribution(square, params=("a",)),
        TypeError,
        "expected params",
    ),
    "one param alone": (lambda: EnergyDistribution(square, params=A), TypeError, "expected params"),
    "normalizer infinite": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer=math.inf),
        ValueError,
        "finite log_normalizer",
    ),
    "normalizer NaN": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer=torch.tensor(math.nan)),
        ValueError,
        "finite log_normalizer",
    ),
    "normalizer no number": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer="one"),
        TypeError,
        "log_normalizer",
    ),
    "normalizer of another batch": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer=torch.zeros(3)),
        ValueError,
        "log_normalizer that broadcasts",
    ),
    "function of another batch": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer=lambda t: torch.zeros(3)).log_prob(
            torch.tensor(0.0)
        ),
        ValueError,
        "log_normalizer that broadcasts",
    ),
    "function without a number": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer=lambda t: None).normalized,
        TypeError,
        "to return a number or a tensor",
    ),
    "tensor normalizer not finite": (
        lambda: EnergyDistribution(Gaussian1(), log_normalizer=torch.tensor(math.nan)),
        ValueError,
        "finite log_normalizer",
    ),
    "reference of another event": (
        lambda: EnergyDistribution(
            Gaussian1(), reference=dist.Normal(torch.zeros(3), 1.0).to_event(1)
        ),
        ValueError,
        r"reference over events of shape \(\), got \(3,\)",
    ),
    "reference of another batch": (
        lambda: EnergyDistribution(square, params=(A,), reference=torch.zeros(3)),
        ValueError,
        r"reference whose batch shape broadcasts to \(2,\), got \(3,\)",
    ),
    "reference neither distribution nor tensor": (
        lambda: EnergyDistribution(Gaussian1(), reference=0.0),
        TypeError,
        "expected reference",
    ),
    "dropout behind a net": (
        lambda: EnergyDistribution(Noisy(), (2,)).log_prob(torch.ones(3, 2)),
        ValueError,
        r"a call of dropout in train mode.*\.eval\(\)",
    ),
    "random": (
        lambda: EnergyDistribution(
            Energy.from_function(lambda x: x + torch.rand(len(x)), vectorized=True)
        ).log_prob(torch.ones(3)),
        ValueError,
        "draws inside",
    ),
    "unexpandable": (
        lambda: EnergyDistribution(square, params=(A,)).expand((3,)),
        ValueError,
        r"batch shape that \(2,\) broadcasts to, got \(3,\)",
    ),
    "value of another event": (
        lambda: EnergyDistribution(square, (3,), params=(A,)).log_prob(torch.zeros(2)),
        ValueError,
        "event_shape",
    ),
    "NaN": (
        lambda: EnergyDistribution(lambda x: x.log()).log_prob(torch.tensor(-1.0)),
        ValueError,
        "got nan",
    ),
    "detached": (
        lambda: EnergyDistribution(lambda x: x.detach() ** 2).log_prob(
            torch.tensor(1.0, requires_grad=True)
        ),
        ValueError,
        "no gradient path",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_at_the_boundary(case):
    make, error, said = BAD[case]
    with pytest.raises(error, match=said):
        make()


def test_infinite_energy_is_density_zero():
    d = EnergyDistribution(lambda x: torch.where(x > 0, x, torch.inf))
    assert d.log_prob(torch.tensor([-1.0, 1.0])).tolist() == [-math.inf, -1.0]


def test_a_sampled_temperature_may_overflow_where_validation_is_off():
    with pyro.validation_enabled(False):
        d = EnergyDistribution(Gaussian1(), temperature=torch.tensor(math.inf))
        assert float(d.unnormalized_log_prob(torch.tensor(1.5))) == 0.0


# --- Inside functorch and other dtypes. ----------------------------------------------------------


def test_log_prob_runs_under_vmap_and_grad():
    def log_density(x, a):
        return EnergyDistribution(square, (3,), params=(a,), validate_args=False).log_prob(x)

    gradient = torch.func.vmap(torch.func.grad(log_density))(X, A)
    torch.testing.assert_close(gradient, -A[:, None] * X)


def test_the_dtype_comes_from_the_inputs():
    d = EnergyDistribution(square, (2,), params=(A.double(),))
    assert start_of(d).dtype == torch.float64
    assert d.log_prob(start_of(d)).dtype == torch.float64
    net = torch.nn.Linear(2, 1).double()
    assert start_of(EnergyDistribution(net, (2,))).dtype == torch.float64
    assert start_of(EnergyDistribution(Gaussian1(), temperature=2.0)).dtype == torch.float32


# --- Draws. --------------------------------------------------------------------------------------


def start_of(d, strategy=init_to_sample):
    """What Pyro gets when it wants initial values."""
    model = InitMessenger(strategy)(lambda: pyro.sample("x", d))
    return poutine.trace(model).get_trace().nodes["x"]["value"]


@pytest.mark.parametrize(
    "strategy", [init_to_sample, init_to_uniform, init_to_median, init_to_mean, init_to_feasible]
)
def test_init_strategies_get_a_start_in_silence(strategy):
    d = EnergyDistribution(square, (3,), params=(A,), support=constraints.interval(1.0, 2.0))
    value = start_of(d, strategy)
    assert value.shape == d.shape()
    assert d.support.check(value).all()


def test_setting_up_stock_nuts_is_silent():
    def model():
        with pyro.plate("p", 2):
            pyro.sample("x", EnergyDistribution(square, (3,), params=(A,)))

    initialize_model(model)


@pytest.mark.parametrize(
    ("reference", "check"),
    [
        (torch.tensor([7.0, 8.0, 9.0]), lambda x: (x == torch.tensor([7.0, 8.0, 9.0])).all()),
        (dist.Uniform(7.0, 8.0).expand([3]).to_event(1), lambda x: ((x > 7) & (x < 8)).all()),
    ],
    ids=["tensor", "distribution"],
)
def test_a_reference_is_where_draws_start_and_nothing_else(reference, check):
    plain = EnergyDistribution(square, (3,), params=(A,))
    d = EnergyDistribution(square, (3,), params=(A,), reference=reference)
    start = start_of(d)
    assert start.shape == (2, 3)
    assert check(start)
    torch.testing.assert_close(d.log_prob(X), plain.log_prob(X))


def test_an_exact_sampler_is_used_without_a_warning():
    d = EnergyDistribution(Gaussian1(), temperature=torch.tensor([1.0, 9.0])).expand((2, 2))
    x = d.sample((4000,))
    assert x.shape == (4000, 2, 2)
    scale = torch.tensor([1.0, 3.0])
    assert ((x.mean(0) - 1.0).abs() < 4 * scale / 4000**0.5).all()
    assert ((x.std(0) / scale - 1).abs() < 4 / 8000**0.5).all()


def test_draws_follow_the_density_of_every_element_of_the_batch():
    """Exponential(a) on the half-line, by chains: one for every draw and element."""
    d = EnergyDistribution(lambda x, a: a * x, params=(A,), support=constraints.positive)
    with pytest.warns(ApproximateSampleWarning, match=f"{NUM_TRANSITIONS} transitions"):
        x = d.sample((2000,))
    assert x.shape == (2000, 2)
    assert not x.requires_grad
    for power, moment in ((1, 1 / A), (2, 2 / A**2)):
        values = x**power
        assert ((values.mean(0) - moment).abs() < 4 * values.std(0) / 2000**0.5).all()


def test_draws_repeat_with_the_seed_and_differ_without():
    d = EnergyDistribution(lambda x: x.square().sum(), (2,))
    draws = []
    for seed in (3, 3, 4, None):
        if seed is not None:
            pyro.set_rng_seed(seed)
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        draws.append(short_draw(d, generator))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[2], draws[3])


def short_draw(d, generator):
    return draw(
        d.unnormalized_log_prob,
        lambda: propose_starts(d, torch.Size()),
        d.support,
        num_transitions=25,
        generator=generator,
    )


def test_the_warning_comes_once():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_approximate()
        warn_approximate()
    assert [warning.category for warning in told] == [ApproximateSampleWarning]


def test_draws_are_hidden_from_handlers_and_need_no_gradient_mode():
    net = pyro.nn.PyroModule[torch.nn.Linear](2, 1, bias=False)
    net.weight = pyro.nn.PyroParam(torch.tensor([[0.1, 0.2]]))
    d = EnergyDistribution(lambda x: x.square().sum() + net(x[None]).sum(), (2,))
    with poutine.trace() as tr, torch.no_grad(), pytest.warns(ApproximateSampleWarning):
        d.sample()
    assert not tr.trace.nodes


def test_no_finite_start_is_told():
    d = EnergyDistribution(lambda x: x * torch.inf)
    with pytest.raises(ValueError, match=r"starts of finite energy.*reference"):
        short_draw(d, torch.Generator())


@pytest.mark.parametrize("energy", [DoubleWell(2), None], ids=["outside", "inside"])
def test_a_recorded_density_holds_a_constant_normalizer_as_one_number(energy):
    def log_prob(x):
        return EnergyDistribution(energy or DoubleWell(2), temperature=0.2).log_prob(x)

    x = torch.randn(5, 2)
    recorded = make_fx(torch.func.vmap(log_prob))(x)
    torch.testing.assert_close(recorded(x), log_prob(x))
    assert len(recorded.graph.nodes) < 40


def test_a_recorded_normalizer_follows_what_moves_and_what_is_trained():
    energy = DiagonalGaussian(torch.tensor(0.0), torch.nn.Parameter(torch.tensor(1.0)))

    def log_prob(x, temperature):
        return EnergyDistribution(energy, temperature=temperature).log_prob(x)

    x, temperature = torch.randn(5), torch.tensor(1.0)
    single = make_fx(log_prob)(x, temperature)
    mapped = make_fx(torch.func.vmap(log_prob, in_dims=(0, None)))(x, temperature)
    with torch.no_grad():
        energy.scale.mul_(3.0)
    for recorded in (single, mapped):
        wanted = Normal(0.0, 3.0 * math.sqrt(0.5)).log_prob(x)
        torch.testing.assert_close(recorded(x, torch.tensor(0.5)), wanted)


@pytest.mark.parametrize(
    "strategy",
    [
        init_to_median,
        init_to_sample,
        init_to_mean,
        init_to_generated(generate=lambda: init_to_sample),
        init_to_value(values={}, fallback=init_to_median),
    ],
)
def test_our_own_starts_come_from_a_strategy_without_a_chain(strategy):
    def model():
        pyro.sample("x", EnergyDistribution(lambda x: x**4))

    with warnings.catch_warnings(), mock.patch("pyro_ebm.distribution.draw") as chain:
        warnings.simplefilter("error")
        starts = Target.from_model(model).initial_positions(3, strategy=strategy)
    assert not chain.called
    assert starts.unique().numel() == 3


def test_a_generated_strategy_is_generated_once_for_each_start():
    made = []

    def generate():
        made.append(float(len(made)))
        return init_to_value(values={"a": torch.tensor(made[-1]), "b": torch.tensor(made[-1])})

    def model():
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", EnergyDistribution(lambda x: x**4))

    strategy = init_to_generated(generate=generate)
    starts = Target.from_model(model).initial_positions(3, strategy=strategy)
    assert starts.tolist() == [[0.0, 1.0, 2.0]] * 2


def test_a_bare_energy_starts_where_its_strategy_says():
    value = torch.tensor([0.5, -1.0])
    strategy = init_to_value(values={"x": value})
    starts = Target.from_energy(DoubleWell(2)).initial_positions(3, strategy=strategy)
    torch.testing.assert_close(starts, value[:, None].expand(2, 3))


def test_a_normaliser_that_forgets_the_temperature_is_told_what_it_gets():
    for wrong, said in ((lambda a: a.log(), r"takes \(a\)"), (lambda: 0.0, r"takes \(\)")):
        d = EnergyDistribution(square, params=(torch.tensor(1.0),), log_normalizer=wrong)
        with pytest.raises(TypeError, match="of 1 param and the temperature, .*" + said):
            d.log_prob(torch.tensor(1.0))

    def broken(a, temperature):
        return a + "one"

    d = EnergyDistribution(square, params=(torch.tensor(1.0),), log_normalizer=broken)
    with pytest.raises(TypeError, match=r"unsupported operand|can only|must be Tensor|add"):
        d.log_prob(torch.tensor(1.0))


def three_spins(x, coupling):
    return -coupling * (x[1:] * x[:-1]).sum()


@pytest.mark.filterwarnings("ignore::pyro_ebm.draws.ApproximateSampleWarning")
@pytest.mark.parametrize("listed", [True, False])
def test_discrete_draws_follow_params_and_temperatures_that_broadcast(listed, monkeypatch):
    if not listed:
        monkeypatch.setattr(draws_by_params, "_MOST_LISTED", 0)
    couplings, temperatures = torch.tensor([[0.2], [1.0]]), torch.tensor([1.0, 2.0, 0.5])
    d = EnergyDistribution(
        three_spins, (3,), support=ebm.spin, params=(couplings,), temperature=temperatures
    )
    x = d.sample((2000,))
    assert x.shape == (2000, 2, 3, 3)
    # Bonds of a chain are independent.
    exact = (couplings / temperatures).tanh()
    error = ((1 - exact.square()) / 4000).sqrt()
    assert (((x[..., 1:] * x[..., :-1]).mean((0, -1)) - exact).abs() < 4 * error).all()


@pytest.mark.filterwarnings("ignore::pyro_ebm.draws.ApproximateSampleWarning")
@pytest.mark.parametrize("listed", [True, False])
def test_discrete_draws_at_params_avoid_what_is_ruled_out(listed, monkeypatch):
    if not listed:
        monkeypatch.setattr(draws_by_params, "_MOST_LISTED", 0)

    def no_neighbours(x, field):
        return torch.where((x[1:] * x[:-1]).sum() > 0, torch.inf, -field * x.sum())

    field = torch.tensor([0.0, 1.0])
    d = EnergyDistribution(no_neighbours, (3,), support=constraints.boolean, params=(field,))
    x = d.sample((1000,))
    assert float((x[..., 1:] * x[..., :-1]).sum()) == 0.0
    # Of none, one of three, or both at the ends.
    weight = field.exp()
    empty = 1 / (1 + 3 * weight + weight.square())
    error = (empty * (1 - empty) / 1000).sqrt()
    assert (((x.sum(-1) == 0).to(weight).mean(0) - empty).abs() < 4 * error).all()


def test_draws_of_rows_that_are_one_hot_follow_params():
    def first(x, field):
        return -field * x[..., 0].sum()

    field = torch.tensor(0.7)
    d = EnergyDistribution(first, (2, 3), support=constraints.one_hot, params=(field,))
    x = d.sample((2000,))
    assert (x.sum(-1) == 1).all()
    share = field.exp() / (2 + field.exp())
    assert abs(float(x[..., 0].mean() - share)) < 4 * float((share * (1 - share) / 4000).sqrt())
