"""Energy factors: one value per element of the plates, whoever put the plates there."""

import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import AutoDelta
from pyro.infer.inspect import get_dependencies, get_model_relations
from torch.distributions import constraints

from pyro_ebm.energies import Energy
from pyro_ebm.factor import energy_factor
from pyro_ebm.normalizers import FactorEvents


def log_factors(model, *args):
    """The log probability of every energy factor of one run, before plates repeat it."""
    trace = poutine.trace(model).get_trace(*args)
    trace.compute_log_prob()
    return {
        name: site["log_prob"]
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and hasattr(site["fn"], "energy_value")
    }


def roughness(t):
    return (t[1:] - t[:-1]).square().sum()


def schools(theta, mu):
    """Values as pyro.sample gives them outside of inference."""
    mu = pyro.sample("mu", dist.Delta(mu))
    with pyro.plate("school", theta.shape[-1]):
        theta = pyro.sample("theta", dist.Delta(theta))
        energy_factor("each", lambda t, m: (t - m) ** 2, theta, mu, temperature=2.0)
    energy_factor("smooth", roughness, theta, temperature=50.0)
    energy_factor("joint", lambda m, t: ((t - m) ** 2).sum(), mu, theta)
    energy_factor("alone", lambda m: m**2, mu)


def expected(theta, mu):
    return {
        "each": -((theta - mu[..., None]) ** 2) / 2.0,
        "smooth": -(theta[..., 1:] - theta[..., :-1]).square().sum(-1) / 50.0,
        "joint": -((theta - mu[..., None]) ** 2).sum(-1),
        "alone": -(mu**2),
    }


THETA, MU = torch.tensor([0.3, -1.0, 2.0, 0.5]), torch.tensor(0.7)


def test_a_factor_is_minus_energy_over_temperature():
    found, wanted = log_factors(schools, THETA, MU), expected(THETA, MU)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])


@pytest.mark.parametrize("copies", [1, 2, 4, 7])
@pytest.mark.parametrize("plate", ["_num_predictive_samples", "num_particles_vectorized"])
def test_a_plate_around_the_whole_model_gives_every_copy_its_factors(plate, copies):
    theta, mu = torch.randn(copies, 4), torch.randn(copies)
    with pyro.plate(plate, copies, dim=-2):
        found = log_factors(schools, theta, mu[:, None])
    wanted = expected(theta, mu)
    torch.testing.assert_close(found["each"], wanted["each"])
    for name in ("smooth", "joint", "alone"):
        torch.testing.assert_close(found[name], wanted[name][:, None])


def test_values_that_all_copies_share_count_once_per_copy():
    data = torch.randn(5, 3)

    def model():
        energy_factor("f", lambda y: y.square().sum(), data)

    with pyro.plate("num_particles_vectorized", 7, dim=-2):
        found = log_factors(model)["f"]
    assert found.shape == (7, 1)
    torch.testing.assert_close(found, -data.square().sum().expand(7, 1))


