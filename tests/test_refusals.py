"""What is refused, and what stands right beside it and must pass, under MCMC, SVI and at set-up.

With th ~ Gamma(4, 4) and x ~ exp(-(x/th)^2/2) and no data, a missing log Z(th) gives E[th] = 1.25
where the prior's 1 is right. Every illegal model below is of this kind.
"""

import copy
import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS, SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from pyro.nn import PyroModule, PyroSample
from torch.distributions import constraints

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy, GaussianMixtureEnergy
from pyro_ebm.factor import energy_factor
from pyro_ebm.normalizers import check_model

DATA = torch.tensor([0.3, -0.7, 1.1])


def scaled(x, th):
    return 0.5 * (x / th) ** 2


def square(x):
    return 0.5 * x.square().sum()


def theta():
    return pyro.sample("th", dist.Gamma(4.0, 4.0))


class Normal0(Energy):
    """x^2/2, which knows its normaliser at every temperature."""

    def forward(self, x):
        return 0.5 * x.square()

    def log_normalizer(self, temperature=1.0):
        return 0.5 * (math.log(2 * math.pi) + torch.as_tensor(temperature).log())


# --- Illegal: log Z(theta) is missing. -----------------------------------------------------------


def latent_site_by_params():
    pyro.sample("x", EnergyDistribution(scaled, params=(theta(),)))


def observed_site():
    th = theta()
    with pyro.plate("data", 3):
        pyro.sample("x", EnergyDistribution(scaled, params=(th,)), obs=DATA)


def temperature():
    pyro.sample("x", EnergyDistribution(square, temperature=theta()))


def support():
    inside = constraints.interval(torch.zeros(()), theta())
    pyro.sample("x", EnergyDistribution(square, support=inside))


def support_of_an_event():
    inside = constraints.greater_than(theta())
    pyro.sample("x", EnergyDistribution(square, (3,), support=inside))


def closure():
    th = theta()
    pyro.sample("x", EnergyDistribution(lambda x: scaled(x, th)))


def indirect_closure():
    scale = pyro.deterministic("scale", theta().exp())
    pyro.sample("x", EnergyDistribution(lambda x: scaled(x, scale)))


def weights_of_a_net():
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("x", EnergyDistribution(lambda x: square(x) + (w * x).sin().sum(), (3,)))


def constant_normalizer():
    pyro.sample("x", EnergyDistribution(scaled, params=(theta(),), log_normalizer=0.9))


def tensor_normalizer():
    th = theta()
    log_z = th.log() + 0.5 * math.log(2 * math.pi)
    pyro.sample("x", EnergyDistribution(scaled, params=(th,), log_normalizer=log_z))


def reinterpreted():
    d = EnergyDistribution(scaled, params=(theta(),)).expand([2, 3]).to_event(1)
    with pyro.plate("rows", 2):
        pyro.sample("x", d)


def masked():
    d = EnergyDistribution(scaled, params=(theta().expand(3),)).mask(
        torch.tensor([True, True, False])
    )
    with pyro.plate("data", 3):
        pyro.sample("x", d, obs=DATA)


def energy_site_as_parent():
    a = pyro.sample("th", EnergyDistribution(square, support=constraints.positive))
    pyro.sample("x", EnergyDistribution(scaled, params=(a,)))


class BayesianNet(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[torch.nn.Linear](2, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))

    def forward(self):
        weight = self.linear.weight
        return pyro.sample("x", EnergyDistribution(lambda x: square(x) + (weight @ x).sum(), (2,)))


ILLEGAL = [
    latent_site_by_params,
    observed_site,
    temperature,
    support,
    support_of_an_event,
    closure,
    indirect_closure,
    weights_of_a_net,
    constant_normalizer,
    tensor_normalizer,
    reinterpreted,
    masked,
    energy_site_as_parent,
    BayesianNet(),
]


def name(model):
    return getattr(model, "__name__", type(model).__name__)


def run_mcmc(model, kernel=NUTS, **keywords):
    MCMC(kernel(model, **keywords), 2, 2, disable_progbar=True).run()


