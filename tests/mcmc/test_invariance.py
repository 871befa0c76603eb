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
import pyro_ebm.mcmc.local_hmc
import pyro_ebm.mcmc.nuts
from pyro_ebm.energies import Banana, Energy, Funnel, GaussianMixtureEnergy
from pyro_ebm.mcmc.chees import chees
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.integrators import Leap, PhasePoint, leapfrog
from pyro_ebm.mcmc.kernel import Kernel, Noise, Settings, Transition
from pyro_ebm.mcmc.local_hmc import local_hmc
from pyro_ebm.mcmc.metric import Metric, force, velocity
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Problem
from pyro_ebm.target import Target
from pyro_ebm.target.vectorize import traced, vectorized

from .stage import Stepper, Tamper, metrics, problem_of, settings_of

CHAINS = 4096
ACCEPTANCE = (0.5, 0.7)
# One run of the whole file fails by chance with this probability at most.
FALSE_ALARM = 1e-3

KERNELS = {
    "nuts": nuts(max_tree_depth=6),
    "hmc-fixed": hmc(trajectory_length=1.5),
    "hmc-jittered": hmc(trajectory_length=1.5, jitter=0.5),
    "hmc-local": local_hmc(num_steps=3, spread=1.0),
    "chees": chees(),
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
    exact, found = functions(case.exact(4 * positions.shape[1])), functions(positions)
    return len(exact) * min(ks_2samp(exact[name], found[name]).pvalue for name in exact)


def tuned(kernel: Kernel, case: Case, kind: str) -> tuple[Settings, Transition]:
    """A step size of acceptance 0.5 to 0.7, found by bisection, and one transition of each with it.

    Half of the chains use the one version of the metric, half the other.
    """
    start = case.exact(CHAINS)
    version = torch.arange(CHAINS) % 2
    settings = settings_of(1.0, metrics(start.shape[0])[kind], max_tree_depth=6, version=version)
    stepper = Stepper(kernel, case.problem, start, settings)
    low, high = 0.01, 10.0
    for seed in range(0, 1000, 100):
        step_size = (low * high) ** 0.5
        settings = settings._replace(step_size=torch.tensor(step_size))
        transition = stepper.one_transition(start, settings, seed=seed)
        acceptance = float(transition.acceptance_rate.mean())
        if ACCEPTANCE[0] < acceptance < ACCEPTANCE[1]:
            assert not torch.equal(transition.position, start)
            return settings, transition
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
    _, transition = tuned(KERNELS[kernel], case, kind)
    assert p_value(case, transition.position) > FALSE_ALARM / len(COMBINATIONS)


@pytest.mark.parametrize("name", CASES)
def test_the_identity_passes(name: str):
    case = CASES[name]()
    assert p_value(case, case.exact(CHAINS)) > FALSE_ALARM / len(CASES)


def without_accept(noise: Noise) -> Noise:
    """Uniform numbers of zero take every proposal; the first of several decides nothing of that."""
    uniform = noise.uniform.clone()
    uniform[min(1, len(uniform) - 1) :] = 0.0
    return noise._replace(uniform=uniform)


def wrong_sign(
    log_density_and_gradient: Any,
    point: PhasePoint,
    step_size: Tensor,
    metric: Metric,
    version: Tensor,
) -> Leap:
    """A leapfrog whose last half-step pulls where it should push."""
    leap = leapfrog(log_density_and_gradient, point, step_size, metric, version)
    momentum = leap.point.momentum - step_size * leap.point.force
    return leap._replace(point=leap.point._replace(momentum=momentum))


def half_drift(
    log_density_and_gradient: Any,
    point: PhasePoint,
    step_size: Tensor,
    metric: Metric,
    version: Tensor,
) -> Leap:
    """A step that keeps volumes but cannot be reversed: its first half-push is left out."""
    position = point.position + step_size * velocity(metric, version, point.momentum)
    log_density, gradient = log_density_and_gradient(position)
    push = force(metric, version, gradient)
    momentum = point.momentum + step_size * push
    return Leap(PhasePoint(position, momentum, push), log_density, gradient)


def caught(
    case: Case,
    kernel: Kernel,
    settings: Settings,
    *,
    problem: Problem | None = None,
    tamper: Tamper | None = None,
) -> bool:
    start = case.exact(4 * CHAINS)
    settings = settings._replace(version=torch.arange(4 * CHAINS) % 2)
    stepper = Stepper(kernel, problem or case.problem, start, settings)
    transition = stepper.one_transition(start, settings, seed=1, tamper=tamper)
    return p_value(case, transition.position) < FALSE_ALARM / len(COMBINATIONS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_dropped_accept_is_caught(kernel: str):
    case = CASES["mild-funnel"]()
    settings, _ = tuned(KERNELS[kernel], case, "diagonal")
    assert caught(case, KERNELS[kernel], settings, tamper=without_accept)


BROKEN = [
    *((kernel, wrong_sign, "mild-funnel") for kernel in KERNELS),
    # Steps that follow the local scale are short where half a drift would show.
    *((kernel, half_drift, "triangle") for kernel in KERNELS if kernel != "hmc-local"),
]


@pytest.mark.parametrize(("kernel", "broken", "name"), BROKEN)
def test_a_broken_leapfrog_is_caught(
    kernel: str, broken: Callable, name: str, monkeypatch: pytest.MonkeyPatch
):
    case = CASES[name]()
    settings, _ = tuned(KERNELS[kernel], case, "diagonal")
    monkeypatch.setattr(pyro_ebm.mcmc.nuts, "leapfrog", broken)
    monkeypatch.setattr(pyro_ebm.mcmc.hmc, "leapfrog", broken)
    monkeypatch.setattr(pyro_ebm.mcmc.local_hmc, "leapfrog", broken)
    assert caught(case, KERNELS[kernel], settings)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_missing_jacobian_is_caught(kernel: str):
    case = CASES["triangle"]()
    settings, _ = tuned(KERNELS[kernel], case, "diagonal")
    problem = without_jacobian(Target.from_model(triangle))
    assert caught(case, KERNELS[kernel], settings, problem=problem)
