"""A frozen model is the density that its author wrote, at every position and for every chain."""

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.kernel import Kernel
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.target import Side, Target
from pyro_ebm.target.vectorize import looped, traced, vectorized

from ..energies.catalogue import CASES, Case, over
from . import models

MODELS: dict[str, Callable[[], Target]] = {
    "plain": lambda: Target.from_model(models.plain),
    "nested": lambda: Target.from_model(models.nested),
    "triangle": lambda: Target.from_model(models.triangle),
    "mixture": lambda: Target.from_model(models.mixture),
    "hidden-markov": lambda: Target.from_model(models.hidden_markov),
    "regression": lambda: Target.from_model(models.Regression(), torch.randn(5, 2), torch.randn(5)),
    "improper": lambda: Target.from_model(models.improper),
    "distribution": lambda: Target.from_distribution(dist.Dirichlet(torch.ones(3))),
}
TARGETS = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def positions_of(target: Target, n: int) -> Tensor:
    return torch.randn(target.dim, n, dtype=target.dtype)


def sampled(
    target: Target,
    *,
    kernel: Kernel,
    warmup: Warmup,
    num_samples: int,
    chains: int,
) -> dict[str, Tensor]:
    """Constrained draws by site, [draws * chains, ...]."""
    generator = torch.Generator().manual_seed(0)
    start = target.initial_positions(chains, generator=generator)
    result = run_chains(
        Problem(target.log_density_and_gradient, traced if target.vectorized else plainly),
        kernel,
        start,
        Plan(num_samples, warmup),
        generator=generator,
    )
    assert result.error is None
    return target.constrain(result.draws.positions.transpose(1, 2).reshape(-1, target.dim))


def plainly(function: Callable, *example: object) -> Callable:
    return function


@TARGETS
def test_vmap_equals_a_loop(make: Callable[[], Target]):
    target = make()
    assert target.vectorized
    z = positions_of(target, 7)
    by_loop = looped(target.log_density)(z, Side())
    torch.testing.assert_close(vectorized(target.log_density)(z, Side()), by_loop)
    torch.testing.assert_close(target.log_density_and_gradient(z), by_loop)
    torch.testing.assert_close(target.traced_log_density_and_gradient(7)(z, Side()), by_loop)


@TARGETS
def test_gradient_of_a_model_equals_finite_differences(make: Callable[[], Target]):
    torch.set_default_dtype(torch.float64)
    target = make()
    assert gradcheck(target.log_density, torch.randn(target.dim, requires_grad=True))


