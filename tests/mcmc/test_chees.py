"""ChEES-HMC: its criterion is climbed along its true slope, and finds the length that is best."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pyro_ebm as ebm
from pyro_ebm import diagnostics
from pyro_ebm.energies import Banana, Gaussian
from pyro_ebm.mcmc.adaptation import Diagonal, Warmup
from pyro_ebm.mcmc.chees import ChEESState, chees
from pyro_ebm.mcmc.kernel import Noise
from pyro_ebm.mcmc.metric import Metric, inverse_mass_matrix, velocity
from pyro_ebm.mcmc.run import Plan, run_chains
from pyro_ebm.mcmc.trajectory_length import (
    STANDARD_LENGTH,
    Latest,
    length_gradient,
    look_along,
    start_length,
)
from pyro_ebm.target import Target

from .stage import Stepper, identity, metrics, noises, problem_of, settings_of

KINDS = pytest.mark.parametrize("kind", ["diagonal", "dense", "low-rank"])


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def slowly_varying() -> Tensor:
    """The covariance [10, 10] of an autoregression of coefficient 0.9."""
    index = torch.arange(10.0)
    return 0.9 ** (index[:, None] - index).abs()


def ill_conditioned() -> Tensor:
    """A covariance [50, 50] of condition number 100, with axes in general position."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(50, 50, generator=generator))
    return axes * torch.logspace(0, 2, 50) @ axes.T


COVARIANCES = {"slowly-varying": slowly_varying, "ill-conditioned": ill_conditioned}


# The criterion.


def test_the_slope_of_the_criterion_is_that_of_finite_differences():
    n, center, frequency = 1000, 0.3, 0.7
    (start, momentum), (share, weight) = torch.randn(2, n), torch.rand(2, n)

    def latest(log_length: float) -> Latest:
        """Ends of the exact flow of a Gaussian about the center, after a share of the length."""
        duration = share * math.exp(log_length)
        phase = frequency * duration
        off = start - center
        end = center + off * phase.cos() + momentum / frequency * phase.sin()
        last = momentum * phase.cos() - off * frequency * phase.sin()
        return Latest(start, end, last, duration, weight)

    def criterion(log_length: float) -> Tensor:
        seen = latest(log_length)
        change = (seen.end - center).square() - (seen.start - center).square()
        return (weight * change.square() / 4).sum() / weight.sum()

    h = 1e-5
    for log_length in (-1.0, 0.5, 1.5):
        slope = (criterion(log_length + h) - criterion(log_length - h)) / (2 * h)
        found = length_gradient(latest(log_length), torch.tensor(center))
        torch.testing.assert_close(found, slope, rtol=1e-6, atol=1e-8)


@KINDS
@pytest.mark.parametrize("version", [0, 1])
def test_the_direction_is_the_widest_of_whitened_draws(kind: str, version: int):
    dim = 4
    metric = metrics(dim)[kind]
    settings = settings_of(1.0, metric, version=version)
    draws = torch.randn(dim, dim) @ torch.randn(dim, 200) + 3.0
    seen = look_along(start_length(1.0, draws), settings, draws, torch.ones(200) > 0)
    root = velocity(metric, torch.full((dim,), version), torch.eye(dim))
    values, vectors = torch.linalg.eigh(torch.linalg.solve(root, draws).cov(correction=0))
    # The power iteration converges as the ratio of the two largest eigenvalues does.
    missed = dim * float(values[-2] / values[-1]) ** 60
    assert float((seen.direction @ vectors[:, -1]).abs()) > 1 - missed - 1e-9
    torch.testing.assert_close(seen.direction @ seen.direction, torch.tensor(1.0))
    # The same for plain positions: along a velocity it moves as the whitened momentum says.
    momentum = torch.randn(dim, 7)
    moved = seen.projection @ velocity(metric, torch.full((7,), version), momentum)
    torch.testing.assert_close(seen.direction @ momentum, moved)
    torch.testing.assert_close(seen.center, (seen.projection @ draws).mean())


# The kernel.


def transitions(
    *, trajectory_length: float, step_size: float, chains: int, steps: int, max_tree_depth: int = 10
) -> Iterator[tuple[ChEESState, Any]]:
    kernel, problem = chees(), problem_of(Banana().double())
    start = torch.randn(2, chains)
    settings = settings_of(
        step_size,
        identity(2),
        trajectory_length=trajectory_length,
        max_tree_depth=max_tree_depth,
    )
    stepper = Stepper(kernel, problem, start, settings)
    state = stepper.begin(start, settings)
    for noise in noises(kernel, (2, chains), steps, seed=0, dtype=start.dtype):
        state, transition = stepper.step(state, noise, settings)
        yield state, transition