@pytest.mark.parametrize("event", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("plates", [(), (4,), (5, 4)], ids=str)
@pytest.mark.parametrize("copies", [None, 6])
def test_the_event_is_what_lies_right_of_the_plates(event, plates, copies):
    seen = []

    def energy(x):
        seen.append(tuple(x.shape))
        return x.square().sum()

    def model(x):
        with pyro.plate_stack("p", plates):
            energy_factor("f", energy, x)

    if copies is None:
        x = torch.randn(plates + event)
        found = log_factors(model, x)["f"]
    else:
        x = torch.randn((copies, *plates, *event))
        with pyro.plate("_num_predictive_samples", copies, dim=-1 - len(plates)):
            found = log_factors(model, x)["f"]
    assert set(seen) == {event}
    batch = x.shape[: x.dim() - len(event)]
    torch.testing.assert_close(found, -x.reshape(*batch, -1).square().sum(-1))


def test_a_hole_left_by_an_inner_plate_belongs_to_the_event():
    x = torch.randn(6, 4, 3)

    def model():
        with pyro.plate("outer", 6, dim=-2):
            energy_factor("f", lambda v: v[0].sum() - v[3].square().sum(), x)

    found = log_factors(model)["f"]
    torch.testing.assert_close(found, -(x[:, 0].sum(-1) - x[:, 3].square().sum(-1))[:, None])


def test_nets_and_energies_see_one_batch_axis():
    shapes = []

    class Net(torch.nn.Module):
        def forward(self, x, y):
            shapes.append((tuple(x.shape), tuple(y.shape)))
            return (x.sum(-1) * y)[:, None]

    x, y = torch.randn(5, 4, 3), torch.randn(4)

    def model():
        with pyro.plate_stack("p", (5, 4)):
            energy_factor("f", Net(), x, y)

    torch.testing.assert_close(log_factors(model)["f"], -x.sum(-1) * y)
    assert shapes == [((20, 3), (20,))]


def test_an_energy_with_an_event_shape_of_its_own_is_taken_at_its_word():
    energy = Energy.from_function(lambda x: x.square().sum(), event_shape=(1,))

    def model(x):
        with pyro.plate("p", 1):
            energy_factor("f", energy, x)

    assert log_factors(model, torch.ones(1, 1))["f"].shape == (1,)
    with pytest.raises(ValueError, match=r"expected an event of shape \(1,\).*got \(3,\)"):
        log_factors(model, torch.ones(1, 3))


def test_outside_the_support_of_its_energy_a_factor_is_zero():
    energy = Energy.from_function(lambda x: x, support=constraints.positive)

    def model():
        with pyro.plate("p", 2):
            energy_factor("f", energy, torch.tensor([-1.0, 2.0]))

    assert log_factors(model)["f"].tolist() == [-math.inf, -2.0]


def test_temperatures_belong_to_the_elements_of_the_plate():
    x, temperature = torch.randn(3), torch.tensor([1.0, 2.0, 4.0])

    def model():
        with pyro.plate("p", 3, dim=-2):
            energy_factor("f", lambda x: x**2, x[:, None], temperature=temperature[:, None])

    torch.testing.assert_close(log_factors(model)["f"], (-(x**2) / temperature)[:, None])


def test_energy_and_temperature_are_remembered_beside_the_factor():
    trace = poutine.trace(schools).get_trace(THETA, MU)
    fn = trace.nodes["each"]["fn"]
    torch.testing.assert_close(fn.energy_value, (THETA - MU) ** 2)
    assert fn.temperature == 2.0
    torch.testing.assert_close(fn.log_factor, -((THETA - MU) ** 2) / 2.0)


def test_gradients_flow_through_the_values_the_temperature_and_the_closure():
    x = torch.randn(3, requires_grad=True)
    a, temperature = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)

    def model():
        energy_factor("f", lambda x: a * x.square().sum(), x, temperature=temperature)

    log_factors(model)["f"].backward()
    torch.testing.assert_close(x.grad, (-2 * a / temperature * x).detach())
    assert a.grad is not None
    assert temperature.grad is not None


# --- Refusals. -----------------------------------------------------------------------------------


def in_a_plate(*values, energy=lambda *v: sum(x.sum() for x in v), size=4, **keywords):
    def model():
        with pyro.plate("p", size):
            energy_factor("f", energy, *values, **keywords)

    return model


def outside(*values, energy=lambda *v: sum(x.sum() for x in v), **keywords):
    return lambda: energy_factor("f", energy, *values, **keywords)


def inside_two_plates(x):
    with pyro.plate("outer", 5, dim=-2), pyro.plate("inner", 4, dim=-1):
        energy_factor("f", lambda x: x, x)