@over(CASES)
def test_gradient_of_an_energy_equals_finite_differences(case: Case):
    torch.set_default_dtype(torch.float64)
    target = Target.from_energy(case.energy)
    z = torch.randn(target.dim, 3)
    _, gradient = target.log_density_and_gradient(z)
    step = 1e-5
    for i in range(target.dim):
        shift = torch.zeros(target.dim, 1)
        shift[i] = step
        ahead, behind = (target.log_density_and_gradient(z + s * shift)[0] for s in (1, -1))
        torch.testing.assert_close(gradient[i], (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-5)


PRIORS: dict[str, Callable[[], dist.Distribution]] = {
    "positive": lambda: dist.Gamma(2.0, 3.0),
    "interval": lambda: dist.Uniform(-1.0, 2.0),
    "unit-interval": lambda: dist.Beta(2.0, 3.0),
    "simplex": lambda: dist.Dirichlet(torch.tensor([2.0, 1.0, 3.0])),
    "cholesky": lambda: dist.LKJCholesky(2, 1.5),
    "ordered": lambda: dist.TransformedDistribution(
        dist.Normal(torch.zeros(2), 1.0).to_event(1), [dist.transforms.OrderedTransform()]
    ),
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_the_density_of_positions_integrates_to_one(prior: Callable[[], dist.Distribution]):
    torch.set_default_dtype(torch.float64)
    fixed = prior()
    target = Target.from_model(lambda: pyro.sample("x", fixed))
    # The trapezium rule converges exponentially; beyond 14 less than 2 e^-14 is left.
    line = torch.linspace(-14.0, 14.0, 600)
    grid = torch.cartesian_prod(*[line] * target.dim).reshape(-1, target.dim)
    log_density = target.evaluate(grid).log_density
    log_z = log_density.logsumexp(0) + target.dim * math.log(float(line[1] - line[0]))
    torch.testing.assert_close(log_z, torch.zeros(()), rtol=0, atol=4 * math.exp(-14))


def test_a_support_may_depend_on_a_latent():
    target = Target.from_model(models.triangle)
    draws = sampled(target, kernel=nuts(), warmup=Warmup(100), num_samples=300, chains=64)
    assert bool((draws["b"] < 1 - draws["a"]).all())
    # Var a = 1/12; var b = E[(1-a)^2]/3 - 1/16 = 7/144. An ESS of a tenth of the draws is plenty.
    n = len(draws["a"]) / 10
    assert abs(float(draws["a"].mean()) - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert abs(float(draws["b"].mean()) - 0.25) < 4 * (7 / 144 / n) ** 0.5


def test_a_mixture_is_summed_over_its_discrete_latents():
    target = Target.from_model(models.mixture)
    assert target.program.marginalised == ("z",)
    z = positions_of(target, 5)
    values = target.constrain(z.T)
    weight, loc = values["weight"], values["loc"]
    log_weights = torch.stack([weight.log(), (1 - weight).log()], -1)
    pieces = log_weights[:, None] + dist.Normal(loc[:, None], 1.0).log_prob(models.DATA[:, None])
    expected = pieces.logsumexp(-1).sum(-1)
    expected = expected + dist.Normal(0.0, 3.0).log_prob(loc).sum(-1)
    expected = expected + dist.Beta(2.0, 2.0).log_prob(weight) + (weight * (1 - weight)).log()
    torch.testing.assert_close(target.log_density_and_gradient(z)[0], expected)


def test_a_hidden_markov_model_is_summed_over_its_paths():
    target = Target.from_model(models.hidden_markov)
    assert set(target.program.marginalised) == {f"z{t}" for t in range(4)}
    z = positions_of(target, 3)
    values = target.constrain(z.T)
    log_density, _ = target.log_density_and_gradient(z)
    for chain in range(3):
        stay, loc = values["stay"][chain], values["loc"][chain]
        rows = torch.stack([torch.stack([stay, 1 - stay]), torch.stack([1 - stay, stay])]).log()
        paths = torch.cartesian_prod(*[torch.arange(2)] * 4)
        total = dist.Normal(loc[paths], 1.0).log_prob(models.DATA).sum(-1) + rows[0, paths[:, 0]]
        for t in range(3):
            total = total + rows[paths[:, t], paths[:, t + 1]]
        expected = total.logsumexp(0) + dist.Normal(0.0, 3.0).log_prob(loc).sum()
        expected = expected + dist.Beta(2.0, 1.0).log_prob(stay) + (stay * (1 - stay)).log()
        torch.testing.assert_close(log_density[chain], expected)


def test_nets_and_parameters_are_frozen_and_keep_no_graph():
    model = models.Regression()
    target = Target.from_model(model, torch.randn(5, 2), torch.randn(5))
    assert {site.name for site in target.sites} == {"linear.weight", "linear.bias"}
    z = positions_of(target, 3)
    value, gradient = target.log_density_and_gradient(z)
    assert not value.requires_grad
    assert not gradient.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    stored = dict(pyro.get_param_store().named_parameters())
    assert "noise" in stored
    assert all(parameter.grad is None for parameter in stored.values())


def test_nested_plates_are_laid_out_and_summed():
    target = Target.from_model(models.nested)
    sizes = {site.name: (site.shape, site.size) for site in target.sites}
    assert sizes == {"a": ((3, 1), 3), "w": ((3, 2, 4), 18), "b": ((3, 2), 6)}
    plates = {site.name: [plate.name for plate in site.plates] for site in target.sites}
    assert plates == {"a": ["outer"], "w": ["outer", "inner"], "b": ["outer", "inner"]}
    z = positions_of(target, 2)
    values = target.constrain(z.T)
    traces = []
    for chain in range(2):
        fixed = pyro.condition(
            models.nested, {name: value[chain] for name, value in values.items()}
        )
        traces.append(pyro.poutine.trace(fixed).get_trace().log_prob_sum())
    site = next(site for site in target.sites if site.name == "w")
    transform = torch.distributions.biject_to(dist.constraints.simplex)
    free = z.T[:, site.slice].reshape(2, 3, 2, 3)
    log_det = transform.log_abs_det_jacobian(free, values["w"]).sum((-1, -2))
    torch.testing.assert_close(target.log_density_and_gradient(z)[0], torch.stack(traces) + log_det)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions_have_the_dtype_of_the_model(dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    target = Target.from_model(lambda: pyro.sample("x", dist.Gamma(2.0, 1.0)))
    assert target.dtype == dtype
    z = target.initial_positions(4)
    value, gradient = target.log_density_and_gradient(z)
    assert {z.dtype, value.dtype, gradient.dtype, target.constrain(z.T)["x"].dtype} == {dtype}


def test_data_changed_in_place_is_seen_by_a_recording():
    y = torch.zeros(3)

    def model() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    target = Target.from_model(model)
    recorded = target.traced_log_density_and_gradient(2)
    z = torch.tensor([[0.0, 1.0]])
    before = recorded(z, Side())
    y.fill_(2.0)
    torch.testing.assert_close(recorded(z, Side()), target.log_density_and_gradient(z))
    assert not torch.equal(before[0], recorded(z, Side())[0])


def test_a_model_that_vmap_cannot_take_is_looped_over_with_one_warning():
    with pytest.warns(UserWarning, match="chain by chain") as told:
        target = Target.from_model(models.branching)
    assert len(told) == 1
    assert not target.vectorized
    kernel, warmup = hmc(num_steps=2, jitter=0.5), Warmup(0, step_size=0.8)
    draws = sampled(target, kernel=kernel, warmup=warmup, num_samples=150, chains=4)
    # Given x, y is N(2 sign x, 1). An ESS of a tenth of the draws is plenty.
    rest, n = draws["y"] - 2 * draws["x"].sign(), len(draws["y"]) / 10
    assert abs(float(rest.mean())) < 4 * (1 / n) ** 0.5
    assert abs(float(rest.var()) - 1) < 4 * (2 / n) ** 0.5


def random_density() -> None:
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x + torch.rand(()), 1.0), obs=torch.tensor(0.0))


def detached() -> None:
    x = pyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.sample("y", dist.Normal(x.detach(), 1.0), obs=torch.tensor(0.0))


def detached_beside_a_net() -> None:
    x = pyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
    weight = torch.nn.Parameter(torch.ones(()))
    pyro.sample("y", dist.Normal(weight * x.detach(), 1.0), obs=torch.tensor(0.0))


def flat() -> None:
    pyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))


