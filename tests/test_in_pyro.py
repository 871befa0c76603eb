"""An energy is an ordinary citizen of stock Pyro: one table of energies, every use of each.

The table crosses supports, event shapes and batches. Set-ups run with warnings as errors.
"""

import copy
import pickle
import sys
from unittest.mock import MagicMock

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    HMC,
    MCMC,
    NUTS,
    SVI,
    JitTrace_ELBO,
    Predictive,
    Trace_ELBO,
    TraceGraph_ELBO,
)
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from pyro.infer.inspect import get_dependencies, get_model_relations, render_model
from torch.distributions import biject_to, constraints

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.draws import ApproximateSampleWarning, warn_approximate
from pyro_ebm.factor import energy_factor

SUPPORTS = {
    "real": constraints.real,
    "positive": constraints.positive,
    "interval": constraints.interval(-1.0, 2.0),
    "simplex": constraints.simplex,
}
EVENTS = [(), (3,), (2, 3)]
BATCHES = [(), (4,)]


def bowl(x, a):
    """Convex, finite and smooth on every support."""
    return a * ((x - 0.3) ** 2).sum()


def batch_param(batch):
    return torch.linspace(1.0, 2.0, 4) if batch else torch.tensor(1.5)


def distribution(support, event, batch):
    return EnergyDistribution(
        bowl, event, support=SUPPORTS[support], params=(batch_param(batch),), temperature=0.5
    )


CASES = [
    (support, event, batch)
    for support in SUPPORTS
    for event in EVENTS
    for batch in BATCHES
    if event or support != "simplex"
]


def model_of(d, plates=True):
    def model():
        with pyro.plate_stack("elements", d.batch_shape if plates else ()):
            x = pyro.sample("x", d)
            energy_factor("f", lambda x: 0.1 * x.square().sum(), x)
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=torch.tensor(0.4))

    return model


@pytest.fixture(params=CASES, ids=str)
def d(request):
    return distribution(*request.param)


@pytest.fixture
def model(d):
    return model_of(d)


def inside(d, value):
    return bool(d.support.check(value).all())


