"""Minima of energies and modes of models, against closed forms."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor, nn
from torch.distributions import constraints

import pyro_ebm as ebm

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
ENDLESS = "falls without end"


def function(call: Callable, shape: tuple = (), support: Any = constraints.real) -> ebm.Energy:
    return ebm.as_energy(call, event_shape=shape, support=support)


def of(distribution: Any) -> Callable[[], Tensor]:
    """A model of one latent site."""
    return lambda: pyro.sample("x", distribution)


def configurations(found: ebm.Minima) -> Tensor:
    """The positions of an energy's minima."""
    assert isinstance(found.positions, Tensor)
    return found.positions


def at(found: ebm.Minima, site: str = "x") -> Tensor:
    """The values of a site at a model's modes."""
    assert isinstance(found.positions, dict)
    return found.positions[site]


def correlated() -> tuple[Tensor, Tensor]:
    mean = torch.tensor([1.0, -2.0, 0.5, 3.0])
    root = torch.randn(4, 4)
    return mean, root @ root.T + torch.eye(4)


@DTYPES
def test_every_start_of_a_gaussian_ends_at_its_mean(dtype: torch.dtype):
    mean, covariance = (each.to(dtype) for each in correlated())
    found = ebm.minimize(ebm.Gaussian(mean, covariance_matrix=covariance))
    assert found.counts.tolist() == [64]
    assert found.converged.tolist() == [True]
    assert configurations(found).dtype == dtype
    torch.testing.assert_close(configurations(found)[0], mean, rtol=1e-3, atol=1e-3)