def observed_only() -> None:
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))


def another_site() -> None:
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    if x != 0:
        pyro.sample("more", dist.Normal(0.0, 1.0))


def a_site_less() -> None:
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    if x == 0:
        pyro.sample("more", dist.Normal(0.0, 1.0))


def another_shape() -> None:
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("more", dist.Normal(0.0, 1.0).expand([2 + int(x == 0)]).to_event(1))


def counts() -> None:
    pyro.sample("x", dist.Poisson(3.0))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (random_density, "draws random numbers"),
        (detached, "no gradient path"),
        (detached_beside_a_net, "no gradient path"),
        (flat, "is flat.*cannot be normalised"),
        (observed_only, "no continuous latent site.* MCMC.Gibbs.* exact_enumeration"),
        (another_site, "did not have at its first run"),
        (a_site_less, "did not meet"),
        (another_shape, "Shapes must not depend"),
        (counts, "x"),
    ],
)
def test_a_model_without_a_fixed_density_is_refused(model: Callable, said: str):
    with pytest.raises(ValueError, match=said):
        Target.from_model(model)


def test_an_inverse_temperature_per_chain_equals_separate_runs():
    target = Target.from_model(models.plain)
    z = positions_of(target, 3)
    beta = torch.tensor([0.0, 0.3, 1.0])
    side = Side(beta=beta)
    together = target.log_density_and_gradient(z, side)
    torch.testing.assert_close(target.traced_log_density_and_gradient(3, side)(z, side), together)
    for chain in range(3):
        alone = target.log_density_and_gradient(
            z[:, chain : chain + 1], Side(beta=beta[chain : chain + 1])
        )
        torch.testing.assert_close(
            (together[0][chain], together[1][:, chain]), (alone[0][0], alone[1][:, 0])
        )
    terms = target.evaluate(z.T)
    prior = terms.log_density - terms.log_likelihood["y"].sum(-1)
    torch.testing.assert_close(together[0], prior + beta * terms.log_likelihood["y"].sum(-1))