@pytest.mark.parametrize("kernel", [NUTS, HMC])
def test_stock_mcmc(d, model, kernel):
    mcmc = MCMC(kernel(model), num_samples=2, warmup_steps=2, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["x"]
    assert draws.shape == (2, *d.shape())
    assert draws.isfinite().all()


@pytest.mark.parametrize("guide", [AutoNormal, AutoDelta, AutoMultivariateNormal])
@pytest.mark.parametrize("particles", [1, 3])
def test_stock_svi(d, model, guide, particles):
    guide = guide(model)
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    losses = [svi.step() for _ in range(3)]
    assert torch.tensor(losses).isfinite().all()
    assert inside(d, guide.median()["x"])


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_from_posterior_draws(d, model, parallel):
    draws = torch.stack([start(d), start(d), start(d)])
    sites = Predictive(model, {"x": draws}, return_sites=["x", "y", "f"], parallel=parallel)()
    torch.testing.assert_close(sites["x"].reshape(draws.shape), draws)
    assert sites["f"].shape[0] == 3


def init(model):
    """The model with its energy site started, not sampled."""
    return InitMessenger(init_to_uniform())(model)


def test_handlers(d, model):
    value = start(d)
    joint = poutine.trace(poutine.condition(model, {"x": value})).get_trace()
    assert joint.nodes["x"]["is_observed"]
    torch.testing.assert_close(joint.nodes["x"]["value"], value)
    sampled = poutine.trace(init(model)).get_trace()
    replayed = poutine.trace(poutine.replay(model, trace=sampled)).get_trace()
    doubled = poutine.trace(
        poutine.scale(poutine.condition(model, {"x": value}), scale=2.0)
    ).get_trace()
    masked = poutine.trace(
        poutine.mask(poutine.condition(model, {"x": value}), mask=False)
    ).get_trace()
    total = joint.log_prob_sum()
    assert total.isfinite()
    torch.testing.assert_close(doubled.log_prob_sum(), 2 * total)
    assert float(masked.log_prob_sum()) == 0.0
    assert replayed.nodes["x"]["value"] is sampled.nodes["x"]["value"]


def start(d):
    transform = biject_to(d.support)
    shape = transform.inverse_shape(d.shape())
    return transform(torch.linspace(-1.0, 1.0, shape.numel()).reshape(shape))


def test_log_prob_has_the_batch_shape_and_each_element_its_own_param(d):
    value = start(d)
    found = d.log_prob(value)
    assert found.shape == d.batch_shape
    params = d.params[0].reshape(-1)
    rows = value.reshape(len(params), *d.event_shape)
    wanted = torch.stack([-bowl(x, a) / 0.5 for x, a in zip(rows, params, strict=True)])
    torch.testing.assert_close(found.reshape(-1), wanted)
    many = d.log_prob(value.expand(5, *d.shape()))
    torch.testing.assert_close(many, found.expand(5, *d.batch_shape))


def test_expand_to_event_and_mask(d):
    value = start(d)
    log_prob = d.log_prob(value)
    wide = d.expand((2, *d.batch_shape))
    torch.testing.assert_close(wide.log_prob(value), log_prob.expand(2, *d.batch_shape))
    assert d.expand_by((2,)).shape() == (2, *d.shape())
    joint = wide.to_event(1 + len(d.batch_shape))
    assert joint.shape() == wide.shape()
    assert joint.event_dim == len(wide.shape())
    torch.testing.assert_close(joint.log_prob(value.expand(wide.shape())), 2 * log_prob.sum())
    masked = d.mask(torch.zeros(d.batch_shape, dtype=torch.bool))
    assert (masked.log_prob(value) == 0).all()
    torch.testing.assert_close(d.mask(True).log_prob(value), log_prob)
    assert inside(
        joint, biject_to(joint.support)(biject_to(joint.support).inv(value.expand(wide.shape())))
    )


@pytest.mark.parametrize("wrap", ["to_event", "mask"])
def test_wrapped_sites_run_under_stock_nuts(d, wrap):
    wrapped = d.to_event() if wrap == "to_event" else d.mask(torch.tensor(True))
    run = MCMC(NUTS(model_of(wrapped)), 1, 1, disable_progbar=True)
    run.run()
    assert run.get_samples()["x"].shape == (1, *d.shape())


def test_validation_refuses_values_outside_the_support(d):
    outside = torch.full(d.shape(), float("nan"))
    with pytest.raises(ValueError, match="support"):
        d.log_prob(outside)
    assert not EnergyDistribution(bowl, params=(1.0,), validate_args=False)._validate_args


def test_pickle_and_deepcopy(d):
    value = start(d)
    for clone in (pickle.loads(pickle.dumps(d)), copy.deepcopy(d)):
        assert clone.shape() == d.shape()
        torch.testing.assert_close(clone.log_prob(value), d.log_prob(value))
        assert inside(clone, value)


def test_relations(model):
    relations = get_model_relations(model)
    assert relations["sample_sample"] == {"x": [], "f": ["x"], "y": ["x"]}
    assert relations["sample_dist"]["x"] == "EnergyDistribution"
    assert get_dependencies(model)["prior_dependencies"]["y"].keys() == {"x", "y"}


def test_a_model_is_drawn(model, monkeypatch):
    graphviz = MagicMock()
    monkeypatch.setitem(sys.modules, "graphviz", graphviz)
    graph = render_model(model, render_distributions=True, render_params=True)
    assert [call.args for call in graph.edge.call_args_list] == [("x", "f"), ("x", "y")]


def test_a_site_with_parents_shows_them_in_pyros_relations():
    inner = torch.tensor(2.0)

    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        c = pyro.sample("c", dist.Gamma(1.0, 1.0))
        w = pyro.param("w", torch.tensor(1.0))
        pyro.sample("unrelated", dist.Normal(0.0, 1.0))
        pyro.sample(
            "x",
            EnergyDistribution(
                lambda x, a: w * (x - a * inner + b).square(),
                params=(a,),
                support=constraints.greater_than(c),
            ),
        )

    relations = get_model_relations(model)
    assert relations["sample_sample"]["x"] == ["a", "b"]
    assert relations["sample_param"]["x"] == ["w"]


def test_trace_graph_elbo_takes_energies():
    model = model_of(distribution("positive", (3,), (4,)))
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), TraceGraph_ELBO())
    assert torch.tensor(svi.step()).isfinite()


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize(("event", "batch"), [((), ()), ((2, 3), (4,))])
def test_stock_inference_that_is_jitted_has_the_same_density(event, batch):
    model = model_of(distribution("positive", event, batch))
    potentials = []
    for jit in (False, True):
        kernel = NUTS(model, jit_compile=jit, ignore_jit_warnings=True)
        kernel.setup(1)
        points = [
            {"x": torch.linspace(-1.0, a, 24)[: x.numel()].reshape(x.shape)}
            for x in kernel.initial_params.values()
            for a in (0.0, 0.5)
        ]
        potentials.append([kernel.potential_fn(point).detach() for point in points])
    torch.testing.assert_close(*potentials)
    loss = JitTrace_ELBO(ignore_jit_warnings=True)
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), loss)
    assert torch.tensor([svi.step(), svi.step()]).isfinite().all()