def test_a_tilted_double_well_has_its_minima_where_the_cubic_has_its_roots():
    torch.set_default_dtype(torch.float64)
    tilt = 0.2
    found = ebm.minimize(ebm.DoubleWell(1, tilt=tilt))
    # 4 x^3 - 4 x + tilt = 0: the outer two of its three real roots.
    companion = torch.tensor([[0.0, 0.0, -tilt / 4], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    roots = torch.linalg.eigvals(companion).real.sort().values
    torch.testing.assert_close(configurations(found), roots[[0, 2], None], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.energies, ((roots**2 - 1) ** 2 + tilt * roots)[[0, 2]])


def test_the_three_minima_of_mueller_brown_are_found():
    found = ebm.minimize(ebm.MuellerBrown())
    known = torch.tensor([[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]])
    torch.testing.assert_close(configurations(found), known, rtol=0.0, atol=6e-4)
    energies = torch.tensor([-146.700, -108.167, -80.768])
    torch.testing.assert_close(found.energies, energies, rtol=0.0, atol=6e-4)
    assert bool(found.converged.all())
    assert int(found.counts.sum()) == 64


def test_a_temperature_does_not_move_the_minima_nor_change_their_energies():
    energy = ebm.DoubleWell(2, tilt=torch.tensor([0.1, 0.3]))
    bare = ebm.minimize(energy)
    for temperature in (0.1, 10.0):
        found = ebm.minimize(ebm.EnergyDistribution(energy, temperature=temperature))
        torch.testing.assert_close(
            configurations(found), configurations(bare), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(found.energies, bare.energies, rtol=1e-4, atol=1e-4)


def test_an_energy_and_its_target_have_the_same_minima():
    energy = ebm.DoubleWell(1, tilt=0.3)
    bare, target = ebm.minimize(energy), ebm.minimize(ebm.Target.from_energy(energy))
    torch.testing.assert_close(configurations(target), configurations(bare), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(target.energies, bare.energies, rtol=1e-4, atol=1e-4)


def test_params_of_an_energy_distribution_are_used():
    def energy(x: Tensor, center: Tensor) -> Tensor:
        return (x - center).square()

    found = ebm.minimize(ebm.EnergyDistribution(energy, params=(torch.tensor(0.7),)))
    torch.testing.assert_close(configurations(found), torch.tensor([0.7]), rtol=1e-4, atol=1e-4)


def test_a_distribution_has_its_mode_found():
    found = ebm.minimize(dist.MultivariateNormal(*correlated()))
    torch.testing.assert_close(configurations(found)[0], correlated()[0], rtol=1e-3, atol=1e-3)


def test_a_net_is_minimised():
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - 0.5).pow(4).sum(-1, keepdim=True)

    found = ebm.minimize(ebm.as_energy(Net(), event_shape=(2,)))
    assert bool(found.converged.all())
    torch.testing.assert_close(
        configurations(found)[0],
        torch.full((2,), 0.5),
        rtol=0.0,
        atol=float(torch.finfo().eps ** 0.25),
    )


@pytest.mark.parametrize(
    ("distribution", "mode"),
    [
        (dist.Gamma(3.0, 1.0), 2.0),
        (dist.LogNormal(0.5, 0.5), torch.tensor(0.25).exp()),
        (dist.Beta(3.0, 2.0), 2 / 3),
        (dist.InverseGamma(3.0, 2.0), 0.5),
        (dist.Dirichlet(torch.tensor([2.0, 3.0, 5.0])), torch.tensor([1.0, 2.0, 4.0]) / 7),
    ],
    ids=["gamma", "lognormal", "beta", "inverse gamma", "dirichlet"],
)
def test_the_mode_of_a_constrained_site_carries_no_jacobian(distribution: Any, mode: Any):
    found = ebm.minimize(of(distribution))
    mode = torch.as_tensor(mode)
    torch.testing.assert_close(at(found), mode[None], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.energies, -distribution.log_prob(mode)[None])
    assert found.converged.tolist() == [True]


def test_the_map_of_a_conjugate_model_is_its_posterior_mean():
    data = torch.tensor([1.0, 2.0, 4.0])

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(1.0, 2.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, 0.5), obs=y)

    found = ebm.minimize(model, data)
    precision = 1 / 4 + 3 / 0.25
    mean = (1.0 / 4 + data.sum() / 0.25) / precision
    torch.testing.assert_close(at(found, "mu"), mean[None], rtol=1e-4, atol=1e-4)
    joint = dist.Normal(1.0, 2.0).log_prob(mean) + dist.Normal(mean, 0.5).log_prob(data).sum()
    torch.testing.assert_close(found.energies, -joint[None])


def test_a_mean_and_a_scale_have_their_joint_mode():
    # Flat priors: the mode in (mean, scale) is that of maximum likelihood.
    data = torch.tensor([0.0, 1.0, 5.0, 6.0])

    def model() -> None:
        mean = pyro.sample("mean", dist.ImproperUniform(constraints.real, (), ()))
        scale = pyro.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
        with pyro.plate("data", len(data)):
            pyro.sample("y", dist.Normal(mean, scale), obs=data)

    found = ebm.minimize(model)
    torch.testing.assert_close(at(found, "mean"), data.mean()[None], rtol=1e-3, atol=1e-3)
    scale = data.std(correction=0)[None]
    torch.testing.assert_close(at(found, "scale"), scale, rtol=1e-3, atol=1e-3)


def test_logistic_regression_agrees_with_scipy():
    torch.set_default_dtype(torch.float64)
    x = torch.randn(80, 3)
    y = (torch.rand(80) < torch.sigmoid(x @ torch.tensor([1.0, -1.0, 0.5]))).double()

    def model(x: Tensor, *, y: Tensor) -> None:
        weights = pyro.sample("weights", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ weights), obs=y)

    def objective(weights: Any) -> tuple[float, Any]:
        w = torch.tensor(weights, requires_grad=True)
        prior = dist.Normal(0.0, 2.0).log_prob(w).sum()
        value = -prior - dist.Bernoulli(logits=x @ w).log_prob(y).sum()
        value.backward()
        assert w.grad is not None
        return value.item(), w.grad.numpy()

    reference = scipy_minimize(objective, [0.0] * 3, jac=True, options={"gtol": 1e-9})
    found = ebm.minimize(model, x, y=y)
    torch.testing.assert_close(
        at(found, "weights")[0], torch.tensor(reference.x), rtol=1e-6, atol=1e-6
    )
    assert float(found.energies[0]) == pytest.approx(reference.fun, rel=1e-10)


def test_discrete_sites_are_summed_out():
    def model() -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        state = pyro.sample("state", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(mean + 6.0 * (2 * state - 1), 1.0), obs=torch.tensor(0.0))

    found = ebm.minimize(model)
    # Each mode is, but for the other component's exp(-72), that of one Gaussian.
    modes = at(found, "mean").sort().values
    torch.testing.assert_close(modes, torch.tensor([-6.0, 6.0]) / 1.01, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["mask", "indices", "dictionary"])
def test_clamped_coordinates_leave_the_conditional_mean(form: str):
    torch.set_default_dtype(torch.float64)
    mean, covariance = correlated()
    values = torch.tensor([2.0, -1.0])
    observed: Any = {
        "mask": (torch.tensor([False, True, False, True]), values),
        "indices": ([1, 3], values),
        "dictionary": {1: 2.0, 3: -1.0},
    }[form]
    found = ebm.minimize(ebm.Gaussian(mean, covariance_matrix=covariance), observed=observed)
    free, held = [0, 2], [1, 3]
    gain = torch.linalg.solve(covariance[held][:, held], values - mean[held])
    expected = mean.clone()
    expected[held] = values
    expected[free] = mean[free] + covariance[free][:, held] @ gain
    torch.testing.assert_close(configurations(found), expected[None], rtol=1e-6, atol=1e-6)
    whole = ebm.Gaussian(mean, covariance_matrix=covariance)(expected)
    torch.testing.assert_close(found.energies, whole[None])


def test_a_conditioned_site_of_a_model_is_held():
    def model() -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(a, 1.0))

    found = ebm.minimize(model, observed={"b": 3.0})
    assert set(found.positions) == {"a"}
    torch.testing.assert_close(at(found, "a"), torch.tensor([1.5]), rtol=1e-4, atol=1e-4)


