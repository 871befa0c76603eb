"""Models that mix discrete and continuous sites agree with what enumeration and quadrature say."""

import itertools
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor

import pyro_ebm as ebm
from pyro_ebm.mcmc.adaptation import Settings
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.hmc import restarted as restarted_hmc
from pyro_ebm.mcmc.kernel import Noise
from pyro_ebm.mcmc.metric import DiagonalMetric
from pyro_ebm.mcmc.nuts import nuts, restarted
from pyro_ebm.mcmc.within_gibbs import Sweep, within_gibbs
from pyro_ebm.target import Target

PRIOR = torch.tensor([0.3, 0.5, 0.6])
STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))


def coupled():
    """Indicators of a plate, coupled across it with a strength that is learned."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("n", 3):
        z = pyro.sample("z", dist.Bernoulli(PRIOR))
    ebm.energy_factor("f", lambda z, a: -a * (z[1:] == z[:-1]).float().sum(), z, a)


def table(grid: Tensor) -> Tensor:
    """log p(a, z) [grid, states] but for a constant."""
    prior = (STATES * PRIOR.log() + (1 - STATES) * (1 - PRIOR).log()).sum(1)
    equal = (STATES[:, 1:] == STATES[:, :-1]).float().sum(1)
    return (prior + grid[:, None] * equal - 0.5 * grid[:, None].square()).double()


def run(kernel: object, *args: object, draws: int = 1000, chains: int = 4, warmup: int = 200):
    mcmc = ebm.MCMC(kernel, draws, warmup, num_chains=chains, disable_progbar=True)
    mcmc.run(*args)
    return mcmc


def assert_agree(draws: np.ndarray, mean: np.ndarray, sd: np.ndarray | None = None) -> None:
    """Means and sds of draws [chain, draw, ...] within four Monte Carlo errors of right ones."""
    shape = draws.shape[2:]
    for index in np.ndindex(*shape):
        one = draws[(..., *index)].astype(float)
        assert az.ess(one) > 200
        right = float(np.asarray(mean)[index])
        assert abs(one.mean() - right) < 4 * max(az.mcse(one), 1e-9) + 1e-9, (index, one.mean())
        if sd is not None:
            spread = float(np.asarray(sd)[index])
            error = az.mcse(one, method="sd")
            assert abs(one.std() - spread) < 4 * error, (index, one.std(), spread)


@pytest.mark.filterwarnings("ignore:The discrete site 'z' is sampled")
def test_indicators_coupled_across_a_plate_agree_with_enumeration():
    grid = torch.linspace(-6.0, 8.0, 3001)
    weights = table(grid).flatten().softmax(0).reshape(len(grid), -1)
    over_grid, over_states = weights.sum(1).numpy(), weights.sum(0)
    mean = float((over_grid * grid.numpy()).sum())
    sd = float((over_grid * (grid.numpy() - mean) ** 2).sum() ** 0.5)
    for kernel in (ebm.NUTS(coupled), ebm.HMC(coupled, trajectory_length=1.5)):
        samples = run(kernel, draws=200, chains=32, warmup=60).get_samples(group_by_chain=True)
        assert_agree(samples["a"].numpy(), np.array(mean), np.array(sd))
        assert_agree(samples["z"].numpy(), (over_states[:, None] * STATES).sum(0).numpy())
        pair = (samples["z"][..., 0] * samples["z"][..., 2]).numpy()
        both = float((over_states * STATES[:, 0] * STATES[:, 2]).sum())
        assert_agree(pair, np.array(both))


def uniform_as_wide_as_a_state(y: Tensor):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])))
    u = pyro.sample("u", dist.Uniform(0.0, 1.0 + k))
    pyro.sample("y", dist.Normal(u, 0.3), obs=y)


def test_a_state_that_sets_a_support_has_its_posterior():
    width, standard = np.arange(1.0, 4.0), dist.Normal(0.0, 1.0)
    inside = [standard.cdf(torch.tensor([(w - 0.9) / 0.3, -0.9 / 0.3])) for w in width]
    right = np.array([0.5, 0.3, 0.2]) / width * [float(high - low) for high, low in inside]
    kernel = ebm.NUTS(uniform_as_wide_as_a_state, discrete={"k": "sample"})
    mcmc = run(kernel, torch.tensor(0.9), draws=300, chains=32, warmup=60)
    k = mcmc.get_samples(group_by_chain=True)["k"].numpy()
    assert_agree((k[..., None] == np.arange(3)), right / right.sum())


def mixture(x: Tensor):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.5, 1.5]), 1.0).to_event(1))
    with pyro.plate("n", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.stack([1 - p, p], -1)))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def test_a_mixture_with_sampled_indicators_agrees_with_the_marginalised_one():
    x = torch.cat([torch.linspace(-2.5, -0.5, 7), torch.linspace(0.5, 3.0, 8)])
    summed = run(ebm.NUTS(mixture), x, draws=200, chains=32, warmup=60)
    sampled = run(ebm.NUTS(mixture, discrete={"z": "sample"}), x, draws=200, chains=32, warmup=60)
    assert summed.record.target.sampled == ()
    assert sampled.record.target.sampled == ("z",)
    right = summed.get_samples(group_by_chain=True)
    found = sampled.get_samples(group_by_chain=True)
    for name in ("p", "loc"):
        for index in np.ndindex(*right[name].shape[2:]):
            one, other = (s[name].numpy()[(..., *index)].astype(float) for s in (right, found))
            for method, figure in (("mean", np.mean), ("sd", np.std)):
                error = np.hypot(az.mcse(one, method=method), az.mcse(other, method=method))
                assert abs(figure(one) - figure(other)) < 4 * error, (name, index, method)
    # Exact probabilities of the indicators given the continuous sites, averaged.
    p, loc = right["p"][..., None], right["loc"]
    ones = dist.Normal(loc[..., 1:], 1.0).log_prob(x) + p.log()
    zeros = dist.Normal(loc[..., :1], 1.0).log_prob(x) + (1 - p).log()
    exact = (ones - zeros).sigmoid()
    for i in range(len(x)):
        one, other = exact[..., i].double().numpy(), found["z"][..., i].double().numpy()
        error = np.hypot(az.mcse(one), az.mcse(other))
        assert abs(one.mean() - other.mean()) < 4 * error


def change_point(y: Tensor):
    before = pyro.sample("before", dist.Gamma(2.0, 0.5))
    after = pyro.sample("after", dist.Gamma(2.0, 0.5))
    t = pyro.sample("t", dist.Categorical(torch.ones(len(y))))
    with pyro.plate("n", len(y)):
        rate = torch.where(torch.arange(len(y)) < t, before, after)
        pyro.sample("y", dist.Poisson(rate), obs=y)


def test_a_change_point_agrees_with_its_exact_probabilities():
    y = torch.tensor([4.0, 6.0, 3.0, 5.0, 4.0, 2.0, 1.0, 2.0, 0.0, 1.0])
    n, total = len(y), y.sum()
    # The rates integrated out: a Gamma(2, 1/2) prior and the counts of either side.
    first = torch.tensor([y[:t].sum() for t in range(n)])
    past = torch.arange(float(n))
    weight = (
        torch.lgamma(2 + first)
        - (2 + first) * (0.5 + past).log()
        + torch.lgamma(2 + total - first)
        - (2 + total - first) * (0.5 + n - past).log()
    )
    exact = weight.softmax(0)
    mcmc = run(ebm.NUTS(change_point, discrete={"t": "sample"}), y, draws=200, chains=32)
    t = mcmc.to_arviz().posterior["t"]
    assert t.dtype == np.int64
    assert_agree((t.values[..., None] == np.arange(n)), exact.numpy())


def denoising(y: Tensor):
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    prior = ebm.EnergyDistribution(ebm.Ising.lattice((3, 3), periodic=False), temperature=2.5)
    pixels = pyro.sample("pixels", prior)
    with pyro.plate("row", 3, dim=-2), pyro.plate("column", 3, dim=-1):
        pyro.sample("y", dist.Normal(pixels, sigma), obs=y)


def test_an_ising_prior_over_pixels_with_noise_agrees_with_enumeration():
    y = torch.tensor([[1.2, 0.4, -0.3], [0.8, -0.2, -1.1], [-0.4, -0.9, -1.5]])
    spins = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=9))).reshape(-1, 3, 3)
    sigma = torch.linspace(0.02, 4.0, 400)
    prior = -ebm.Ising.lattice((3, 3), periodic=False)(spins) / 2.5
    squares = (y - spins).square().sum((-1, -2))
    joint = prior - 0.5 * sigma[:, None].square()
    joint = joint - 9 * sigma[:, None].log() - 0.5 * squares / sigma[:, None].square()
    weights = joint.double().flatten().softmax(0).reshape(joint.shape)
    mean = float((weights.sum(1) * sigma).sum())
    sd = float((weights.sum(1) * (sigma - mean) ** 2).sum() ** 0.5)
    mcmc = run(ebm.NUTS(denoising), y, draws=200, chains=32, warmup=60)
    samples = mcmc.get_samples(group_by_chain=True)
    assert_agree(samples["sigma"].numpy(), np.array(mean), np.array(sd))
    right = (weights.sum(0)[:, None, None] * spins).sum(0)
    assert_agree(samples["pixels"].numpy(), right.numpy())
    assert "enumerated" in mcmc.to_arviz().posterior.attrs["why_sampled"]


def discrete_alone():
    with pyro.plate("n", 3):
        z = pyro.sample("z", dist.Bernoulli(PRIOR))
    ebm.energy_factor("f", lambda z: -0.7 * (z[1:] == z[:-1]).float().sum(), z)


@pytest.mark.parametrize("kernel", [ebm.NUTS, ebm.Gibbs])
def test_a_model_of_discrete_sites_alone_agrees_with_enumeration(kernel: type):
    prior = (STATES * PRIOR.log() + (1 - STATES) * (1 - PRIOR).log()).sum(1)
    weights = (prior + 0.7 * (STATES[:, 1:] == STATES[:, :-1]).float().sum(1)).softmax(0)
    mcmc = run(kernel(discrete_alone), draws=200, chains=32, warmup=50)
    assert_agree(mcmc.get_samples(group_by_chain=True)["z"].numpy(), (weights @ STATES).numpy())
    assert "All is well" in mcmc.diagnose()
    data = mcmc.to_arviz()
    assert data.posterior["z"].dtype == np.float32
    assert "diverging" not in data.sample_stats


def test_gibbs_is_for_models_without_continuous_sites():
    with pytest.raises(ValueError, match=r"are continuous"):
        run(ebm.Gibbs(mixture), torch.zeros(3))


CHAINS, TRANSITIONS = 20_000, 5
FALSE_ALARM = 1e-4


def p_values(kernel_of: str, *, forgets: bool = False) -> tuple[float, float]:
    """Exact draws in, some transitions of each chain, and how likely draws as those out are."""
    target = Target.freeze(coupled, (), {}, discrete={"z": "sample"})
    grid = torch.linspace(-6.0, 8.0, 20_001)
    weights = table(grid).softmax(1)
    over_grid = table(grid).logsumexp(1).softmax(0)
    index = over_grid.multinomial(CHAINS, replacement=True)
    states = STATES[weights[index].multinomial(1)[:, 0]]
    start = torch.cat([grid[index][None], states.T])
    found = target.conditionals
    # Two blocks of three a transition, so that the third has its turn in the next.
    sweep = Sweep(found, found.blocks, found.num_blocks, 2)
    again = restarted if kernel_of == "nuts" else restarted_hmc

    def without_refresh(state, where, position, log_density, gradient):
        kept = state.tree if kernel_of == "nuts" else None
        if kept is None:
            return again(state, where, position, state.start_log_density, state.start_gradient)
        return again(state, where, position, kept.log_density, kept.gradient)

    inner = nuts(max_tree_depth=4) if kernel_of == "nuts" else hmc(num_steps=3)
    kernel = within_gibbs(inner, sweep, restarted=without_refresh if forgets else again)
    settings = Settings(
        step_size=torch.full((CHAINS,), 1.6),
        metric=DiagonalMetric(torch.ones(1, 1)),
        version=torch.zeros((), dtype=torch.long),
        max_tree_depth=torch.tensor(4),
    )
    density = target.log_density_and_gradient
    state = kernel.init(start, *density(start), settings)
    made = torch.zeros(CHAINS, dtype=torch.long)
    end = start.clone()
    while bool((made < TRANSITIONS).any()):
        noise = Noise(torch.randn(4, CHAINS), torch.rand(kernel.uniforms, CHAINS))
        state, transition = kernel.step(density, state, noise, settings)
        made += transition.done
        end = torch.where(transition.done & (made == TRANSITIONS), transition.position, end)
        last = transition
    log_density, gradient = density(last.position)
    if not forgets:
        done = last.done
        torch.testing.assert_close(last.log_density[done], log_density[done])
        torch.testing.assert_close(last.gradient[:, done], gradient[:, done])
    code = (end[1:] * torch.tensor([[4.0], [2.0], [1.0]])).sum(0).long()
    counts = torch.bincount(code, minlength=8).double()
    expected = (over_grid[:, None] * weights).sum(0) * CHAINS
    of_states = float(chisquare(counts.numpy(), expected.numpy())[1])
    cumulated = over_grid.cumsum(0).numpy()
    distribution = lambda a: np.interp(a, grid.numpy(), cumulated)  # noqa: E731
    return of_states, float(kstest(end[0].numpy(), distribution)[1])


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_trajectories_and_sweeps_leave_the_target_invariant(kernel: str):
    assert min(p_values(kernel)) > FALSE_ALARM


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_a_density_that_is_not_refreshed_after_a_sweep_is_caught(kernel: str):
    assert min(p_values(kernel, forgets=True)) < FALSE_ALARM


def test_sites_are_kept_by_name_and_figures_are_told_of_discrete_ones():
    kernel = ebm.NUTS(coupled, discrete={"z": "sample"})
    mcmc = ebm.MCMC(kernel, 300, 100, sites=["z"], disable_progbar=True)
    mcmc.run()
    assert set(mcmc.get_samples()) == {"z"}
    figures = mcmc.diagnostics()
    assert figures["z"]["r_hat"].shape == (3,)
    assert bool((figures["z"]["n_eff"] > 50).all())
    assert set(mcmc.to_arviz().posterior.data_vars) == {"z"}


def test_predictions_and_exports_hold_the_draws_of_discrete_sites():
    x = torch.tensor([-2.0, 0.5, 2.0])
    mcmc = run(ebm.NUTS(mixture, discrete={"z": "sample"}), x, draws=100, warmup=100)
    data = mcmc.to_arviz(posterior_predictive=True)
    assert data.posterior["z"].dims == ("chain", "draw", "n")
    assert data.posterior["z"].dtype == np.int64
    assert set(data.unconstrained_posterior.data_vars) == {"p", "loc"}
    assert data.log_likelihood["x"].shape == (4, 100, 3)
    assert data.posterior_predictive["x"].shape == (4, 100, 3)
    assert data.posterior.attrs["sampled_sites"]


def test_a_stored_run_goes_on_where_it_ended(tmp_path: Path):
    kernel = ebm.NUTS(coupled, discrete={"z": "sample"})
    pyro.set_rng_seed(5)
    whole = run(kernel, draws=60, warmup=60).get_samples(group_by_chain=True)
    pyro.set_rng_seed(5)
    path = tmp_path / "run.zarr"
    begun = ebm.MCMC(kernel, 30, 60, num_chains=4, disable_progbar=True, store=path)
    begun.run()
    more = ebm.MCMC.resume(path, kernel, num_samples=60)
    more.disable_progbar = True
    more.run()
    found = more.get_samples(group_by_chain=True)
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value)
    assert ebm.from_store(path).posterior["z"].shape == (4, 60, 3)


def test_a_run_is_repeated_by_its_seed():
    kernel = ebm.NUTS(coupled, discrete={"z": "sample"})
    runs = []
    for _ in range(2):
        pyro.set_rng_seed(7)
        runs.append(run(kernel, draws=30, warmup=50).get_samples())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_given_starts_hold_values_of_discrete_sites():
    kernel = ebm.NUTS(coupled, discrete={"z": "sample"})
    starts = {"a": torch.zeros(2), "z": torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])}
    mcmc = ebm.MCMC(kernel, 5, 0, starts, num_chains=2, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["z"].shape == (10, 3)


def test_what_moves_no_discrete_sites_says_so():
    target = Target.freeze(coupled, (), {}, discrete={"z": "sample"})
    with pytest.raises(TypeError, match="does not sample the discrete sites"):
        run(ebm.ChEESHMC(target), chains=16)
    with pytest.raises(ValueError, match="MCMC alone can do"):
        ebm.AIS(target).run()
    with pytest.raises(TypeError, match="minimize moves no discrete sites"):
        ebm.minimize(target)
    mcmc = run(ebm.NUTS(target), draws=40, warmup=40)
    with pytest.raises(TypeError, match="bridge_sampling fits"):
        ebm.bridge_sampling(mcmc)
