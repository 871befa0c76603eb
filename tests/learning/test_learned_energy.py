"""An energy learned inside a Pyro model has the gradient of its likelihood, once for each row."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, JitTrace_ELBO, Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

import pyro_ebm as ebm
from pyro_ebm.learning.exact_likelihood import all_configurations

from .families import Lattice, Precision, draws_by_list, gaussian


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)


def small_lattice(coupling=0.3, field=0.1, shape=(2, 4)):
    return Lattice(torch.tensor(coupling), torch.tensor(field), shape)


class Secretive(ebm.Energy):
    """A Gaussian that gives draws, and keeps its log Z to itself."""

    def __init__(self, energy):
        super().__init__(energy.event_shape, support=energy.support)
        self.inner = energy

    def forward(self, x):
        return self.inner(x)

    def exact_sample(self, shape=(), *, temperature=1.0, generator=None):
        noise = torch.randn(*shape, 3, generator=generator)
        return self.inner.mean_of + noise @ torch.linalg.inv(self.inner.root.tril())


def gradient(total, energy):
    learned = torch.autograd.grad(total, list(energy.parameters()))
    return torch.cat([each.flatten() for each in learned])


def exact_gradient(energy, data):
    """Of the log likelihood of rows, from the list of all configurations."""
    every = all_configurations(energy)
    log_z = (-energy(every)).logsumexp(0)
    total = (-energy(data) - log_z).sum()
    return gradient(total, energy)


def in_pyro(site, energy, data, **plate):
    """Of the log density of a whole model, one observed site in a plate."""

    def model():
        pyro.module("energy", energy)
        with pyro.plate("rows", len(data), **plate) as which:
            pyro.sample("x", site, obs=data[which])

    total = poutine.trace(model).get_trace().log_prob_sum()
    return gradient(total, energy)


def test_with_all_configurations_the_gradient_and_the_value_are_exact():
    energy = small_lattice()
    data = draws_by_list(energy, 50, torch.Generator().manual_seed(1))
    energy.coupling.data += 0.1
    site = ebm.LearnedEnergy(energy, ebm.ExactLikelihood())
    torch.testing.assert_close(in_pyro(site, energy, data), exact_gradient(energy, data))
    log_z = ebm.exact_enumeration(energy).log_z
    torch.testing.assert_close(site.log_prob(data), -energy(data) - log_z)
    assert site.negatives.shares.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "objective",
    [
        ebm.PersistentContrastiveDivergence(num_chains=2000, steps=20),
        ebm.AnnealedLikelihood(num_particles=2000, steps=2),
    ],
    ids=["chains", "particles"],
)
def test_with_chains_the_gradient_is_exact_within_its_error(objective):
    weights = 0.3 * torch.randn(8, 8).tril(-1)
    energy = ebm.BoltzmannMachine(
        nn.Parameter(weights + weights.T), nn.Parameter(0.5 * torch.randn(8))
    )
    data = draws_by_list(energy, 50, torch.Generator().manual_seed(1))
    site = ebm.LearnedEnergy(energy, objective)
    with torch.no_grad():  # parameters to which the draws have to follow
        energy.biases += 0.1
        site.log_prob(data)
        energy.biases -= 0.1
    found, exact = (f(energy, data) for f in (functools.partial(in_pyro, site), exact_gradient))
    assert site.negatives.moves == 3
    ess = 1.0 / site.negatives.shares.square().sum()
    assert ess > 500
    exactly = ebm.exact_enumeration(energy, observable=slopes)
    square = ebm.exact_enumeration(energy, observable=lambda x: slopes(x).square()).observable
    error = len(data) * ((square - exactly.observable.square()).clamp(min=0) / ess).sqrt()
    assert ((found - exact).abs() <= 4 * error).all()
    known = site.log_z()
    if known is not None:
        assert abs(known[0] - exactly.log_z) < 4 * known[1]
        torch.testing.assert_close(site.log_prob(data), -energy(data) - known[0])


def slopes(x):
    """Of minus the energy of a Boltzmann machine, in its biases and weights."""
    return torch.cat([x, 0.5 * (x[:, :, None] * x[:, None]).flatten(1)], 1)


def test_the_gradient_of_negatives_is_that_of_their_mean_energy():
    """To the last digit: weights and all."""
    known = Precision(torch.zeros(3), torch.eye(3))
    energy = Secretive(known)
    log_z = float(known.log_normalizer().detach())
    site = ebm.LearnedEnergy(energy, ebm.AnnealedLikelihood(64, log_z=log_z))
    x = torch.randn(5, 3, requires_grad=True)
    known.mean_of.data += 0.1
    log_prob = site.log_prob(x)
    values, shares = site.negatives.values, site.negatives.shares
    assert shares.std() > 0
    wanted = -energy(x).sum() + 5 * (shares * energy(values)).sum()
    learned = [x, *energy.parameters()]
    for one, other in zip(
        torch.autograd.grad(log_prob.sum(), learned, allow_unused=True),
        torch.autograd.grad(wanted, learned, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_each_row_counts_log_z_once_under_plates_subsamples_and_scales():
    energy = small_lattice()
    data = draws_by_list(energy, 60, torch.Generator().manual_seed(1))
    site = ebm.LearnedEnergy(energy, ebm.ExactLikelihood())
    some = torch.arange(20)
    found = in_pyro(site, energy, data, subsample=some)
    torch.testing.assert_close(found, 3 * exact_gradient(energy, data[some]))
    with poutine.scale(scale=0.5):
        found = in_pyro(site, energy, data)
    torch.testing.assert_close(found, 0.5 * exact_gradient(energy, data))
    stacked = data.reshape(5, 12, -1)

    def model():
        pyro.module("energy", energy)
        with pyro.plate("a", 12, dim=-1), pyro.plate("b", 5, dim=-2):
            pyro.sample("x", site, obs=stacked)

    total = poutine.trace(model).get_trace().log_prob_sum()
    found = gradient(total, energy)
    torch.testing.assert_close(found, exact_gradient(energy, data))


def learn(model, guide, *args, steps, rate, elbo=None):
    optimiser = pyro.optim.ClippedAdam({"lr": rate, "lrd": 0.01 ** (1 / steps)})
    svi = SVI(model, guide, optimiser, elbo or Trace_ELBO())
    return [svi.step(*args) for _ in range(steps)]


def no_guide(*args):
    pass


def log_likelihood(energy, data):
    return float((-energy(data) - energy.log_normalizer()).detach().sum())


@pytest.mark.parametrize(
    "name",
    [
        "exact",
        pytest.param("chains", marks=pytest.mark.slow),
        pytest.param("particles", marks=pytest.mark.slow),
    ],
)
def test_svi_learns_the_precision_of_a_gaussian(name):
    """To a share of the nats that the data leave open, half a nat for each of nine parameters."""
    case = gaussian(500, torch.Generator().manual_seed(2))
    mean, root = case.energy.mean_of.detach(), case.energy.root.detach()
    known = Precision(mean + 0.2, 1.2 * root)
    energy = known if name == "exact" else Secretive(known)
    short = functools.partial(ebm.HMC, num_steps=4)
    objective = {
        "exact": "auto",
        "chains": ebm.PersistentContrastiveDivergence(num_chains=1000, sampler=short),
        "particles": ebm.AnnealedLikelihood(
            1000, sampler=short, log_z=float(known.log_normalizer().detach())
        ),
    }[name]
    site = ebm.LearnedEnergy(energy, objective, start=case.data)

    def model(data):
        pyro.module("energy", energy)
        with pyro.plate("rows", len(data)):
            pyro.sample("x", site, obs=data)

    losses = learn(model, no_guide, case.data, steps=300, rate=0.02)
    mean, root = (
        case.data.mean(0),
        torch.linalg.cholesky(torch.linalg.inv(case.data.T.cov(correction=0))),
    )
    best = log_likelihood(Precision(mean, root), case.data)
    missing = best - log_likelihood(known, case.data)
    # Draws of the negative phase scatter the parameters by what a constant rate leaves.
    assert missing < (0.1 if name == "exact" else 0.5) * 9 / 2
    if name == "exact":
        assert abs(losses[-1] + log_likelihood(known, case.data)) < 500 * 4 * site.log_z()[1] + 0.1


class Steep(ebm.Energy, PyroModule):
    """1/2 p x^2 by a precision that Pyro keeps positive."""

    def __init__(self):
        PyroModule.__init__(self)
        ebm.Energy.__init__(self, ())
        self.precision = PyroParam(torch.tensor(1.0), constraint=constraints.positive)

    def forward(self, x):
        return 0.5 * self.precision * x.square()


class Known(ebm.Energy):
    """-log N(z; m, 1) but for its constant."""

    def __init__(self):
        super().__init__(())
        self.m = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return 0.5 * (x - self.m).square()

    def log_normalizer(self, temperature=1.0):
        return 0.5 * torch.tensor(2 * torch.pi).log() + 0.0 * self.m


@pytest.mark.slow
def test_a_pyro_module_with_constrained_parameters_is_learned():
    energy = Steep()
    data = 0.5 * torch.randn(200)
    site = ebm.LearnedEnergy(
        energy, ebm.PersistentContrastiveDivergence(num_chains=1000), start=data
    )

    def model(data):
        pyro.module("energy", energy)
        with pyro.plate("rows", len(data)):
            pyro.sample("x", site, obs=data)

    learn(model, no_guide, data, steps=150, rate=0.1)
    precision, wanted = float(energy.precision.detach()), float(1.0 / data.square().mean())
    # A tenth of the nats that the data leave open: 1/2 (200 / 2) (d log p)^2 < 0.1 / 2.
    assert abs(torch.tensor(precision / wanted).log()) < (0.1 / 100) ** 0.5


@pytest.mark.parametrize("elbo", [Trace_ELBO(), Trace_ELBO(5, vectorize_particles=True)])
def test_an_energy_prior_is_learned_with_a_guide(elbo):
    """z ~ N(m, 1), x ~ N(z, 0.5): the most likely m is the mean of x."""
    energy = Known()
    prior = ebm.LearnedEnergy(energy)
    data = 1.5 + 1.2 * torch.randn(100)

    def model(data):
        pyro.module("energy", energy)
        with pyro.plate("rows", len(data)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        shift = pyro.param("shift", torch.tensor(0.0))
        slope = pyro.param("slope", torch.tensor(0.5))
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
        with pyro.plate("rows", len(data)):
            pyro.sample("z", dist.Normal(shift + slope * data, scale))

    losses = learn(model, guide, data, steps=400, rate=0.05, elbo=elbo)
    assert abs(float(energy.m.detach() - data.mean())) < 0.3 * (1.25 / 100) ** 0.5
    exact = dist.Normal(data.mean(), 1.25**0.5).log_prob(data).sum()
    assert abs(torch.tensor(losses[-20:]).mean() + exact) < 1.0


def test_chains_move_once_for_each_value_of_the_parameters():
    energy = Known()
    prior = ebm.LearnedEnergy(energy, ebm.PersistentContrastiveDivergence(num_chains=8))
    negatives = prior.negatives
    data = torch.zeros(4)

    def model(data):
        pyro.module("energy", energy)
        k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        with pyro.plate("rows", len(data)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z + k, 0.5), obs=data)

    guide = AutoNormal(poutine.block(model, hide=["k"]))
    adam = pyro.optim.Adam({"lr": 0.01})
    svi = SVI(model, guide, adam, TraceEnum_ELBO(num_particles=3, max_plate_nesting=1))
    moves = []
    for _ in range(3):
        svi.step(data)
        moves.append(negatives.moves)
        svi.evaluate_loss(data)
        Predictive(model, guide=guide, num_samples=2)(data)
    assert moves == [1, 2, 3]
    state = negatives.state
    prior.log_prob(data)
    prior.log_prob(data)
    assert negatives.state is state


def test_a_seed_repeats_a_run():
    def run():
        pyro.clear_param_store()
        pyro.set_rng_seed(5)
        energy = Known()
        site = ebm.LearnedEnergy(energy, ebm.PersistentContrastiveDivergence(num_chains=8))

        def model(data):
            pyro.module("energy", energy)
            with pyro.plate("rows", len(data), subsample_size=3):
                pyro.sample("x", site, obs=data[:3])

        return learn(model, no_guide, torch.linspace(0.0, 1.0, 9), steps=5, rate=0.1)

    assert run() == run()


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_what_cannot_be_learned_is_refused():
    energy = Known()
    with pytest.raises(ValueError, match="parameters that require a gradient"):
        ebm.LearnedEnergy(lambda x: x.square())
    with pytest.raises(TypeError, match="without data"):
        ebm.LearnedEnergy(energy, ebm.ScoreMatching())
    site = ebm.LearnedEnergy(energy, ebm.PersistentContrastiveDivergence(num_chains=4))

    def unregistered():
        pyro.param("other", torch.tensor(1.0))
        pyro.sample("x", site, obs=torch.tensor(0.3))

    adam = pyro.optim.Adam({"lr": 0.01})
    with pytest.raises(ValueError, match=r"pyro\.module"):
        SVI(unregistered, no_guide, adam, Trace_ELBO()).step()

    def inside():
        return ebm.LearnedEnergy(energy)

    with pytest.raises(ValueError, match="outside of the model"):
        poutine.trace(inside).get_trace()

    def registered():
        pyro.module("energy", energy)
        pyro.sample("x", site, obs=torch.tensor(0.3))

    jitted = SVI(registered, no_guide, adam, JitTrace_ELBO(ignore_jit_warnings=True))
    with pytest.raises(ValueError, match="Trace_ELBO"):
        jitted.step()
    shift = torch.tensor(0.1, requires_grad=True)
    energy.forward = lambda x: (x - energy.m - shift).square()
    with pytest.raises(ValueError, match="its own parameters alone"):
        site.log_prob(torch.tensor(0.2))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_an_exact_log_z_is_recorded_with_the_loss():
    energy = Known()
    site = ebm.LearnedEnergy(energy)

    def model(data):
        pyro.module("energy", energy)
        with pyro.plate("rows", len(data)):
            pyro.sample("x", site, obs=data)

    data = torch.randn(20) + 1.0
    learn(model, no_guide, data, steps=200, rate=0.1, elbo=JitTrace_ELBO(ignore_jit_warnings=True))
    torch.testing.assert_close(energy.m.detach(), data.mean(), atol=1e-3, rtol=0.0)


def test_the_posterior_of_a_learned_prior_is_sampled_by_stock_and_own_kernels():
    """z ~ N(1, 1), x = 2 ~ N(z, 0.5): the posterior is N(1.8, 0.2)."""
    energy = Known()
    energy.m.data += 1.0
    prior = ebm.LearnedEnergy(energy, ebm.PersistentContrastiveDivergence(num_chains=16))

    def model():
        z = pyro.sample("z", prior)
        pyro.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(2.0))

    run = ebm.MCMC(ebm.NUTS(model), 200, 200, num_chains=8, disable_progbar=True)
    run.run()
    draws = run.get_samples()["z"]
    assert abs(float(draws.mean()) - 1.8) < 4 * (0.2 / 400) ** 0.5
    assert prior.negatives.moves <= 1
    drawn = Predictive(model, num_samples=300, parallel=True)()["z"]
    assert abs(float(drawn.mean()) - 1.0) < 4 / 300**0.5
    assert guess(model)


def guess(model):
    guide = AutoDelta(model)
    guide()
    return guide.median()["z"].isfinite()