@DTYPES
@pytest.mark.parametrize(
    ("call", "support", "where", "lowest"),
    [
        (lambda x: x, constraints.interval(0.0, 1.0), 0.0, 0.0),
        (lambda x: -5 * x, constraints.interval(-3.0, 7.0), 7.0, -35.0),
        (lambda x: (x + 1).square(), constraints.positive, 0.0, 1.0),
        (lambda x: x.square(), constraints.nonnegative, 0.0, 0.0),
        (lambda x: (x - 0.3).square(), constraints.interval(0.0, 1.0), 0.3, 0.0),
    ],
    ids=["left", "right", "sloping", "flat at the border", "inside"],
)
def test_a_minimum_at_a_border_lies_there_to_rounding(
    call: Callable, support: Any, where: float, lowest: float, dtype: torch.dtype
):
    torch.set_default_dtype(dtype)
    found = ebm.minimize(function(call, support=support))
    assert found.converged.tolist() == [True]
    assert found.counts.tolist() == [64]
    tolerance = 1e-7 if dtype == torch.float64 else 1e-3
    inside = 0 < where < 1
    torch.testing.assert_close(
        configurations(found),
        torch.tensor([where]),
        rtol=0.0,
        atol=tolerance if inside else 10 * torch.finfo(dtype).eps,
    )
    torch.testing.assert_close(found.energies, torch.tensor([lowest]), rtol=1e-5, atol=1e-6)


def test_one_coordinate_at_its_border_and_one_inside_are_both_right():
    torch.set_default_dtype(torch.float64)
    energy = function(
        lambda x: (x[0] - 0.3).square() + (x[1] + 1).square() + x[0] * x[1],
        (2,),
        constraints.interval(0.0, 1.0),
    )
    found = ebm.minimize(energy)
    torch.testing.assert_close(
        configurations(found), torch.tensor([[0.3, 0.0]]), rtol=0.0, atol=1e-6
    )
    assert found.converged.tolist() == [True]


