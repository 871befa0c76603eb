"""Elliptical slice sampling: exact in, one transition, exact out; and what MCMC makes of it."""

from collections.abc import Callable

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_ebm import MCMC, DoubleWell, EllipticalSlice, EnergyDistribution, Tilted
from pyro_ebm.energies import Banana, GaussianMixtureEnergy
from pyro_ebm.mcmc.elliptical_slice import elliptical_slice
from pyro_ebm.mcmc.kernel import Kernel, Noise, Settings

from .stage import Stepper, identity, settings_of
from .test_invariance import FALSE_ALARM, Case, of_energy, p_value

CHAINS = 4096
FACTORS = {
    "diagonal": lambda dim: torch.linspace(0.8, 1.5, dim),
    "dense": lambda dim: torch.eye(dim) + 0.4 * torch.ones(dim, dim).tril(-1),
}
CASES: dict[str, Callable[[], Case]] = {
    "banana": lambda: of_energy(Banana(curvature=0.7, width=0.6)),
    "mixture": lambda: of_energy(
        GaussianMixtureEnergy(
            torch.tensor([[-1.2, 0.0, 0.5], [1.0, 1.0, -0.5]]), scale_tril=torch.eye(3).mul(0.7)
        )
    ),
}


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def beside(dim: int, kind: str) -> Kernel:
    return elliptical_slice(torch.full((dim,), 0.3), FACTORS[kind](dim))


def moved(kernel: Kernel, case: Case, tamper: Callable | None = None) -> Tensor:
    start = case.exact(CHAINS)
    settings = settings_of(1.0, identity(start.shape[0]), version=torch.zeros(CHAINS).long())
    stepper = Stepper(kernel, case.problem, start, settings)
    transition = stepper.one_transition(start, settings, seed=1, tamper=tamper)
    assert not bool((transition.position == start).all(0).any())
    return transition.position


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", FACTORS)
def test_a_target_is_left_invariant_beside_any_gaussian(name: str, kind: str):
    case = CASES[name]()
    dim = case.exact(1).shape[0]
    assert p_value(case, moved(beside(dim, kind), case)) > FALSE_ALARM / 4


def accept_all(noise: Noise) -> Noise:
    """A level of log 0: everything exceeds it."""
    uniform = noise.uniform.clone()
    uniform[0] = 1.0 - 2.0**-53
    return noise._replace(uniform=uniform)


def forgets_the_gaussian(kernel: Kernel) -> Kernel:
    """Asks the whole density to exceed the level, the Gaussian in it too."""

    def less(position: Tensor, log_density: Tensor) -> Tensor:
        scale = FACTORS["diagonal"](len(position))[:, None]
        return log_density - 0.5 * ((position - 0.3) / scale).square().sum(0)

    def init(position: Tensor, log_density: Tensor, gradient: Tensor, settings: Settings):
        return kernel.init(position, less(position, log_density), gradient, settings)

    def step(density: Callable, state, noise: Noise, settings: Settings):
        def doubled(position: Tensor) -> tuple[Tensor, Tensor]:
            log_density, gradient = density(position)
            return less(position, log_density), gradient

        return kernel.step(doubled, state, noise, settings)

    return kernel._replace(init=init, step=step)


def too_far(noise: Noise) -> Noise:
    """A direction that is no draw of the Gaussian."""
    return noise._replace(normal=1.7 * noise.normal)


def test_a_forgotten_gaussian_is_caught():
    case = CASES["banana"]()
    broken = forgets_the_gaussian(beside(2, "diagonal"))
    assert p_value(case, moved(broken, case)) < FALSE_ALARM / 4


@pytest.mark.parametrize("tamper", [accept_all, too_far])
def test_a_broken_slice_is_caught(tamper: Callable):
    case = CASES["banana"]()
    found = moved(beside(2, "diagonal"), case, tamper=tamper)
    assert p_value(case, found) < FALSE_ALARM / 4


def test_chains_cross_a_wall_and_never_leave_the_support():
    """A half-plane of a standard normal: flat inside, nothing outside."""
    base = dist.Normal(0.0, 1.0).expand([2]).to_event(1)
    cut = Tilted(lambda x: torch.where(x[0] > 0.5, 0.0, torch.inf), base)
    start = {"x": torch.ones(64, 2)}
    kernel = EllipticalSlice(cut)
    mcmc = MCMC(kernel, num_samples=100, num_chains=64, initial_params=start, disable_progbar=True)
    mcmc.run()
    x = mcmc.get_samples()["x"]
    assert bool((x[:, 0] > 0.5).all())
    # The mean of a normal number above 0.5: 0.352065 / 0.308538 (tables of the normal law).
    assert float(x[:, 0].mean()) == pytest.approx(0.3520653 / 0.3085375, abs=0.03)
    assert float(x[:, 1].std()) == pytest.approx(1.0, abs=0.05)


def test_a_prior_that_does_not_fit_is_refused():
    base = dist.Normal(0.0, 1.0).expand([2]).to_event(1)
    with pytest.raises(TypeError, match="prior="):
        EllipticalSlice(DoubleWell(2))
    with pytest.raises(TypeError, match="Gaussian"):
        EllipticalSlice(DoubleWell(2), prior=dist.Laplace(0.0, 1.0).expand([2]).to_event(1))
    with pytest.raises(ValueError, match="temperature 1"):
        EllipticalSlice(EnergyDistribution(Tilted(DoubleWell(2), base), temperature=2.0))
    mcmc = MCMC(EllipticalSlice(DoubleWell(3), prior=base), num_samples=10)
    with pytest.raises(ValueError, match="3 unconstrained"):
        mcmc.run()


def test_a_run_on_disk_goes_on_draw_for_draw(tmp_path):
    base = dist.Normal(0.0, 1.0).expand([2]).to_event(1)
    energy = Tilted(lambda x: (x[0] - x[1]).abs(), base)

    def kernel() -> EllipticalSlice:
        return EllipticalSlice(energy)

    options = {"warmup_steps": 30, "num_chains": 4, "disable_progbar": True}
    torch.manual_seed(1)
    MCMC(kernel(), num_samples=20, store=tmp_path / "run.zarr", **options).run()
    more = MCMC.resume(tmp_path / "run.zarr", kernel(), num_samples=40)
    more.run()
    torch.manual_seed(1)
    whole = MCMC(kernel(), num_samples=40, **options)
    whole.run()
    torch.testing.assert_close(more.get_samples()["x"], whole.get_samples()["x"])
    assert "step size" not in whole.diagnose()