REFUSED = {
    "counted plate-size times": (
        in_a_plate(torch.tensor(1.0)),
        ValueError,
        r"(?s)it would count 4 times. Move the factor out of the plate .*, or pass values that",
    ),
    "a vector that is no plate": (in_a_plate(torch.ones(3)), ValueError, "it would count 4 times"),
    "counted by an inner plate": (
        lambda: inside_two_plates(torch.ones(5, 1)),
        ValueError,
        r"plate 'inner' of size 4 .* count 4 times",
    ),
    "a plate captured instead of passed": (
        in_a_plate(torch.ones(4), energy=lambda x: x - torch.ones(4)),
        ValueError,
        "one number per configuration",
    ),
    "an output that is no number": (
        outside(torch.ones(4), energy=lambda x: x),
        ValueError,
        "one number per configuration",
    ),
    "an integer output": (
        outside(torch.ones(4), energy=lambda x: x.sum().long()),
        TypeError,
        "floating-point",
    ),
    "a complex output": (
        outside(torch.ones(4), energy=lambda x: x.sum() * 1j),
        TypeError,
        "real energies",
    ),
    "NaN": (outside(torch.tensor(-1.0), energy=lambda x: x.log()), ValueError, "got nan"),
    "detached": (
        outside(torch.ones(3, requires_grad=True), energy=lambda x: x.detach().sum()),
        ValueError,
        "no gradient path",
    ),
    "no values": (outside(), TypeError, "with tensors as values"),
    "values that are no tensors": (outside(1.0), TypeError, "with tensors as values"),
    "temperature zero": (outside(torch.ones(3), temperature=0.0), ValueError, "positive, finite"),
    "temperature negative": (
        outside(torch.ones(3), temperature=torch.tensor(-1.0)),
        ValueError,
        "positive, finite",
    ),
    "temperatures outside of plates": (
        outside(torch.ones(3), temperature=torch.ones(3)),
        ValueError,
        r"expected an event of shape \(\)",
    ),
    "not an energy": (outside(torch.ones(3), energy=3.0), TypeError, "expected an energy"),
    "two values for one argument": (
        outside(torch.ones(3), torch.ones(3), energy=lambda x: x.sum()),
        ValueError,
        "an energy of 2 values",
    ),
    "train-mode dropout": (
        outside(
            torch.ones(1), energy=torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1, 1))
        ),
        ValueError,
        "Dropout",
    ),
    "an energy for other events": (
        outside(torch.ones(5, 3), energy=Energy.from_function(lambda x: x.sum(), event_shape=(3,))),
        ValueError,
        r"expected an event of shape \(3,\) right of no plate, got \(5, 3\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    model, error, said = REFUSED[case]
    with pytest.raises(error, match=said):
        model()


# --- Under Pyro's inference. ---------------------------------------------------------------------


def two_factors():
    """A standard normal in each coordinate, made of a flat prior and factors."""
    with pyro.plate("p", 3):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        energy_factor("each", lambda x: x**2, x)
    energy_factor("all", lambda x: x.square().sum(), x, temperature=2.0)


def test_particles_of_the_elbo_see_the_model_they_see_one_by_one():
    guide = AutoDelta(two_factors)
    guide()
    one = Trace_ELBO().loss(two_factors, guide)
    for particles in (3, 10):
        many = Trace_ELBO(num_particles=particles, vectorize_particles=True)
        assert many.loss(two_factors, guide) == pytest.approx(one)


@pytest.mark.parametrize("copies", [1, 3, 5])
def test_predictive_in_parallel_equals_sequential(copies):
    posterior = {"x": torch.randn(copies, 3)}
    sites = ["x", "each", "all"]
    shapes = [
        {
            name: value.shape
            for name, value in Predictive(
                two_factors, posterior, return_sites=sites, parallel=parallel
            )().items()
        }
        for parallel in (False, True)
    ]
    assert shapes[0] == shapes[1]


def test_dependences_are_seen_by_pyro():
    inside = torch.tensor(2.0)

    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("c", dist.Normal(0.0, 1.0))
        energy_factor("f", lambda a: (a - b * inside).square(), a)

    relations = get_model_relations(model)
    assert relations["sample_sample"]["f"] == ["a", "b"]
    assert set(get_dependencies(model)["posterior_dependencies"]["a"]) == {"a", "b", "f"}


def test_a_guide_must_say_how_its_factor_arose():
    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0))

    def guide(**keywords):
        x = pyro.sample("x", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))
        energy_factor("f", lambda x: 0.0 * x, x, **keywords)

    optimiser = pyro.optim.Adam({"lr": 0.01})
    with pytest.raises(ValueError, match="has_rsample"):
        SVI(model, guide, optimiser, Trace_ELBO()).step()
    SVI(model, lambda: guide(has_rsample=True), optimiser, Trace_ELBO()).step()


def test_the_distribution_behind_a_factor_pickles():
    trace = poutine.trace(schools).get_trace(THETA, MU)
    fn = pickle.loads(pickle.dumps(trace.nodes["each"]["fn"]))
    torch.testing.assert_close(fn.energy_value, (THETA - MU) ** 2)


# --- Enumeration. --------------------------------------------------------------------------------