def test_a_dirichlet_mode_on_an_edge_is_found():
    found = ebm.minimize(of(dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0]))))
    mode = torch.tensor([[0.0, 1 / 3, 2 / 3]])
    torch.testing.assert_close(at(found), mode, rtol=1e-3, atol=1e-3)
    assert found.converged.tolist() == [True]


@DTYPES
@pytest.mark.parametrize(
    "make",
    [
        lambda: function(lambda x: -x.sum(), (2,)),
        lambda: function(lambda x: -x.square().sum(), (2,)),
        lambda: function(lambda x: 1 / (1 + x), support=constraints.positive),
        lambda: of(dist.Beta(0.5, 1.0)),
        lambda: of(dist.Beta(1.0, 0.5)),
        lambda: of(dist.Gamma(0.5, 1.0)),
        lambda: of(dist.Dirichlet(torch.tensor([0.5, 1.0, 2.0]))),
    ],
    ids=["linear", "quadratic", "levels off", "beta", "beta right", "gamma", "dirichlet"],
)
def test_an_energy_that_falls_without_end_is_told_of_and_never_converged(
    make: Callable[[], Any], dtype: torch.dtype
):
    torch.set_default_dtype(dtype)
    with pytest.warns(UserWarning, match=ENDLESS):
        found = ebm.minimize(make())
    assert found.converged.tolist() == [False]
    assert found.counts.tolist() == [64]
    assert bool(found.energies.isfinite().all())


def test_a_well_beside_an_abyss_is_still_found():
    # A local minimum near 0 and an endless fall beyond x = 4/3.
    energy = function(lambda x: x**2 - 0.5 * x**3)
    with pytest.warns(UserWarning, match=ENDLESS):
        found = ebm.minimize(energy)
    assert found.converged.tolist() == [False, True]
    assert float(configurations(found)[1]) == pytest.approx(0.0, abs=1e-3)
    assert int(found.counts.sum()) == 64


def test_a_search_cut_short_says_so():
    chain = function(lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(), (8,))
    with pytest.warns(UserWarning, match="before it came to a minimum"):
        found = ebm.minimize(chain, max_evaluations=4, starts=8)
    assert not bool(found.converged.any())


def test_regions_where_the_energy_is_nan_are_avoided():
    found = ebm.minimize(function(lambda x: x - x.log()))
    assert found.converged.tolist() == [True]
    torch.testing.assert_close(configurations(found), torch.ones(1), rtol=1e-3, atol=1e-3)


def test_the_seed_repeats_a_search_and_another_begins_elsewhere():
    energy = ebm.DoubleWell(3)
    runs = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        runs.append(ebm.minimize(energy))
    assert torch.equal(runs[0].positions, runs[1].positions)
    assert torch.equal(runs[0].counts, runs[1].counts)
    assert not torch.equal(runs[0].counts, runs[2].counts)


def test_starts_that_are_given_are_where_the_search_begins():
    energy = ebm.DoubleWell(1)
    assert ebm.minimize(energy, starts=torch.tensor([[0.2], [3.0]])).counts.tolist() == [2]
    found = ebm.minimize(
        function(lambda x: (x - 5).square(), support=constraints.positive),
        starts=torch.tensor([4.0, 9.0]),
    )
    assert found.counts.tolist() == [2]

    def model() -> None:
        side = pyro.sample("side", dist.Normal(0.0, 1.0))
        pyro.factor("wells", -10 * (side.square() - 1).square())

    given = ebm.minimize(model, starts={"side": torch.tensor([-0.5, -2.0])})
    assert bool((at(given, "side") < 0).all())
    held = ebm.minimize(
        ebm.DoubleWell(2), observed=([0], 0.5), starts=torch.tensor([[9.0, 0.3], [0.0, 0.7]])
    )
    torch.testing.assert_close(
        configurations(held), torch.tensor([[0.5, 1.0]]), rtol=1e-3, atol=1e-3
    )