def test_predictive_draws_the_prior_of_an_energy_with_a_warning_and_no_gradient():
    d = EnergyDistribution(bowl, (2,), params=(torch.tensor([1.0, 2.0]),))

    def model():
        with pyro.plate("p", 2):
            pyro.sample("x", d)

    warn_approximate.cache_clear()
    with pytest.warns(ApproximateSampleWarning, match="transitions"):
        draws = Predictive(model, num_samples=64, parallel=True)()["x"]
    assert draws.shape == (64, 2, 2)
    assert not draws.requires_grad


def moments_agree(draws, mean, variance):
    """|estimate - truth| < 4 mcse for mean and second central moment of [draw, ...]."""
    for values, truth in ((draws, mean), ((draws - mean) ** 2, variance)):
        ess = pyro.ops.stats.effective_sample_size(values[None])
        assert ess.min() > 100
        assert ((values.mean(0) - truth).abs() < 4 * values.std(0) / ess.sqrt()).all()


def test_stock_nuts_samples_the_energy():
    """Gamma(3, 2) and a correlated Gaussian, written as energies."""
    precision = torch.tensor([[2.0, 0.9], [0.9, 1.0]])

    def model():
        gamma = EnergyDistribution(
            lambda x: 4 * x - 4 * x.log(), support=constraints.positive, temperature=2.0
        )
        pyro.sample("gamma", gamma)
        pyro.sample("gauss", EnergyDistribution(lambda x: 0.5 * x @ precision @ x, (2,)))

    mcmc = MCMC(NUTS(model), num_samples=300, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()
    moments_agree(draws["gamma"], torch.tensor(1.5), torch.tensor(0.75))
    moments_agree(draws["gauss"], torch.zeros(2), precision.inverse().diagonal())


def test_svi_finds_the_gaussian_that_an_energy_is():
    d = EnergyDistribution(
        lambda x, m: 0.5 * (x - m) ** 2 / 0.25, params=(torch.tensor([1.0, -2.0]),)
    )

    def model():
        with pyro.plate("p", 2):
            pyro.sample("x", d)

    guide = AutoNormal(model)
    svi = SVI(
        model,
        guide,
        pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.99}),
        Trace_ELBO(10, vectorize_particles=True),
    )
    for _ in range(400):
        svi.step()
    torch.testing.assert_close(guide.median()["x"], torch.tensor([1.0, -2.0]), atol=0.05, rtol=0.0)
    scale = guide.quantiles([0.8413])["x"][0] - guide.median()["x"]
    torch.testing.assert_close(scale, torch.full((2,), 0.5), atol=0.05, rtol=0.0)