def mixture(data, probs, loc):
    """z summed out of exp(-E(y, loc[z])): in every element a mixture of two."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(data)):
        z = pyro.sample("z", dist.Categorical(probs), infer={"enumerate": "parallel"})
        energy_factor("f", lambda y, m, mu: (y - m - mu) ** 2, data, loc[z], mu)


def exact_mixture(data, probs, loc, mu):
    terms = probs.log() - (data[:, None] - loc - mu) ** 2
    return torch.logsumexp(terms, -1).sum() + dist.Normal(0.0, 1.0).log_prob(mu)


def test_enumerated_values_are_summed_out_by_pyro():
    data, probs, loc = (
        torch.tensor([0.5, -1.0, 2.0]),
        torch.tensor([0.3, 0.7]),
        torch.tensor([-1.0, 1.5]),
    )
    mu = torch.tensor(0.4)
    guide = lambda *_: pyro.sample("mu", dist.Delta(mu))  # noqa: E731
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    found = -elbo.loss(mixture, guide, data, probs, loc)
    assert found == pytest.approx(float(exact_mixture(data, probs, loc, mu)), rel=1e-5)


def test_stock_nuts_sums_enumerated_values_out():
    data, probs, loc = (
        torch.tensor([0.5, -1.0]),
        torch.tensor([0.3, 0.7]),
        torch.tensor([-1.0, 1.5]),
    )
    kernel = NUTS(mixture)
    kernel.setup(1, data, probs, loc)
    mu = torch.tensor(0.4)
    potential = kernel.potential_fn({"mu": mu})
    torch.testing.assert_close(-potential, exact_mixture(data, probs, loc, mu))


@pytest.mark.parametrize("nesting", [1, 9])
def test_an_energy_of_a_global_enumerated_site(nesting):
    loc = torch.tensor([[-1.0, 0.0, 2.0], [1.5, 1.0, 0.0]])
    probs = torch.tensor([0.3, 0.7])
    x = torch.tensor([0.2, 0.1, -0.4])

    @config_enumerate
    def model():
        z = pyro.sample("z", dist.Categorical(probs))
        energy_factor("f", lambda x, m: (x - m).square().sum(), x, loc[z])

    found = -TraceEnum_ELBO(max_plate_nesting=nesting).loss(model, lambda: None)
    exact = torch.logsumexp(probs.log() - (x - loc).square().sum(-1), 0)
    assert found == pytest.approx(float(exact), rel=1e-5)


TABLE = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1))
POINT = torch.tensor([0.2, 0.1, -0.4])


def two_sites(values):
    """Two enumerated sites and an energy of both; `values` are what the factor is given."""

    @config_enumerate
    def model():
        a = pyro.sample("a", dist.Bernoulli(0.4))
        b = pyro.sample("b", dist.Bernoulli(0.8))
        energy, given = values(a, b)
        energy_factor("f", energy, POINT, *given)

    return model


def exact_two_sites():
    weight = torch.tensor([1.0, 2.0])
    log_prior = torch.tensor([0.6, 0.4]).log()[:, None] + torch.tensor([0.2, 0.8]).log()
    energy = weight * (POINT - TABLE).square().sum(-1)
    return float(torch.logsumexp((log_prior - energy).flatten(), 0))


def pass_the_sites(a, b):
    def energy(x, a, b):
        mean = TABLE.reshape(4, 3).index_select(0, (2 * a + b).long()[None])[0]
        return (1.0 + b) * (x - mean).square().sum()

    return energy, (a, b)


def pass_what_is_made_of_them(a, b):
    def energy(x, mean, weight):
        return weight.sum() * (x - mean).square().sum()

    return energy, (TABLE[a.long(), b.long()], 1.0 + b)


def pass_an_event_of_one_number(a, b):
    energy, (mean, weight) = pass_what_is_made_of_them(a, b)
    return energy, (mean, weight[..., None])


def test_two_enumerated_sites_are_recognised():
    found = -TraceEnum_ELBO(max_plate_nesting=8).loss(two_sites(pass_the_sites), lambda: None)
    assert found == pytest.approx(exact_two_sites(), rel=1e-5)


@pytest.mark.parametrize("values", [pass_what_is_made_of_them, pass_an_event_of_one_number])
def test_events_learnt_without_enumeration_decide_what_shapes_alone_cannot(values):
    model, elbo = two_sites(values), TraceEnum_ELBO(max_plate_nesting=8)
    with pytest.raises(ValueError, match="can be read in two ways"):
        elbo.loss(two_sites(pass_what_is_made_of_them), lambda: None)
    events = FactorEvents()
    with events:
        model()
    with events:
        found = -elbo.loss(model, lambda: None)
    assert found == pytest.approx(exact_two_sites(), rel=1e-5)


def test_a_vector_as_long_as_a_site_has_states_is_refused_as_ambiguous():
    @config_enumerate
    def model():
        z = pyro.sample("z", dist.Categorical(torch.ones(3) / 3))
        energy_factor("f", lambda m: m.sum(), torch.tensor([1.0, 2.0, 3.0])[z])

    with pytest.raises(ValueError, match=r"can be read in two ways.*max_plate_nesting"):
        TraceEnum_ELBO(max_plate_nesting=0).loss(model, lambda: None)


def test_an_energy_across_the_plate_of_an_enumerated_site_is_refused():
    @config_enumerate
    def model():
        with pyro.plate("p", 3):
            z = pyro.sample("z", dist.Bernoulli(0.5))
        energy_factor("f", lambda z: (z[1:] * z[:-1]).sum(), z)

    with pytest.raises(ValueError, match=r"'z' is enumerated element by element in the plate p"):
        TraceEnum_ELBO(max_plate_nesting=1).loss(model, lambda: None)


def test_stock_nuts_has_the_right_mean_and_variance():
    def model():
        x = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        energy_factor("f", lambda x: (x - 1.0).square().sum(), x, temperature=2.0)

    mcmc = MCMC(NUTS(model), num_samples=300, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["x"]
    for power, truth in ((1, 0.5), (2, 0.75)):
        ess = pyro.ops.stats.effective_sample_size(draws[None] ** power).min()
        assert ess > 100
        error = (draws**power).std(0) / ess.sqrt()
        assert ((draws**power).mean(0) - truth).abs().le(4 * error).all()