def test_the_table_is_short_and_lowest_first():
    lines = repr(ebm.minimize(ebm.MuellerBrown())).splitlines()
    assert lines[0] == "Minima: 3 from 64 starts"
    assert lines[1].split() == ["energy", "starts", "converged", "position"]
    assert lines[2].split()[0] == "-146.7"
    many = repr(ebm.minimize(ebm.DoubleWell(8)))
    assert len(many.splitlines()) <= 12
    assert "more" in many
    assert "x 2" in repr(ebm.minimize(of(dist.Gamma(3.0, 1.0))))


def test_zero_is_printed_without_a_sign():
    nought = torch.tensor([-0.0])
    found = ebm.Minima(nought[:, None], nought, torch.tensor([4]), torch.tensor([True]))
    assert repr(found).splitlines()[2].split() == ["0", "4", "yes", "[0]"]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: ebm.minimize(3.0), TypeError, "expected a Pyro model"),
        (lambda: ebm.minimize(nn.Linear(2, 1)), TypeError, "as_energy"),
        (lambda: ebm.minimize(lambda x: x), TypeError, "as_energy"),
        (lambda: ebm.minimize(ebm.DoubleWell(2), 1.0), TypeError, "no model arguments"),
        (lambda: ebm.minimize(ebm.DoubleWell(2), starts=0), ValueError, "at least one start"),
        (lambda: ebm.minimize(ebm.DoubleWell(2), starts="many"), TypeError, "starts to be"),
        (
            lambda: ebm.minimize(ebm.DoubleWell(2), starts=torch.zeros(3)),
            ValueError,
            r"shape \[n, 2\]",
        ),
        (
            lambda: ebm.minimize(of(dist.Gamma(2.0, 1.0)), starts={"x": torch.tensor([-1.0])}),
            ValueError,
            "inside the support",
        ),
        (
            lambda: ebm.minimize(of(dist.Gamma(2.0, 1.0)), starts={"y": torch.ones(2)}),
            ValueError,
            "latent sites",
        ),
        (lambda: ebm.minimize(ebm.DoubleWell(2), observed=0.3), TypeError, "pair"),
        (lambda: ebm.minimize(ebm.DoubleWell(2), observed=([5], 1.0)), ValueError, "indices"),
        (
            lambda: ebm.minimize(of(dist.Normal(0.0, 1.0)), observed={"z": 1.0}),
            ValueError,
            "name sites",
        ),
        (
            lambda: ebm.minimize(of(dist.Normal(0.0, 1.0)), observed=([0], 1.0)),
            TypeError,
            "dictionary",
        ),
        (
            lambda: ebm.minimize(ebm.Target.from_energy(ebm.DoubleWell(1)), observed=([0], 1.0)),
            TypeError,
            "observed=None",
        ),
        (
            lambda: ebm.minimize(ebm.EnergyDistribution(lambda x: x.square(), batch_shape=(3,))),
            ValueError,
            "batch shape",
        ),
        (
            lambda: ebm.minimize(function(lambda x: x * torch.nan)),
            ValueError,
            "NaN",
        ),
    ],
)
def test_ill_input_is_refused(call: Callable[[], Any], error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        call()


def test_a_model_that_vmap_cannot_take_has_the_same_mode():
    def model() -> None:
        x = pyro.sample("x", dist.Gamma(3.0, 1.0))
        pyro.factor("branch", torch.zeros(()) if bool(x > 0) else x)

    with pytest.warns(UserWarning, match="chain by chain"):
        found = ebm.minimize(model, starts=4)
    torch.testing.assert_close(at(found), torch.tensor([2.0]), rtol=1e-3, atol=1e-3)


def test_a_mode_far_beyond_the_starts_is_no_endless_fall():
    for energy, where in (
        (function(lambda x: (x - 3e4).square()), 3e4),
        (function(lambda x: (x.log() - 20).square(), support=constraints.positive), 485165195.0),
    ):
        found = ebm.minimize(energy)
        assert found.converged.tolist() == [True]
        torch.testing.assert_close(configurations(found), torch.tensor([where]), rtol=1e-2, atol=0)
