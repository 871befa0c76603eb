"""A run as ArviZ data: right values under right names, for every kind of site."""

import itertools
import json
import warnings

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from scipy import stats

import pyro_ebm as ebm
from pyro_ebm.diagnostics import mcse_mean
from pyro_ebm.mcmc.api.export import build_groups, predict, to_arviz
from pyro_ebm.mcmc.api.predictive import forward_draws
from pyro_ebm.target import Target
from tests.models.catalogue import load

from .records import made_up, run

DATA = torch.tensor([-2.0, -1.0, 0.5, 2.0, 0.0])


def closely(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def schools():
    posterior = load("eight_schools")
    target = Target.from_model(posterior.model, *posterior.args, **posterior.kwargs)
    return run(target, chains=64, draws=200, warmup=150, keep_warmup=True)


@pytest.fixture(scope="module")
def data(schools):
    return to_arviz(schools)


def test_the_posterior_of_a_run_has_the_exact_means(data):
    posterior = load("eight_schools")
    draws = {name: variable.values for name, variable in data["posterior"].items()}
    for name, values in posterior.marginals(draws).items():
        error = abs(values.mean() - posterior.exact[name]["mean"])
        assert error < 4 * mcse_mean(values.astype(float)), name


def test_every_group_is_there_under_arvizs_names_types_and_axes(data):
    axes = {
        group: {name: variable.dims for name, variable in data[group].items()}
        for group in data.groups()
    }
    sample, school = ("chain", "draw"), ("chain", "draw", "school")
    sites = {"mu": sample, "tau": sample, "theta_trans": school}
    assert axes["posterior"] == {**sites, "theta": school}
    assert axes["unconstrained_posterior"] == axes["log_prior"] == sites
    assert axes["log_likelihood"] == {"y": school}
    assert axes["observed_data"] == {"y": ("school",)}
    assert axes["constant_data"] == {"sigma": ("sigma_dim_0",)}
    assert set(axes) == {*axes} - {"energies", "prior", "posterior_predictive"}
    types = {name: variable.dtype.kind for name, variable in data["sample_stats"].items()}
    assert types == {
        "lp": "f",
        "energy": "f",
        "energy_error": "f",
        "acceptance_rate": "f",
        "step_size": "f",
        "tree_depth": "i",
        "n_steps": "i",
        "diverging": "b",
        "reached_max_treedepth": "b",
    }


def test_log_likelihoods_and_priors_are_the_models_and_add_up_to_lp(data):
    posterior, sigma, y = data["posterior"], *(data["constant_data"]["sigma"], load_y())
    likelihood = stats.norm(posterior["theta"], sigma.values).logpdf(y)
    closely(data["log_likelihood"]["y"], likelihood)
    closely(data["log_prior"]["mu"], stats.norm(0, 5).logpdf(posterior["mu"]))
    closely(data["log_prior"]["tau"], stats.halfcauchy(scale=5).logpdf(posterior["tau"]))
    closely(data["unconstrained_posterior"]["tau"], np.log(posterior["tau"]))
    log_prior = data["log_prior"]
    total = likelihood.sum(-1) + log_prior["mu"] + log_prior["tau"]
    total = total + log_prior["theta_trans"].sum("school")
    closely(data["sample_stats"]["lp"], total + data["unconstrained_posterior"]["tau"])


def load_y():
    return load("eight_schools").kwargs["y"].numpy()


# ArviZ 0.23 under pandas 3.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_arviz_summarises_scores_and_compares(data):
    summary = az.summary(data, var_names=["mu", "theta"])
    assert len(summary) == 9
    assert (summary["r_hat"] < 1.1).all()
    y = 1 + torch.linspace(-1.5, 1.5, 20)

    def wide(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
        with pyro.plate("n", len(y)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def wrong(y):
        mean = pyro.sample("mean", dist.Normal(-5.0, 0.1))
        with pyro.plate("n", len(y)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    runs = {
        model.__name__: to_arviz(run(Target.from_model(model, y), chains=4, draws=200, warmup=60))
        for model in (wide, wrong)
    }
    assert az.loo(runs["wide"]).n_data_points == 20
    assert az.compare(runs).index.tolist() == ["wide", "wrong"]


def test_netcdf_gives_everything_back(schools, tmp_path):
    whole = to_arviz(schools, save_warmup=True, prior=10, posterior_predictive=True)
    whole.to_netcdf(str(tmp_path / "run.nc"))
    back = az.from_netcdf(str(tmp_path / "run.nc"))
    assert set(back.groups()) == set(whole.groups())
    for group in whole.groups():
        assert back[group].identical(whole[group])


def test_the_warm_up_is_given_on_request(schools):
    found = to_arviz(schools, save_warmup=True)
    assert found["warmup_posterior"]["theta"].shape[::2] == (64, 8)
    assert found["warmup_posterior"]["theta"].dims == found["posterior"]["theta"].dims
    assert found["warmup_sample_stats"]["diverging"].dtype == bool
    with pytest.raises(ValueError, match="save_warmup=True"):
        to_arviz(schools._replace(warmup_positions=None), save_warmup=True)


def test_attributes_say_what_made_the_run(schools):
    attrs = to_arviz(schools).attrs
    assert attrs["inference_library"] == "pyro_ebm"
    assert attrs["pyro_version"] == pyro.__version__
    assert (attrs["seed"], attrs["sampler"], attrs["complete"]) == (17, "NUTS", 1)
    assert "unnormalised_sites" not in attrs
    assert to_arviz(schools._replace(complete=False)).attrs["complete"] == 0


def test_axes_and_labels_can_be_overridden(schools):
    found = to_arviz(
        schools,
        dims={"theta": ["college"], "sigma": ["school"]},
        coords={"school": list("ABCDEFGH"), "college": list("abcdefgh")},
    )
    assert found["posterior"]["theta"].dims[2:] == ("college",)
    assert found["posterior"]["theta_trans"].sel(school="C").shape == (64, 200)
    assert found["constant_data"]["sigma"].dims == ("school",)
    with pytest.raises(ValueError, match="names 'thetta', but the variables are"):
        to_arviz(schools, dims={"thetta": ["school"]})
    with pytest.raises(ValueError, match=r"must name all 1 axes .* got \('a', 'b'\)"):
        to_arviz(schools, dims={"theta": ["a", "b"]})
    with pytest.raises(ValueError, match="8 labels for the axis 'school'"):
        to_arviz(schools, coords={"school": ["A"]})


def test_groups_can_be_left_out(schools):
    groups = to_arviz(schools, log_likelihood=False, log_prior=False).groups()
    assert "log_likelihood" not in groups
    assert "log_prior" not in groups


def test_a_log_likelihood_beyond_memory_is_left_out_with_a_warning(schools, monkeypatch):
    monkeypatch.setattr("pyro_ebm.mcmc.api.export.LARGEST_LOG_LIKELIHOOD", 1000)
    with pytest.warns(UserWarning, match=r"would hold 1.02e\+05 numbers and is left out"):
        found = to_arviz(schools)
    assert "log_likelihood" not in found.groups()
    assert json.loads(found.attrs["without_log_likelihood"]) == ["y"]


def test_an_export_repeats_itself_and_leaves_the_random_stream_alone(schools):
    before = torch.get_rng_state()
    first, second = (to_arviz(schools, posterior_predictive=True, prior=5) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for group in ("posterior_predictive", "prior"):
        assert first[group].equals(second[group])


def test_predictions_are_draws_of_the_observed_sites_given_each_draw(schools):
    found = to_arviz(schools, posterior_predictive=True)
    sigma = found["constant_data"]["sigma"].values
    scores = (found["posterior_predictive"]["y"] - found["posterior"]["theta"]).values / sigma
    assert stats.kstest(scores.ravel(), "norm").pvalue > 1e-3
    assert list(found["posterior_predictive"].data_vars) == ["y"]
    assert found["posterior_predictive"]["y"].dims == found["log_likelihood"]["y"].dims


def test_the_prior_is_the_model_run_forwards(schools):
    found = to_arviz(schools, prior=2000)
    assert found["prior"]["theta"].shape == (1, 2000, 8)
    assert set(found["prior"].data_vars) == {"mu", "tau", "theta_trans", "theta"}
    assert list(found["prior_predictive"].data_vars) == ["y"]
    assert stats.kstest(found["prior"]["mu"].values.ravel(), stats.norm(0, 5).cdf).pvalue > 1e-3
    tau = found["prior"]["tau"].values.ravel()
    assert stats.kstest(tau, stats.halfcauchy(scale=5).cdf).pvalue > 1e-3


def test_new_data_is_predicted(schools):
    def regression(x, y=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(x)):
            mean = pyro.deterministic("mean", a * x)
            pyro.sample("y", dist.Normal(mean, 0.1), obs=y)

    record = made_up(Target.from_model(regression, torch.arange(3.0), y=torch.zeros(3)))
    new = torch.tensor([10.0, 20.0])
    for arguments in ({}, {"y": torch.zeros(2)}):
        found = predict(record, new, **arguments)
        assert set(found) == {"mean", "y"}
        torch.testing.assert_close(found["mean"], record.positions * new)
        assert (found["y"] - found["mean"]).abs().max() < 1
        assert (found["y"] != found["mean"]).all()
    posterior = load("eight_schools")
    with pytest.raises(ValueError, match=r"'theta_trans' has shape \(8,\) in the run and \(3,\)"):
        predict(schools, posterior.args[0][:3])
    energy = Target.from_energy(lambda x: x.square())
    with pytest.raises(ValueError, match="need a Pyro model"):
        predict(made_up(energy))


def test_forward_draws_fall_back_to_one_by_one():
    def branching(scale):
        x = pyro.sample("x", dist.Normal(0.0, scale))
        sign = 1.0 if x > 0 else -1.0
        pyro.sample("y", dist.Normal(10.0 * sign, 0.1))

    found = forward_draws(branching, (torch.ones(()),), {}, given={}, num_draws=50)
    assert found["x"].shape == (1, 50)
    assert torch.equal(found["x"] > 0, found["y"] > 0)
    assert len(found["x"].unique()) == 50
    with pytest.warns(UserWarning, match="drawn one by one"):
        forward_draws(branching, (torch.ones(()),), {}, given={}, num_draws=1001)


@pytest.mark.parametrize(
    ("distribution", "truth"),
    [
        (dist.Exponential(2.0), stats.expon(scale=0.5)),
        (dist.Cauchy(1.0, 2.0), stats.cauchy(1, 2)),
        (dist.Laplace(1.0, 2.0), stats.laplace(1, 2)),
        (dist.Normal(1.0, 2.0), stats.norm(1, 2)),
        (dist.Gamma(2.0, 3.0), stats.gamma(2, scale=1 / 3)),
        (dist.Uniform(1.0, 3.0), stats.uniform(1, 2)),
        (dist.StudentT(3.0), stats.t(3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, dist.Distribution) else "",
)
def test_forward_draws_have_the_distribution(distribution, truth):
    found = forward_draws(lambda: pyro.sample("x", distribution), (), {}, given={}, num_draws=2000)
    assert stats.kstest(found["x"].numpy().ravel(), truth.cdf).pvalue > 1e-3


def mixture(y):
    weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).to_event(1))
    with pyro.plate("point", len(y)):
        z = pyro.sample("z", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
        centre = pyro.deterministic("centre", mu[z.long()], event_dim=0)
        pyro.sample("y", dist.Normal(centre, 1.0), obs=y)


def test_a_marginalised_site_is_drawn_back_from_its_exact_distribution():
    target = Target.from_model(mixture, DATA)
    positions = torch.tensor([0.0, -1.0, 1.5]).expand(2, 2000, 3)
    data = to_arviz(made_up(target, positions))
    z = data["posterior"]["z"]
    assert z.dims == ("chain", "draw", "point")
    first, second = (stats.norm(mu, 1).pdf(DATA) for mu in (-1.0, 1.5))
    p = second / (first + second)
    assert (abs(z.mean(("chain", "draw")) - p) < 4 * np.sqrt(p * (1 - p) / 4000)).all()
    # Elements are independent given the rest.
    apart = np.corrcoef(z.values.reshape(-1, 5).T)[np.triu_indices(5, 1)]
    assert np.abs(apart).max() < 4.5 / np.sqrt(4000)
    closely(data["posterior"]["centre"], np.where(z == 1, 1.5, -1.0))
    assert data["posterior"]["centre"].dims == ("chain", "draw", "point")
    closely(data["log_likelihood"]["y"][0, 0], np.log((first + second) / 2))
    closely(data["log_prior"]["z"], np.log(0.5))
    assert json.loads(data.attrs["marginalised_sites"]) == ["z"]
    assert predict(made_up(target, positions), DATA[:5])["y"].shape == (2, 2000, 5)


def chain_of_states(y):
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
    move = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    z = torch.tensor(0)
    for t in pyro.markov(range(len(y))):
        z = pyro.sample(f"z{t}", dist.Categorical(move[z]), infer={"enumerate": "parallel"})
        pyro.sample(f"y{t}", dist.Normal(shift + 2 * z, 1.0), obs=y[t])


def nested(y):
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
    with pyro.plate("group", 2, dim=-2):
        kind = pyro.sample("kind", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        with pyro.plate("unit", 2, dim=-1):
            state = pyro.sample(
                "state", dist.Bernoulli(0.2 + 0.6 * kind), infer={"enumerate": "parallel"}
            )
            pyro.sample("y", dist.Normal(shift + state, 1.0), obs=y)


def test_a_chain_of_states_is_drawn_back_jointly():
    data = to_arviz(made_up(Target.from_model(chain_of_states, DATA), torch.zeros(1, 8000, 1)))
    drawn = np.stack([data["posterior"][f"z{t}"].values.ravel() for t in range(5)], 1)
    move = np.array([[0.9, 0.1], [0.3, 0.7]])
    weights = {}
    for path in itertools.product((0, 1), repeat=5):
        steps = zip((0, *path), path, strict=False)
        likelihood = stats.norm(2 * np.array(path), 1).pdf(DATA)
        weights[path] = np.prod([move[a, b] for a, b in steps]) * likelihood.prod()
    agrees_with(drawn, weights)
    # No observation has a likelihood of its own here.
    assert "log_likelihood" not in data.groups()
    assert json.loads(data.attrs["without_log_likelihood"]) == [f"y{t}" for t in range(5)]


def test_nested_plates_of_states_are_drawn_back_jointly():
    y = torch.tensor([[0.0, 1.5], [-1.0, 2.0]])
    data = to_arviz(made_up(Target.from_model(nested, y), torch.zeros(1, 8000, 1)))
    kind, state = (data["posterior"][name].values[0].astype(int) for name in ("kind", "state"))
    assert data["posterior"]["state"].dims == ("chain", "draw", "group", "unit")
    drawn = np.concatenate([kind[..., 0], state.reshape(-1, 4)], 1)
    weights = {}
    for path in itertools.product((0, 1), repeat=6):
        kinds, states = np.array(path[:2]), np.array(path[2:]).reshape(2, 2)
        rate = (0.2 + 0.6 * kinds)[:, None]
        weights[path] = (
            np.where(kinds, 0.3, 0.7).prod()
            * np.where(states, rate, 1 - rate).prod()
            * stats.norm(states, 1).pdf(y).prod()
        )
    agrees_with(drawn, weights)
    assert json.loads(data.attrs["without_log_likelihood"]) == ["y"]


def agrees_with(drawn, weights):
    """A chi-square test of drawn paths against their weights, rare paths together."""
    total = sum(weights.values())
    expected = {path: len(drawn) * weight / total for path, weight in weights.items()}
    counts = dict.fromkeys(weights, 0)
    for path in map(tuple, drawn.astype(int)):
        counts[path] += 1
    often = [path for path in weights if expected[path] >= 5]
    found = [counts[path] for path in often]
    right = [expected[path] for path in often]
    found, right = [*found, len(drawn) - sum(found)], [*right, len(drawn) - sum(right)]
    assert stats.chisquare(found, right).pvalue > 1e-3


def test_energies_have_a_group_and_their_sites_no_log_likelihood():
    def model(y):
        x = pyro.sample("x", ebm.EnergyDistribution(ebm.DoubleWell(2)))
        with pyro.plate("n", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            ebm.energy_factor("pull", lambda z: z.square(), z, temperature=2.0)
            pyro.sample("w", ebm.EnergyDistribution(lambda w: w.abs()), obs=y)
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)
        pyro.factor("plain", -x.square().sum())

    record = made_up(Target.from_model(model, DATA))
    data = to_arviz(record)
    x, z = data["posterior"]["x"], data["posterior"]["z"]
    energies = data["energies"]
    assert {name: variable.dims[2:] for name, variable in energies.items()} == {
        "x": (),
        "pull": ("n",),
        "w": ("n",),
        "plain": (),
    }
    closely(energies["pull"], z.values**2)
    closely(energies["plain"], (x.values**2).sum(-1))
    closely(energies["x"], ebm.DoubleWell(2)(torch.as_tensor(x.values)))
    assert list(data["log_likelihood"].data_vars) == ["y"]
    assert set(data["observed_data"].data_vars) == {"w", "y"}
    # The normaliser of the double well is known.
    assert json.loads(data.attrs["unnormalised_sites"]) == ["pull", "w", "plain"]
    assert json.loads(data.attrs["without_log_likelihood"]) == ["w"]
    assert "pull" not in data["log_prior"]


def test_a_factor_beside_summed_out_sites_has_its_energy_at_their_draws():
    def model(y):
        a = pyro.sample("a", dist.Bernoulli(0.5))
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        nu = pyro.sample("nu", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        ebm.energy_factor("alone", lambda m: 0.3 * m**4, mu)
        ebm.energy_factor("joint", lambda a, m, n: a * m + n.sum(), a, mu, nu)
        with pyro.plate("n", len(y)):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            v = pyro.sample("v", dist.Normal(mu, 1.0))
            ebm.energy_factor("each", lambda v, b: v.square() * (1 + b), v, b)
            pyro.sample("y", dist.Normal(mu + a, 0.5), obs=y)

    data = to_arviz(made_up(Target.from_model(model, DATA)))
    x, energies = data["posterior"], data["energies"]
    closely(energies["alone"], 0.3 * x["mu"].values ** 4)
    closely(energies["joint"], x["a"].values * x["mu"].values + x["nu"].values.sum(-1))
    closely(energies["each"], x["v"].values ** 2 * (1 + x["b"].values))


def two_states(y):
    a = pyro.sample("a", dist.Bernoulli(0.3))
    b = pyro.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
    mu = pyro.sample("mu", dist.Normal(2.0 * b, 1.0))
    pyro.sample("y", dist.Normal(mu + a, 0.5), obs=y)


@pytest.mark.parametrize("sampled", ["", "a", "b", "ab"])
def test_scalar_sites_are_exported_sampled_or_summed_out(sampled):
    discrete = dict.fromkeys(sampled, "sample")
    target = Target.freeze(two_states, (torch.tensor(0.5),), {}, discrete=discrete)
    assert target.sampled == tuple(sampled)
    positions = torch.zeros(2, 2000, target.dim)
    data = to_arviz(made_up(target, positions))
    for name in sampled:
        assert (data["posterior"][name] == 0).all()
    weights = {
        (a, b): (0.7, 0.3)[a]
        * abs(1 - b - (0.2, 0.7)[a])
        * stats.norm(2 * b, 1).pdf(0.0)
        * stats.norm(a, 0.5).pdf(0.5)
        for a in (0, 1)
        for b in (0, 1)
        if ("a" not in sampled or a == 0) and ("b" not in sampled or b == 0)
    }
    drawn = np.stack([data["posterior"][name].values.ravel() for name in ("a", "b")], 1)
    for path, weight in weights.items():
        p = weight / sum(weights.values())
        share = (drawn == path).all(1).mean()
        assert abs(share - p) <= 4 * np.sqrt(p * (1 - p) / len(drawn)), (path, share, p)


def test_data_outside_of_a_plate_have_their_own_shape():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        with poutine.mask(mask=torch.tensor([True, False, True, True, True])):
            pyro.sample("w", dist.Normal(mu, 1.0), obs=y)

    record = made_up(Target.from_model(model, DATA))
    data = to_arviz(record, posterior_predictive=True)
    closely(data["observed_data"]["y"], DATA)
    mu = data["posterior"]["mu"].values[..., None]
    closely(data["log_likelihood"]["y"], stats.norm(mu, 1.0).logpdf(DATA))
    assert data["log_likelihood"]["w"].shape == (2, 3, 4)
    assert data["posterior_predictive"]["y"].shape == (2, 3, 5)


def test_the_prior_of_a_model_with_factors_comes_with_a_warning():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        ebm.energy_factor("pull", lambda x: x.square(), x)

    with pytest.warns(UserWarning, match=r"the factors among \['pull'\] do not weigh them"):
        to_arviz(made_up(Target.from_model(model)), prior=5)


def test_an_improper_prior_cannot_be_drawn_from():
    def model():
        x = pyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.zeros(()))

    record = made_up(Target.from_model(model))
    with (
        pytest.warns(UserWarning, match="run forwards"),
        pytest.raises(ValueError, match="cannot be drawn from"),
    ):
        to_arviz(record, prior=5)


def test_scaled_and_masked_likelihoods_are_those_of_the_posterior_and_named():
    def model(y):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(y)):
            with poutine.scale(scale=2.0):
                pyro.sample("y", dist.Normal(x, 1.0), obs=y)
            with poutine.mask(mask=y > 0):
                pyro.sample("w", dist.Normal(x, 1.0), obs=y)

    data = to_arviz(made_up(Target.from_model(model, DATA)))
    pointwise = stats.norm(data["posterior"]["x"].values[..., None], 1).logpdf(DATA)
    closely(data["log_likelihood"]["y"], 2 * pointwise)
    closely(data["log_likelihood"]["w"], pointwise[..., DATA > 0])
    assert data["log_likelihood"]["w"].dims == ("chain", "draw", "w_point")
    assert data["log_likelihood"]["w_point"].values.tolist() == [2, 3]
    assert json.loads(data.attrs["scaled_sites"]) == ["y"]
    assert json.loads(data.attrs["masked_sites"]) == ["w"]


@pytest.mark.filterwarnings("ignore:The inplace keyword", "ignore:Estimated shape parameter")
def test_missing_data_count_for_nothing():
    observed = torch.tensor([True, False, True, True, False])

    def model(y):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(y)):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y, obs_mask=observed)

    target = Target.from_model(model, DATA)
    data = to_arviz(made_up(target, 0.3 * torch.randn(4, 50, target.dim)))
    assert az.loo(data).n_data_points == 3
    x = data["posterior"]["x"].values[..., None]
    closely(data["log_likelihood"]["y_observed"], stats.norm(x, 1).logpdf(DATA[observed]))
    assert data["posterior"]["y"].dims == ("chain", "draw", "n")
    closely(data["posterior"]["y"][..., 3], np.full((4, 50), DATA[3]))


def test_a_mask_that_depends_on_a_latent_leaves_all_points():
    def model(y):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(y)), poutine.mask(mask=y > x):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    data = to_arviz(made_up(Target.from_model(model, DATA)))
    x = data["posterior"]["x"].values[..., None]
    expected = np.where(DATA.numpy() > x, stats.norm(x, 1).logpdf(DATA), 0)
    closely(data["log_likelihood"]["y"], expected)
    assert json.loads(data.attrs["masked_sites"]) == ["y"]


def test_a_site_that_is_wholly_masked_has_no_log_likelihood():
    def model(y):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(y)):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)
            pyro.sample("w", dist.Normal(x, 1.0).mask(False), obs=y)

    data = to_arviz(made_up(Target.from_model(model, DATA)))
    assert set(data["log_likelihood"].data_vars) == {"y"}
    assert json.loads(data.attrs["without_log_likelihood"]) == ["w"]


def test_events_are_numbered_and_plates_named():
    def model(y):
        mix = pyro.sample("mix", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("row", 2):
            x = pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            vague = pyro.deterministic("vague", 2 * x[:, 0])
            pyro.deterministic("whole", x.sum(0))
            pyro.sample("y", dist.Normal(x * mix, 1.0).to_event(1), obs=y)
        pyro.deterministic("outside", vague)

    data = to_arviz(
        made_up(Target.from_model(model, torch.zeros(2, 3))), dims={"x": ["coordinate"]}
    )
    dims = {name: variable.dims[2:] for name, variable in data["posterior"].items()}
    assert dims == {
        "mix": ("mix_dim_0",),
        "x": ("row", "coordinate"),
        "vague": ("row",),
        "whole": ("whole_dim_0",),
        "outside": ("outside_dim_0",),
    }
    assert data["unconstrained_posterior"]["mix"].shape == (2, 3, 2)
    assert data["unconstrained_posterior"]["mix"].dims[2:] == ("mix_unconstrained_dim_0",)
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "row")
    assert data["observed_data"]["y"].dims == ("row", "y_dim_1")


def test_sites_and_plates_may_be_called_like_axes():
    def model(y):
        chain = pyro.sample("chain", dist.Normal(0.0, 1.0))
        with pyro.plate("draw", len(y)):
            site = pyro.sample("draw_dim", dist.Normal(chain, 1.0))
            pyro.sample("a/b", dist.Normal(site, 1.0), obs=y)

    data = to_arviz(made_up(Target.from_model(model, DATA)))
    assert set(data["posterior"].data_vars) == {"chain_variable", "draw_dim"}
    axis = data["posterior"]["draw_dim"].dims[2]
    assert data["log_likelihood"]["a.b"].dims == ("chain", "draw", axis)
    assert len(az.summary(data)) == 6


def test_kept_sites_alone_are_exported():
    posterior = load("eight_schools")
    target = Target.from_model(posterior.model, *posterior.args, **posterior.kwargs)
    whole = made_up(target)
    expected = to_arviz(whole)["posterior"]
    for sites in (("mu",), ("tau", "theta_trans"), ("theta",)):
        coordinates = target.coordinates_of(sites)
        record = whole._replace(
            positions=whole.positions[..., coordinates], coordinates=coordinates, sites=sites
        )
        data = to_arviz(record)
        assert set(data["posterior"].data_vars) == set(sites)
        for site in sites:
            assert data["posterior"][site].equals(expected[site])
        latent = set(sites) - {"theta"}
        if latent:
            assert set(data["unconstrained_posterior"].data_vars) == latent
    part = whole._replace(
        positions=whole.positions[..., :1], coordinates=torch.tensor([0]), sites=("mu",)
    )
    with pytest.raises(ValueError, match="Predictions need every latent site"):
        predict(part, *posterior.args)


def kept(whole, sites):
    """The record of a run with sites=."""
    coordinates = whole.target.coordinates_of(sites)
    return whole._replace(
        positions=whole.positions[..., coordinates], coordinates=coordinates, sites=sites
    )


def test_kept_sites_of_a_marginalised_model_are_those_of_the_whole_run():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).to_event(1))
        weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
        pyro.deterministic("gap", mu[1] - mu[0])
        with pyro.plate("point", len(y)):
            z = pyro.sample("z", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
            centre = pyro.deterministic("centre", mu[z.long()], event_dim=0)
            pyro.sample("y", dist.Normal(centre, 1.0), obs=y)

    whole = made_up(Target.from_model(model, DATA))
    expected = to_arviz(whole)["posterior"]
    for sites in (("gap",), ("mu", "gap"), ("weight", "z"), ("centre",)):
        found = to_arviz(kept(whole, sites))["posterior"]
        assert set(found.data_vars) == set(sites)
        assert all(found[site].equals(expected[site]) for site in sites)
    assert kept(whole, ("mu", "gap")).positions.shape == (2, 3, 2)


def test_kept_comparisons_are_those_of_the_whole_run():
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("more", dist.Normal(torch.zeros(9), 1.0).to_event(1))
        pyro.deterministic("positive", (mu > 0).float())

    whole = made_up(Target.from_model(model), torch.randn(2, 50, 10))
    found = to_arviz(kept(whole, ("positive",)))["posterior"]["positive"]
    assert found.equals(to_arviz(whole)["posterior"]["positive"])
    assert 0 < found.mean() < 1


# Standard normal draws are no posterior: PSIS says so.
@pytest.mark.filterwarnings("ignore")
def test_a_reparametrised_site_is_part_of_the_posterior_and_no_data():
    def model(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(y)):
            x = pyro.sample("x", dist.Normal(mean, 2.0))
            twice = pyro.sample("twice", dist.Delta(2 * x))
            pyro.sample("y", dist.Normal(twice, 1.0), obs=y)

    moved = poutine.reparam(model, {"x": LocScaleReparam(0.0)})
    record = made_up(Target.from_model(moved, DATA), torch.randn(4, 50, 6))
    data = to_arviz(record, posterior_predictive=True, prior=3)
    posterior = data["posterior"]
    assert posterior["x"].dims == posterior["twice"].dims == ("chain", "draw", "n")
    closely(posterior["x"], posterior["mean"].values[..., None] + 2 * posterior["x_decentered"])
    closely(posterior["twice"], 2 * posterior["x"])
    assert {"x", "twice"} <= set(data["prior"].data_vars)
    for group in ("observed_data", "log_likelihood", "posterior_predictive", "prior_predictive"):
        assert set(data[group].data_vars) == {"y"}
    assert set(data["log_prior"].data_vars) == {"mean", "x_decentered"}
    assert "masked_sites" not in data.attrs
    assert az.loo(data).n_data_points == 5


def test_a_bare_energy_has_draws_and_energies_only():
    data = to_arviz(made_up(Target.from_energy(ebm.DoubleWell(2))))
    assert set(data.groups()) == {
        "posterior",
        "unconstrained_posterior",
        "sample_stats",
        "energies",
    }
    x = torch.as_tensor(data["posterior"]["x"].values)
    closely(data["energies"]["x"], ebm.DoubleWell(2)(x))
    assert json.loads(data.attrs["unnormalised_sites"]) == ["x"]


def test_a_potential_has_draws_only():
    target = Target.from_potential(lambda v: v["a"].square().sum(), {"a": torch.zeros(2)})
    data = to_arviz(made_up(target))
    assert set(data.groups()) == {"posterior", "unconstrained_posterior", "sample_stats"}


def test_a_model_that_vmap_refuses_is_exported_all_the_same():
    def model(y):
        weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
        assert weight.item() > 0
        with pyro.plate("n", len(y)):
            z = pyro.sample("z", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(2 * z, 1.0), obs=y)

    with pytest.warns(UserWarning, match="chain by chain"):
        target = Target.from_model(model, DATA)
    data = to_arviz(made_up(target), posterior_predictive=True, prior=3)
    assert data["posterior"]["z"].shape == (2, 3, 5)
    assert data["posterior_predictive"]["y"].shape == (2, 3, 5)


def test_arguments_become_constant_data_by_their_names():
    def model(y, x, *more, scale=2.0, table, **rest):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("n", len(y)):
            pyro.sample("y", dist.Normal(a * x, scale), obs=y)

    other = torch.ones(2)
    target = Target.from_model(
        model, DATA, 3.0, other, "name", table={"k": torch.eye(2), "s": "no"}, last=(1, 2)
    )
    constants = to_arviz(made_up(target))["constant_data"]
    assert {name: variable.shape for name, variable in constants.items()} == {
        "x": (),
        "more.0": (2,),
        "scale": (),
        "table.k": (2, 2),
        "last.0": (),
        "last.1": (),
    }


def test_superchains_are_kept_beside_the_statistics():
    record = made_up(Target.from_energy(lambda x: x.square()), superchain_ids=torch.tensor([4, 7]))
    ids = to_arviz(record)["sample_stats"]["superchain"]
    assert ids.values.tolist() == [[4] * 3, [7] * 3]


def test_many_draws_are_exported_in_pieces_that_change_nothing(monkeypatch):
    record = made_up(Target.from_model(mixture, DATA), torch.randn(2, 50, 3))
    whole = build_groups(record).groups
    monkeypatch.setattr("pyro_ebm.mcmc.api.evaluated._NUMBERS", 1000)
    pieces = build_groups(record).groups
    np.testing.assert_array_equal(whole["log_likelihood"]["y"], pieces["log_likelihood"]["y"])
    np.testing.assert_array_equal(whole["posterior"]["mu"], pieces["posterior"]["mu"])


def test_a_density_that_raises_far_from_all_draws_is_exported():
    def narrow(x: torch.Tensor) -> torch.Tensor:
        if bool((x.abs() > 0.9).any()):
            raise ValueError("beyond the table")
        return x.square().sum() / 2e-4

    start = {"x": 0.01 * torch.randn(2, 2)}
    kernel = ebm.NUTS(ebm.EnergyDistribution(narrow, (2,)), step_size=1e-3)
    mcmc = ebm.MCMC(kernel, 10, 10, start, 2, disable_progbar=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcmc.run()
    assert "distribution" not in mcmc.to_arviz().posterior.attrs