def test_values_of_sites_per_chain_equal_separate_runs():
    target = Target.from_model(models.plain)
    z = positions_of(target, 3)
    observed = torch.randn(3, 4)
    side = Side(values={"y": observed})
    together = target.log_density_and_gradient(z, side)
    torch.testing.assert_close(target.traced_log_density_and_gradient(3, side)(z, side), together)
    for chain in range(3):
        free = pyro.poutine.uncondition(models.plain)
        conditioned = pyro.condition(free, {"y": observed[chain]})
        alone = Target.from_model(conditioned).log_density_and_gradient(z[:, chain : chain + 1])
        torch.testing.assert_close(
            (together[0][chain], together[1][:, chain]), (alone[0][0], alone[1][:, 0])
        )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"typo"}, r"here \['y'\]; got \['typo'\]\.$"),
        ({"mu", "y"}, r"got \['mu'\].*coordinates in the position"),
        ({"ratio"}, "ratio"),
    ],
)
def test_side_values_for_anything_but_observed_and_discrete_sites_are_refused(
    names: set[str], said: str
):
    target = Target.from_model(models.plain)
    side = Side(values={name: torch.zeros(3) for name in names})
    with pytest.raises(ValueError, match=said):
        target.log_density_and_gradient(positions_of(target, 3), side)
    bare = Target.from_energy(CASES[0].energy)
    with pytest.raises(ValueError, match="coordinates in the position"):
        bare.log_density(torch.zeros(bare.dim), Side(values={"x": torch.zeros(())}))


def test_evaluate_splits_the_density_into_its_terms():
    target = Target.from_model(models.plain)
    terms = target.evaluate(torch.randn(2, 3, target.dim))
    assert terms.log_density.shape == (2, 3)
    assert terms.latents["theta"].shape == (2, 3, 4)
    assert terms.log_likelihood["y"].shape == (2, 3, 4)
    torch.testing.assert_close(
        terms.deterministics["ratio"], terms.latents["mu"] / terms.latents["tau"]
    )
    assert set(terms.log_prior) == {"mu", "tau", "theta"}


def test_constrain_gives_latent_and_deterministic_sites():
    target = Target.from_model(models.plain)
    values = target.constrain(torch.randn(5, target.dim))
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        "mu": (5,), "tau": (5,), "theta": (5, 4), "ratio": (5,)
    }  # fmt: skip
    assert bool((values["tau"] > 0).all())


def test_unconstrain_puts_values_in_their_places():
    target = Target.from_model(models.plain)
    values = {"mu": torch.randn(6), "tau": torch.randn(6), "theta": torch.randn(6, 4)}
    z = target.unconstrain(values)
    torch.testing.assert_close(target.constrain(z)["tau"], values["tau"].exp())
    torch.testing.assert_close(target.constrain(z)["theta"], values["theta"])
    with pytest.raises(ValueError, match="missing"):
        target.unconstrain({"mu": values["mu"]})
    with pytest.raises(ValueError, match="must end in shape"):
        target.unconstrain({**values, "theta": torch.randn(6, 3)})


def test_coordinates_are_those_that_sites_depend_on():
    target = Target.from_model(models.plain)
    assert target.coordinates_of(["tau"]).tolist() == [1]
    assert target.coordinates_of(["ratio"]).tolist() == [0, 1]
    with pytest.raises(ValueError, match="no sites"):
        target.coordinates_of(["nothing"])


def test_an_energy_and_its_distribution_are_one_density():
    energy = CASES[0].energy
    bare = Target.from_energy(energy, temperature=2.0)
    z = torch.randn(bare.dim, 4, dtype=bare.dtype)
    expected = -torch.stack([energy(x) for x in z.T.reshape(4, *energy.event_shape)]) / 2.0
    torch.testing.assert_close(bare.log_density_and_gradient(z)[0], expected)
    with pytest.raises(ValueError, match="positive"):
        Target.from_energy(energy, temperature=-1.0)