def test_lengths_are_spread_evenly_over_their_range_chain_by_chain():
    mean, chains = 20, 5
    lengths: list[list[int]] = [[] for _ in range(chains)]
    for _, now in transitions(
        trajectory_length=mean * 1e-3, step_size=1e-3, chains=chains, steps=2500
    ):
        for chain in now.done.nonzero()[:, 0].tolist():
            lengths[chain].append(int(now.n_steps[chain]))
    for of_chain in lengths:
        n = len(of_chain)
        assert n > 100
        expected = np.clip(np.round(2 * mean * (np.arange(n) + 0.5) / n), 1, None)
        # Independent lengths would be off by several; a low-discrepancy sequence is not.
        assert np.abs(np.sort(of_chain) - expected).max() <= 1.0


def test_lengths_keep_to_their_bounds_and_say_so():
    flagged, counts = [], []
    for state, now in transitions(
        trajectory_length=2.0, step_size=0.1, chains=50, steps=200, max_tree_depth=4
    ):
        counts.append(now.n_steps[now.done])
        flagged.append(now.reached_max_treedepth[now.done])
        assert (now.n_steps < 2**now.tree_depth).all()
        assert (now.n_steps >= 2 ** (now.tree_depth - 1)).all()
        assert all(isinstance(part, Tensor | tuple) for part in state)
    steps, at_most = torch.cat(counts), torch.cat(flagged)
    assert int(steps.min()) == 1
    assert int(steps.max()) == 15
    assert torch.equal(at_most, steps == 15)