def run_svi(model, guide=AutoNormal, loss=None):
    guide = guide(model) if isinstance(guide, type) else guide
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss or Trace_ELBO()).step()


WAYS_OUT = r"(?s)log_normalizer=f.*energy_factor.*doubly-intractable"


@pytest.mark.parametrize("model", ILLEGAL, ids=name)
class TestAMissingNormalizerIsRefused:
    def test_at_our_own_set_up(self, model):
        with pytest.raises(ValueError, match=WAYS_OUT):
            check_model(model, (), {})

    @pytest.mark.parametrize("kernel", [NUTS, HMC])
    def test_by_stock_mcmc(self, model, kernel):
        with pytest.raises(ValueError, match=WAYS_OUT):
            run_mcmc(model, kernel)

    @pytest.mark.parametrize("guide", [AutoNormal, AutoDelta, AutoMultivariateNormal])
    def test_by_stock_svi(self, model, guide):
        with pytest.raises(ValueError, match=WAYS_OUT):
            run_svi(model, guide)


@pytest.mark.parametrize(
    ("model", "parent"),
    [(latent_site_by_params, "'th'"), (weights_of_a_net, "'w'"), (BayesianNet(), "linear.weight'")],
    ids=name,
)
def test_our_own_set_up_names_the_parent_and_the_site(model, parent):
    with pytest.raises(ValueError, match=rf"At site 'x': .* the latent site .*{parent}"):
        check_model(model, (), {})


def test_svi_without_the_param_store_is_refused_too():
    with pyro.settings.context(module_local_params=True):
        model = PyroModel(latent_site_by_params)
        guide = AutoNormal(model)
        guide()
        loss = Trace_ELBO()(model, guide)
        with pytest.raises(ValueError, match=WAYS_OUT):
            loss()


class PyroModel(PyroModule):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self):
        return self.function()


# A discrete parent has no gradient: enumeration shows it, provenance names it.


def observed_mixture(**keywords):
    loc = torch.tensor([-2.0, 2.0])
    with pyro.plate("data", 3):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.3, 0.7])))

        def energy(x, m):
            return (x - m) ** 2 * (1.0 + m.abs())

        pyro.sample("x", EnergyDistribution(energy, params=(loc[z],), **keywords), obs=DATA)
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def global_mixture():
    z = pyro.sample("z", dist.Categorical(torch.tensor([0.3, 0.7])))
    scale = torch.tensor([0.5, 2.0])[z]
    with pyro.plate("data", 3):
        pyro.sample("x", EnergyDistribution(scaled, params=(scale,)), obs=DATA)
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def reinterpreted_mixture():
    z = pyro.sample("z", dist.Categorical(torch.tensor([0.3, 0.7])))
    scale = torch.tensor([0.5, 2.0])[z][..., None]
    d = EnergyDistribution(scaled, params=(scale,))
    pyro.sample("x", d.expand([*d.batch_shape[:-1], 3]).to_event(1), obs=DATA)
    pyro.sample("mu", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    "model", [observed_mixture, global_mixture, reinterpreted_mixture], ids=name
)
class TestADiscreteParentIsRefused:
    def test_at_our_own_set_up(self, model):
        with pytest.raises(ValueError, match=r"the latent site 'z'"):
            check_model(model, (), {})

    def test_by_stock_nuts(self, model):
        with pytest.raises(ValueError, match="an enumerated discrete site"):
            run_mcmc(model)

    def test_by_stock_svi(self, model):
        guide = AutoNormal(poutine.block(model, hide=["z"]))
        with pytest.raises(ValueError, match="an enumerated discrete site"):
            run_svi(config_enumerate(model), guide, TraceEnum_ELBO())


# Learnable parents: fixed under MCMC, moved by SVI.


def learnable_param():
    a = pyro.param("a", torch.tensor(1.3), constraint=constraints.positive)
    pyro.sample("x", EnergyDistribution(scaled, params=(a,)))