def test_a_potential_function_is_minus_a_log_density():
    target = Target.from_potential(
        lambda z: 0.5 * (z["a"].square().sum() + z["b"].square().sum()),
        {"a": torch.zeros(2), "b": torch.zeros(())},
    )
    z = torch.randn(3, 5)
    value, gradient = target.log_density_and_gradient(z)
    torch.testing.assert_close(value, -0.5 * z.square().sum(0))
    torch.testing.assert_close(gradient, -z)


def test_a_continuous_site_below_an_enumerated_one_is_one_coordinate():
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.3))
        x = pyro.sample("x", dist.Normal(3 * z, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(2.0))

    target = Target.from_model(model)
    x = torch.tensor([0.7])
    states = torch.tensor([0.7, 0.3]).log() + dist.Normal(torch.tensor([0.0, 3.0]), 1.0).log_prob(x)
    expected = states.logsumexp(0) + dist.Normal(x[0], 1.0).log_prob(torch.tensor(2.0))
    assert target.dim == 1
    torch.testing.assert_close(target.log_density(x), expected)


def test_a_support_that_depends_on_an_enumerated_site_is_refused():
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Uniform(0.0, 1.0 + z))

    with pytest.raises(ValueError, match="depends on an enumerated discrete site"):
        Target.from_model(model)


def missing_data() -> None:
    """Pyro's idiom: three data, of which one is missing; a factor knows the imputed ones."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        observed = torch.tensor([True, False, True])
        y = pyro.sample("y", dist.Normal(mu, 0.5), obs=models.DATA[:3], obs_mask=observed)
    pyro.factor("smooth", -(y[1:] - y[:-1]).square().sum())


def test_masked_elements_that_nothing_weighs_keep_their_own_prior():
    target = Target.from_model(missing_data)
    z = torch.randn(5, target.dim)
    mu, unobserved = z[:, :1], z[:, 1:]
    data = models.DATA[:3].where(torch.tensor([True, False, True]), unobserved)
    log_prob = dist.Normal(mu, 0.5).log_prob
    expected = dist.Normal(0.0, 1.0).log_prob(mu[:, 0]) + log_prob(data).sum(-1)
    expected = expected - (data[:, 1:] - data[:, :-1]).square().sum(-1)
    discarded = log_prob(unobserved)[:, [0, 2]].sum(-1)
    terms = target.evaluate(z)
    torch.testing.assert_close(terms.log_density, expected + discarded)
    torch.testing.assert_close(terms.log_prior["y_unobserved"], log_prob(unobserved))


def test_masked_elements_that_something_weighs_have_a_flat_prior():
    def model() -> None:
        with pyro.plate("pair", 2):
            x = pyro.sample("x", dist.Gamma(2.0, 1.0).mask(False))
        pyro.sample("y", dist.Normal(x[0], 1.0), obs=torch.tensor(0.3))

    target = Target.from_model(model)
    z = torch.randn(5, 2)
    expected = dist.Normal(z[:, 0].exp(), 1.0).log_prob(torch.tensor(0.3)) + z.sum(-1)
    expected = expected + dist.Gamma(2.0, 1.0).log_prob(z[:, 1].exp())
    torch.testing.assert_close(target.evaluate(z).log_density, expected)


def test_a_masked_element_that_weighs_by_a_comparison_keeps_its_flat_prior():
    def model() -> None:
        x = pyro.sample("x", dist.Uniform(0.0, 1.0).mask(False))
        y = pyro.sample("y", dist.Beta(2.0, 2.0).mask(False))
        pyro.factor("switch", (x > 0.5).float() + (y > 0.5).float())

    z = torch.tensor([0.7, -0.4])
    x = z.sigmoid()
    expected = (x * (1 - x)).log().sum() + (x > 0.5).sum()
    torch.testing.assert_close(Target.from_model(model).log_density(z), expected)


def test_masks_inside_of_an_event_take_out_its_elements():
    keep = torch.tensor([True, False, False])
    target = Target.from_model(
        lambda: pyro.sample("x", dist.Normal(torch.zeros(2, 3), 1.0).mask(keep).to_event(1))
    )
    z = torch.randn(5, target.dim)
    torch.testing.assert_close(
        target.evaluate(z).log_density, dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    )


def test_masked_elements_without_a_density_of_their_own_are_refused():
    def model() -> None:
        pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.ImproperUniform(dist.constraints.real, (), ()).mask(False))

    with pytest.raises(ValueError, match="'y' are masked out, and nothing else"):
        Target.from_model(model)