@KINDS
def test_a_trajectory_turned_round_leads_back(kind: str):
    kernel, problem, chains = chees(), problem_of(Banana().double()), 40
    start, momentum = torch.randn(2, 2, chains).unbind()
    metric: Metric = metrics(2)[kind]
    version = torch.arange(chains) % 2
    settings = settings_of(0.1, metric, version=version, trajectory_length=1.5)

    def whole(position: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of all trajectories; each has the length of its first transition."""
        state = kernel.init(position, *problem.log_density_and_gradient(position), settings)
        ends = [torch.full_like(position, torch.nan), torch.full_like(position, torch.nan)]
        noise = Noise(momentum, torch.zeros(1, chains))
        ended = torch.zeros(chains, dtype=torch.bool)
        while not bool(ended.all()):
            state, now = kernel.step(problem.log_density_and_gradient, state, noise, settings)
            assert now.proposal is not None
            first = now.done & ~ended
            found = (now.proposal.end, now.proposal.momentum)
            ends = [torch.where(first, new, old) for new, old in zip(found, ends, strict=True)]
            ended = ended | now.done
        return ends[0], ends[1]

    there = whole(start, momentum)
    assert not bool(torch.isclose(there[0], start).all())
    back = whole(there[0], -there[1])
    torch.testing.assert_close((back[0], -back[1]), (start, momentum))


@pytest.mark.parametrize("jitter", [-0.1, 1.1])
def test_a_jitter_outside_its_range_is_refused(jitter: float):
    with pytest.raises(ValueError, match=r"jitter must lie in \[0, 1\]"):
        chees(jitter=jitter)


# What warm-up learns.


def run(
    energy: Any, *, kernel: Any = ebm.ChEESHMC, num_chains: int = 64, warmup: int = 150
) -> ebm.MCMC:
    mcmc = ebm.MCMC(kernel(energy), 80, warmup, num_chains=num_chains)
    mcmc.run()
    return mcmc


def share_of_the_best(length: float, spread: float) -> float:
    """The criterion at a mean length over its maximum, for a Gaussian along one direction.

    With lengths uniform on (0, 2t) the change of the square is in proportion to
    1 - sin(x)/x, x = 4 t / spread.
    """
    x, best = 4 * length / spread, 4.493409457909064
    return (1 - math.sin(x) / x) / (1 - math.sin(best) / best)


def widest(covariance: Tensor, inverse_mass: Tensor) -> float:
    """The largest standard deviation in positions whitened by a diagonal metric."""
    scale = inverse_mass.sqrt()
    return float(torch.linalg.eigvalsh(covariance / scale / scale[:, None])[-1].sqrt())


def test_the_standard_length_is_best_for_a_standard_normal():
    lengths = np.linspace(0.5, 2.0, 1501)
    best = lengths[np.argmax([share_of_the_best(float(length), 1.0) for length in lengths])]
    assert best == pytest.approx(STANDARD_LENGTH, abs=0.005)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_learned_length_is_near_the_best_of_a_correlated_gaussian(name: str):
    covariance = COVARIANCES[name]()
    mcmc = run(Gaussian(torch.zeros(len(covariance)), covariance_matrix=covariance))
    settings = mcmc._state().settings
    found = float(settings.trajectory_length)
    assert mcmc.record.attrs["trajectory_length"] == found
    spread = widest(covariance, inverse_mass_matrix(settings.metric, int(settings.version)))
    assert spread > 2.5, "the first guess must not be good enough"
    assert share_of_the_best(found, spread) > 0.9


def effective_draws_per_gradient(mcmc: ebm.MCMC) -> float:
    """Of the worst coordinate, in the bulk."""
    draws = mcmc.record.positions.numpy()
    worst = min(diagnostics.ess_bulk(draws[..., i]) for i in range(draws.shape[2]))
    return worst / float(mcmc.record.statistics["n_steps"].sum())


def test_it_draws_more_for_its_gradients_than_hmc_of_the_default_length():
    covariance = ill_conditioned()
    energy = Gaussian(torch.zeros(len(covariance)), covariance_matrix=covariance)
    ours, fixed = (
        effective_draws_per_gradient(run(energy, kernel=k, num_chains=16, warmup=80))
        for k in (ebm.ChEESHMC, ebm.HMC)
    )
    assert ours > fixed


def test_length_step_and_metric_freeze_with_the_end_of_warm_up():
    energy = Gaussian(torch.zeros(10), covariance_matrix=slowly_varying())
    target = Target.from_energy(energy)
    generator = torch.Generator().manual_seed(0)
    plan = Plan(20, Warmup(80, trajectory_length=1.0, kind=Diagonal()))
    start = target.initial_positions(16, generator=generator)
    result = run_chains(problem_of(target), chees(), start, plan, generator=generator)
    assert result.error is None
    assert result.state is not None
    settings, chain = result.state.settings, result.state.chain
    assert result.draws.statistics["step_size"].unique().numel() == 1
    assert settings.trajectory_length is not None
    longest = 2 * float(settings.trajectory_length / settings.step_size[0])
    steps = result.draws.statistics["n_steps"]
    assert float(steps.max()) <= round(longest) + 1
    # Twenty lengths of sixteen chains leave no gap at the upper end.
    assert float(steps.max()) >= longest * (1 - 2 / 20) - 1
    assert isinstance(chain, ChEESState)


def test_a_short_warm_up_keeps_the_first_guess():
    energy = Gaussian(torch.zeros(2), covariance_matrix=torch.eye(2))
    mcmc = ebm.MCMC(ebm.ChEESHMC(energy, trajectory_length=2.0), 5, 20, num_chains=16)
    mcmc.run()
    assert mcmc.record.attrs["trajectory_length"] == 2.0


# As users write it.


def test_the_same_seed_repeats_a_run_exactly():
    energy = Gaussian(torch.zeros(10), covariance_matrix=slowly_varying())

    def once(seed: int) -> ebm.MCMC:
        torch.manual_seed(seed)
        return run(energy, num_chains=16, warmup=60)

    first, again, other = once(1), once(1), once(2)
    assert torch.equal(first.record.positions, again.record.positions)
    for key in ("trajectory_length", "gradient_steps"):
        assert first.record.attrs[key] == again.record.attrs[key]
    assert not torch.equal(first.record.positions, other.record.positions)


def test_few_chains_are_told_of_and_fewer_refused():
    kernel = ebm.ChEESHMC(Banana())
    with pytest.raises(ValueError, match=r"num_chains of at least 4, got 3"):
        ebm.MCMC(kernel, 10, num_chains=3)
    with pytest.warns(UserWarning, match="from 4 chains only"):
        ebm.MCMC(kernel, 10, num_chains=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ebm.MCMC(kernel, 10, num_chains=16)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trajectory_length": 0.0}, "trajectory_length must be a positive number"),
        ({"trajectory_length": math.inf}, "trajectory_length must be a positive number"),
        ({"max_tree_depth": 0}, "max_tree_depth must be at least 1"),
        ({"length_jitter": 1.5}, r"length_jitter must lie in \[0, 1\]"),
        ({"target_accept_prob": 1.0}, r"target_accept_prob must lie in \(0, 1\)"),
        ({"step_size": -1.0}, "step_size must be a positive number"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict, said: str):
    with pytest.raises(ValueError, match=said):
        ebm.ChEESHMC(Banana(), **options)


def test_a_run_is_told_and_exported():
    energy = Gaussian(torch.zeros(3), covariance_matrix=torch.eye(3))
    mcmc = run(energy, num_chains=16, warmup=60)
    data = mcmc.to_arviz()
    assert data.posterior.attrs["sampler"] == "ChEESHMC"
    assert data.posterior.attrs["trajectory_length"] > 0
    depth, steps = (data.sample_stats[name].values for name in ("tree_depth", "n_steps"))
    assert (depth == np.ceil(np.log2(steps + 1))).all()
    assert not data.sample_stats["reached_max_treedepth"].values.any()
    assert "16 chains" in mcmc.diagnose()


def test_a_warm_start_takes_up_the_length_and_gives_it_to_none_that_has_none():
    energy = Gaussian(torch.zeros(10), covariance_matrix=slowly_varying())
    first = run(energy, num_chains=16, warmup=60)
    again = ebm.MCMC(ebm.ChEESHMC(energy), 5, num_chains=16, warmup_from=first)
    again.run()
    length = first.record.attrs["trajectory_length"]
    assert again.record.attrs["trajectory_length"] == length
    tree = ebm.MCMC(ebm.NUTS(energy), 5, num_chains=4, warmup_from=first)
    tree.run()
    assert "trajectory_length" not in tree.record.attrs
    back = ebm.MCMC(ebm.ChEESHMC(energy), 5, num_chains=16, warmup_from=tree)
    back.run()
    assert back.record.attrs["trajectory_length"] == STANDARD_LENGTH
