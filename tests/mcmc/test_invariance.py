"""Exact draws in, one transition of each, exact draws out: for every kernel, metric and target.

A kernel that leaves its target invariant passes whatever it does in between; the identity does too.
So broken kernels are planted beside the right ones, and must be caught by the same test.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

import pyro_ebm.mcmc.hmc
import pyro_ebm.mcmc.nuts
from pyro_ebm.energies import Banana, Energy, Funnel, GaussianMixtureEnergy
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.integrators import Leap, PhasePoint, leapfrog
from pyro_ebm.mcmc.kernel import Kernel, Noise, Settings, Transition
from pyro_ebm.mcmc.metric import Metric, force, velocity
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Problem
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced, vectorized

from .stage import Stepper, Tamper, metrics, problem_of, settings_of

CHAINS = 16384
REFERENCES = 4 * CHAINS
ACCEPTANCE = (0.5, 0.7)
# One run of the whole file fails by chance with this probability at most.
FALSE_ALARM = 1e-3

KERNELS = {
    "nuts": nuts(max_tree_depth=6),
    "hmc-fixed": hmc(trajectory_length=1.5),
    "hmc-jittered": hmc(trajectory_length=1.5, jitter=0.5),
    "hmc-steps": hmc(num_steps=3),
}


class Case(NamedTuple):
    """A target, and exact draws of its flat positions [dim, n]."""

    problem: Problem
    exact: Callable[[int], Tensor]


def of_energy(energy: Energy) -> Case:
    return Case(problem_of(energy.double()), lambda n: energy.exact_sample((n,)).T.contiguous())


def triangle() -> None:
    """A support that depends on a latent: the bijections and their Jacobians matter everywhere."""
    a = pyro.sample("a", dist.Uniform(0.0, 1.0))
    b = pyro.sample("b", dist.Uniform(0.0, 1.0 - a))
    with pyro.plate("c", 1):
        pyro.sample("s", dist.Exponential(1.0 + b))


def triangle_draws(n: int) -> Tensor:
    a = torch.rand(n)
    b = (1 - a) * torch.rand(n)
    s = -torch.rand(n).log() / (1 + b)
    return torch.stack([a.logit(), (b / (1 - a)).logit(), s.log()])


def without_jacobian(target: Target) -> Problem:
    """The density of the constrained values, taken for that of the positions."""

    def density(position: Tensor, side: Any) -> Tensor:
        terms = target.program.run(position, side)
        return torch.stack([value.sum() for value in terms.log_prior.values()]).sum()

    return Problem(vectorized(density), traced)


CASES: dict[str, Callable[[], Case]] = {
    "banana": lambda: of_energy(Banana(curvature=0.7, width=0.6)),
    "mild-funnel": lambda: of_energy(Funnel(2, scale=1.0)),
    "mixture": lambda: of_energy(
        GaussianMixtureEnergy(
            torch.tensor([[-1.2, 0.0, 0.5], [1.0, 1.0, -0.5]]), scale_tril=torch.eye(3).mul(0.7)
        )
    ),
    "triangle": lambda: Case(problem_of(Target.from_model(triangle)), triangle_draws),
}


def functions(positions: Tensor) -> dict[str, Tensor]:
    """What is compared: coordinates, radius, and products of neighbours; each [n]."""
    found = {f"z{i}": row for i, row in enumerate(positions)}
    found["radius"] = positions.square().sum(0)
    found |= {f"z{i} z0": row * positions[0] for i, row in enumerate(positions[1:], start=1)}
    return found


def p_value(case: Case, positions: Tensor) -> float:
    """The smallest p-value of two-sample tests against fresh exact draws, times their number."""
    exact, found = functions(case.exact(REFERENCES)), functions(positions)
    return len(exact) * min(ks_2samp(exact[name], found[name]).pvalue for name in exact)


def tuned(stepper: Stepper, start: Tensor, metric: Metric, **options: Any) -> Transition:
    """One transition at a step size with acceptance between 0.5 and 0.7, found by bisection."""
    low, high = 0.01, 10.0
    version = torch.arange(start.shape[1]) % 2
    for seed in range(0, 1000, 100):
        step_size = (low * high) ** 0.5
        settings = settings_of(step_size, metric, max_tree_depth=6, version=version)
        transition = stepper.one_transition(start, settings, seed=seed, **options)
        acceptance = float(transition.acceptance_rate.mean())
        if ACCEPTANCE[0] < acceptance < ACCEPTANCE[1]:
            return transition
        low, high = (step_size, high) if acceptance > ACCEPTANCE[1] else (low, step_size)
    raise AssertionError(f"no step size was found; the last acceptance rate is {acceptance:.2f}")


COMBINATIONS = [
    *((kernel, kind, "banana") for kernel in KERNELS for kind in ("diagonal", "dense", "low-rank")),
    *((kernel, "diagonal", case) for kernel in KERNELS for case in list(CASES)[1:]),
]


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize(("kernel", "kind", "name"), COMBINATIONS)
def test_a_kernel_leaves_its_target_invariant(kernel: str, kind: str, name: str):
    case = CASES[name]()
    start = case.exact(CHAINS)
    metric = metrics(start.shape[0])[kind]
    settings = settings_of(1.0, metric, version=torch.arange(CHAINS) % 2)
    transition = tuned(Stepper(KERNELS[kernel], case.problem, start, settings), start, metric)
    assert not torch.equal(transition.position, start)
    assert p_value(case, transition.position) > FALSE_ALARM / len(COMBINATIONS)


@pytest.mark.parametrize("name", CASES)
def test_the_identity_passes(name: str):
    case = CASES[name]()
    assert p_value(case, case.exact(CHAINS)) > FALSE_ALARM / len(CASES)


def without_accept(noise: Noise) -> Noise:
    """Uniform numbers of zero take every proposal; the first number decides nothing of that."""
    uniform = noise.uniform.clone()
    uniform[1:] = 0.0
    return noise._replace(uniform=uniform)


def wrong_sign(
    log_density_and_gradient: Any, point: PhasePoint, step_size: Tensor, metric: Metric, version: Tensor
) -> Leap:
    """A leapfrog whose last half-step pulls where it should push."""
    leap = leapfrog(log_density_and_gradient, point, step_size, metric, version)
    momentum = leap.point.momentum - step_size * leap.point.force
    return leap._replace(point=leap.point._replace(momentum=momentum))


def half_drift(
    log_density_and_gradient: Any, point: PhasePoint, step_size: Tensor, metric: Metric, version: Tensor
) -> Leap:
    """A step that keeps volumes but cannot be reversed: its first half-push is left out."""
    position = point.position + step_size * velocity(metric, version, point.momentum)
    log_density, gradient = log_density_and_gradient(position)
    push = force(metric, version, gradient)
    momentum = point.momentum + step_size * push
    return Leap(PhasePoint(position, momentum, push), log_density, gradient)


def caught(case: Case, kernel: Kernel, problem: Problem, tamper: Tamper | None = None) -> bool:
    start = case.exact(CHAINS)
    metric = metrics(start.shape[0])["diagonal"]
    settings: Settings = settings_of(1.0, metric, version=torch.arange(CHAINS) % 2)
    transition = tuned(Stepper(kernel, problem, start, settings), start, metric, tamper=tamper)
    return p_value(case, transition.position) < FALSE_ALARM / len(COMBINATIONS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_dropped_accept_is_caught(kernel: str):
    case = CASES["mild-funnel"]()
    assert caught(case, KERNELS[kernel], case.problem, without_accept)


@pytest.mark.parametrize("broken", [wrong_sign, half_drift])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_broken_leapfrog_is_caught(
    kernel: str, broken: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pyro_ebm.mcmc.nuts, "leapfrog", broken)
    monkeypatch.setattr(pyro_ebm.mcmc.hmc, "leapfrog", broken)
    case = CASES["mild-funnel"]()
    assert caught(case, KERNELS[kernel], case.problem)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_missing_jacobian_is_caught(kernel: str):
    case = CASES["triangle"]()
    assert caught(case, KERNELS[kernel], without_jacobian(Target.from_model(triangle)))