class Confined(torch.nn.Module):
    """A net with a bowl around it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 0.5 * x.square().sum(-1, keepdim=True) + self.inner(x)


NET = Confined(torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)))
FROZEN = copy.deepcopy(NET).requires_grad_(False)


def net_in_the_store():
    energy = pyro.module("energy", NET)
    pyro.sample("x", EnergyDistribution(energy, (2,)))


LEARNABLE = [learnable_param, net_in_the_store]


@pytest.mark.parametrize("model", LEARNABLE, ids=name)
def test_a_learnable_parent_is_refused_under_svi(model):
    with pytest.raises(
        ValueError, match=r"(?s)the learnable parameter '(a|energy).*" + WAYS_OUT[4:]
    ):
        run_svi(model)


@pytest.mark.parametrize("model", LEARNABLE, ids=name)
def test_a_parameter_is_fixed_and_legal_under_mcmc(model):
    check_model(model, (), {})
    run_mcmc(model)


@pytest.mark.parametrize("model", [*ILLEGAL, *LEARNABLE], ids=name)
def test_unnormalized_log_prob_never_refuses(model):
    start = InitMessenger(init_to_uniform())
    site = poutine.trace(start(model)).get_trace().nodes["x"]
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    value = site["value"].detach().requires_grad_(True)
    assert fn.unnormalized_log_prob(value).isfinite().all()


# --- Legal neighbours. ---------------------------------------------------------------------------


def net_outside_the_store():
    pyro.sample("x", EnergyDistribution(NET, (2,)))


def frozen_net():
    pyro.sample("x", EnergyDistribution(FROZEN, (2,)))


def captured_constant():
    a = torch.tensor([1.0, 2.0])
    pyro.sample("x", EnergyDistribution(lambda x: (a * x.square()).sum(), (2,)))


def constant_params_and_temperature():
    d = EnergyDistribution(
        scaled, params=(torch.tensor([0.5, 1.0, 2.0]),), temperature=torch.tensor(2.0)
    )
    with pyro.plate("data", 3):
        pyro.sample("x", d)


def constant_support():
    inside = constraints.interval(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
    pyro.sample("x", EnergyDistribution(square, (2,), support=inside))


def normalised_site_with_latent_parent():
    th = theta()
    pyro.sample("x", EnergyDistribution(square))
    pyro.sample("y", dist.Normal(th, 1.0), obs=torch.tensor(0.2))


def normalised_child_of_an_energy():
    x = pyro.sample("x", EnergyDistribution(square))
    pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.2))


def function_normalizer():
    def log_z(th, temperature):
        return th.log() + 0.5 * math.log(2 * math.pi * temperature)

    pyro.sample("x", EnergyDistribution(scaled, params=(theta(),), log_normalizer=log_z))


def energy_that_knows_its_normalizer():
    pyro.sample("x", EnergyDistribution(Normal0(), temperature=theta()))


def factor_that_depends_on_everything():
    th = theta()
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        y = pyro.sample("y", dist.Normal(0.0, 1.0))
        energy_factor("each", lambda y, th: (y - th) ** 2, y, th, temperature=th)
    energy_factor("f", lambda y: (y - x).square().sum() * th, y, temperature=th)


def observed_parent():
    th = pyro.sample("th", dist.Gamma(4.0, 4.0), obs=torch.tensor(1.5))
    pyro.sample("x", EnergyDistribution(scaled, params=(th,)))


def constant_deterministic():
    a = pyro.deterministic("a", torch.tensor(2.0))
    pyro.sample("x", EnergyDistribution(scaled, params=(a,)))


def observed_energy_site_without_parents():
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        pyro.sample("x", EnergyDistribution(square), obs=DATA)


def observed_value_computed_from_a_latent():
    th = theta()
    pyro.sample("x", EnergyDistribution(square), obs=torch.tensor(1.0) - th)


def shape_of_a_latent():
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("x", EnergyDistribution(lambda x: x.square().sum() * w.shape[-1], (2,)))


def transformed_by_a_latent():
    base = EnergyDistribution(square)
    shift = dist.transforms.AffineTransform(pyro.sample("mu", dist.Normal(0.0, 1.0)), 1.0)
    pyro.sample("x", dist.TransformedDistribution(base, [shift]))


def scaled_and_masked_by_constants():
    with poutine.scale(scale=2.0), poutine.mask(mask=torch.tensor(True)):
        pyro.sample("x", EnergyDistribution(square))


def enumerated_site_elsewhere():
    z = pyro.sample(
        "z", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"}
    )
    pyro.sample("y", dist.Normal(torch.tensor([-1.0, 1.0])[z], 1.0), obs=torch.tensor(0.4))
    pyro.sample("x", EnergyDistribution(square, batch_shape=(3,)).to_event(1))


def normalised_mixture():
    def log_z(m, temperature):
        return 0.5 * (math.log(math.pi) - (1.0 + m.abs()).log())

    observed_mixture(log_normalizer=log_z)


LEGAL = [
    net_outside_the_store,
    frozen_net,
    captured_constant,
    constant_params_and_temperature,
    constant_support,
    normalised_site_with_latent_parent,
    normalised_child_of_an_energy,
    function_normalizer,
    energy_that_knows_its_normalizer,
    factor_that_depends_on_everything,
    observed_parent,
    constant_deterministic,
    observed_energy_site_without_parents,
    observed_value_computed_from_a_latent,
    shape_of_a_latent,
    transformed_by_a_latent,
    scaled_and_masked_by_constants,
    enumerated_site_elsewhere,
    normalised_mixture,
]


@pytest.mark.parametrize("model", LEGAL, ids=name)
class TestALegalNeighbourPasses:
    def test_at_our_own_set_up(self, model):
        check_model(model, (), {})

    def test_under_stock_mcmc(self, model):
        run_mcmc(model)

    def test_under_stock_svi(self, model):
        if model in (enumerated_site_elsewhere, normalised_mixture):
            guide = AutoNormal(poutine.block(model, hide=["z"]))
            run_svi(config_enumerate(model), guide, TraceEnum_ELBO())
        else:
            run_svi(model)


def test_the_set_up_leaves_the_random_stream_and_the_param_store_users_alone():
    before = torch.get_rng_state()
    check_model(function_normalizer, (), {})
    assert torch.equal(before, torch.get_rng_state())


# --- The other refusals of the set-up. -----------------------------------------------------------


def energy_that_samples():
    inner = PyroModule[torch.nn.Linear](2, 1)
    inner.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
    pyro.sample("x", EnergyDistribution(inner, (2,)))


def factor_that_samples():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    energy_factor("f", lambda x: x * pyro.sample("noise", dist.Normal(0.0, 1.0)), x)


def subsampled_plate():
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample_size=3):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=DATA)


def subsampled_plate_by_indices():
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample=torch.tensor([1, 2, 3])):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=DATA)


def unenumerable_discrete():
    n = pyro.sample("n", dist.Poisson(3.0))
    pyro.sample("x", dist.Normal(n, 1.0), obs=torch.tensor(2.0))


def without_a_bijection():
    pyro.sample("direction", dist.ProjectedNormal(torch.ones(3)))


def energy_without_a_bijection():
    pyro.sample("direction", EnergyDistribution(square, (3,), support=dist.constraints.sphere))


def observed_outside():
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample(
        "x", EnergyDistribution(square, support=constraints.positive), obs=torch.tensor(-1.0)
    )


def latent_scale():
    with poutine.scale(scale=theta()):
        pyro.sample("x", EnergyDistribution(square))


def latent_mask():
    keep = pyro.sample("keep", dist.Bernoulli(0.5))
    with poutine.mask(mask=keep.bool()):
        pyro.sample("x", EnergyDistribution(square), obs=torch.tensor(0.5))


def categories():
    return pyro.sample(
        "z", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"}
    )


LOCS = torch.tensor([0.0, 3.0])


def factor_that_captures_a_discrete_site():
    z = categories()
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    energy_factor("f", lambda x: (0.5 * (x - LOCS[z]) ** 2).sum(), x)


def factor_that_captures_what_follows_a_discrete_site():
    loc = LOCS[categories()]
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    energy_factor("f", lambda x: (0.5 * (x - loc) ** 2).sum(), x)


def site_that_captures_a_discrete_site():
    z = categories()
    pyro.sample("a", dist.Normal(0.0, 1.0))
    energy = EnergyDistribution(
        lambda x: (0.5 * (x - LOCS[z]) ** 2).sum(),
        log_normalizer=lambda temperature: 0.5 * math.log(2 * math.pi),
    )
    pyro.sample("x", energy, obs=torch.tensor(0.2))


def factor_that_captures_its_own_plate():
    with pyro.plate("p", 3):
        th = pyro.sample("th", dist.Normal(0.0, 1.0))
        x = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        energy_factor("f", lambda x: ((x * th.unsqueeze(-1)) ** 2).sum(), x)


def site_that_captures_its_own_plate():
    with pyro.plate("p", 3):
        th = pyro.sample("th", dist.Normal(0.0, 1.0))
        energy = EnergyDistribution(
            lambda x: (0.5 * (x - th) ** 2).sum(),
            log_normalizer=lambda temperature: 0.5 * math.log(2 * math.pi),
        )
        pyro.sample("x", energy, obs=DATA)


def mixture_at_a_sampled_temperature():
    energy = GaussianMixtureEnergy(torch.tensor([-1.0, 1.0]))
    pyro.sample("x", EnergyDistribution(energy, temperature=theta()))


CAPTURED_DISCRETE = r"captures the discrete site 'z'.*as a value of energy_factor, or in params"

CAPTURED_PLATE = (
    r"plate 'p', got one that captures the latent site 'th' of the same.* all 3.*params"
)

SET_UP = [
    (factor_that_captures_a_discrete_site, "At site 'f': .*" + CAPTURED_DISCRETE),
    (factor_that_captures_what_follows_a_discrete_site, CAPTURED_DISCRETE),
    (site_that_captures_a_discrete_site, "At site 'x': .*" + CAPTURED_DISCRETE),
    (factor_that_captures_its_own_plate, "At factor 'f': .*" + CAPTURED_PLATE),
    (site_that_captures_its_own_plate, "At site 'x': .*" + CAPTURED_PLATE),
    (mixture_at_a_sampled_temperature, r"(?s)At site 'x'.*the latent site 'th'"),
    (energy_that_samples, r"calls pyro.sample inside, at .*weight"),
    (factor_that_samples, r"calls pyro.sample inside, at 'noise'"),
    (subsampled_plate, r"plate 'data' holds a subsample of 3 of its 10 .*poutine.scale"),
    (subsampled_plate_by_indices, r"plate 'data' holds a subsample of 3 of its 10"),
    (unenumerable_discrete, r"discrete latent site 'n' \(Poisson\) cannot be enumerated"),
    (without_a_bijection, r"latent site 'direction' has no bijection"),
    (energy_without_a_bijection, r"latent site 'direction' has no bijection"),
    (observed_outside, r"observed site 'x' has 1 value\(s\) outside its support"),
    (latent_scale, r"(?s)At site 'x'.*the latent site 'th'"),
    (latent_mask, r"(?s)At site 'x'.*the latent site 'keep'"),
]


@pytest.mark.parametrize(("model", "said"), SET_UP, ids=[name(model) for model, _ in SET_UP])
def test_the_set_up_refuses_by_name(model, said):
    with pytest.raises(ValueError, match=said):
        check_model(model, (), {})


@pytest.mark.parametrize("model", [energy_that_samples, factor_that_samples], ids=name)
def test_stock_nuts_refuses_an_energy_that_samples(model):
    with pytest.raises(ValueError, match=r"calls pyro.sample inside"):
        run_mcmc(model)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (factor_that_captures_a_discrete_site, CAPTURED_DISCRETE),
        (site_that_captures_a_discrete_site, CAPTURED_DISCRETE),
        (factor_that_captures_its_own_plate, CAPTURED_PLATE),
        (site_that_captures_its_own_plate, CAPTURED_PLATE),
    ],
)
class TestAnEnergyThatCapturesMoreThanItsElementIsRefused:
    def test_by_stock_nuts(self, model, said):
        with pytest.raises(ValueError, match=said):
            run_mcmc(model)

    def test_by_stock_svi(self, model, said):
        guide = AutoNormal(poutine.block(model, hide=["z"]))
        with pytest.raises(ValueError, match=said):
            run_svi(model, guide, TraceEnum_ELBO(max_plate_nesting=1))


def test_particles_of_the_elbo_are_refused_to_an_energy_that_captures_a_latent_site():
    def model():
        th = pyro.sample("th", dist.Normal(0.0, 1.0))
        x = pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        energy_factor("f", lambda x: ((x * th) ** 2).sum(), x)

    run_svi(model, loss=Trace_ELBO(num_particles=3))
    many = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=0)
    with pytest.raises(ValueError, match=r"captures the latent site 'th'.* all 3"):
        run_svi(model, loss=many)


def test_a_traced_distribution_is_copied_without_its_surroundings():
    def model():
        with pyro.plate("p", 3):
            th = pyro.sample("th", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))
            pyro.sample("x", EnergyDistribution(square), obs=DATA * th.detach())

    fn = poutine.trace(model).get_trace().nodes["x"]["fn"]
    torch.testing.assert_close(copy.deepcopy(fn).log_prob(DATA), fn.log_prob(DATA))


def factor_that_is_passed_a_discrete_site():
    z = categories()
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    energy_factor("f", lambda x, z: 0.5 * (x - LOCS[z]) ** 2, x, z)


def factor_that_captures_from_outside_of_its_plate():
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("other", 2):
        v = pyro.sample("v", dist.Normal(0.0, 1.0))
    with pyro.plate("p", 3):
        th = pyro.sample("th", dist.Normal(0.0, 1.0))
        energy_factor("f", lambda th: (th * w * v * LOCS).sum(), th)
        total, size = th.sum(), th.shape[-1]
        energy_factor("g", lambda v: (v * total / size) ** 2 * th.shape[-1], th)
    energy_factor("all", lambda w: (w.sum() * th).square().sum(), w)


@pytest.mark.parametrize(
    "model",
    [factor_that_is_passed_a_discrete_site, factor_that_captures_from_outside_of_its_plate],
    ids=name,
)
def test_an_energy_may_be_passed_what_it_may_not_capture_and_capture_what_is_shared(model):
    check_model(model, (), {})
    run_mcmc(model)


def full_plate_over_a_subset():
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with poutine.scale(scale=10 / 3), pyro.plate("data", 3):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=DATA)


def improper_prior():
    pyro.sample("x", dist.ImproperUniform(constraints.positive, (), ()))


def support_that_depends_on_a_latent():
    a = pyro.sample("a", dist.Uniform(0.0, 1.0))
    pyro.sample("b", dist.Uniform(0.0, 1.0 - a))


def factor_in_and_out_of_a_plate():
    with pyro.plate("data", 3):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("inside", -x.square())
    pyro.factor("outside", -x.square().sum())


@pytest.mark.parametrize(
    "model",
    [
        factor_that_captures_from_outside_of_its_plate,
        full_plate_over_a_subset,
        improper_prior,
        support_that_depends_on_a_latent,
        factor_in_and_out_of_a_plate,
    ],
    ids=name,
)
def test_the_set_up_passes_what_it_should(model):
    check_model(model, (), {})


def test_a_plain_factor_that_counts_plate_size_times_is_warned_of_once():
    def model():
        with pyro.plate("data", 3):
            x = pyro.sample("x", dist.Normal(0.0, 1.0))
            pyro.factor("f", -x.square().sum())

    said = re.escape(
        "'f' inside the plate 'data' has one value for all its elements, so it counts 3"
    )
    with pytest.warns(UserWarning, match=said) as record:
        check_model(model, (), {})
    assert len(record) == 1
