"""The leapfrog step in every metric: reversible, volume preserving, right to the third order."""

import pytest
import torch
from torch import Tensor

from pyro_ebm.energies import MuellerBrown
from pyro_ebm.mcmc.integrators import PhasePoint, kinetic_energy, leapfrog
from pyro_ebm.mcmc.metric import Metric, force

from .stage import metrics

ENERGY = (MuellerBrown() / 15.0).double()
CHAINS = 5
METRICS = pytest.mark.parametrize("metric", metrics(2).values(), ids=metrics(2))


def density(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Log density and gradient of positions [2, chains], themselves differentiable."""
    slope = torch.func.grad_and_value(lambda x: -ENERGY(x[None])[0])
    gradient, value = torch.func.vmap(slope, in_dims=1, out_dims=(1, 0))(positions)
    return value, gradient


def points() -> tuple[Tensor, Tensor]:
    """Positions and momenta [2, chains]."""
    generator = torch.Generator().manual_seed(3)
    position = 0.5 * torch.randn(2, CHAINS, generator=generator, dtype=torch.float64)
    return position, torch.randn(2, CHAINS, generator=generator, dtype=torch.float64)


def flow(
    metric: Metric, position: Tensor, momentum: Tensor, *, step_size: float, steps: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, momenta and energies after some steps, from any position and momentum."""
    version = torch.arange(position.shape[1]) % 2
    log_density, gradient = density(position)
    point = PhasePoint(position, momentum, force(metric, version, gradient))
    signed = torch.full_like(log_density, step_size)
    for _ in range(steps):
        point, log_density, _ = leapfrog(density, point, signed, metric, version)
    return point.position, point.momentum, kinetic_energy(point.momentum) - log_density


@METRICS
def test_leapfrog_is_reversible(metric: Metric):
    position, momentum = points()
    there = flow(metric, position, momentum, step_size=0.05, steps=20)
    # With the momentum turned round, and with the time turned round.
    back = flow(metric, there[0], -there[1], step_size=0.05, steps=20)
    torch.testing.assert_close((back[0], -back[1]), (position, momentum))
    back = flow(metric, there[0], there[1], step_size=-0.05, steps=20)
    torch.testing.assert_close(back[:2], (position, momentum))


@METRICS
def test_leapfrog_preserves_volume(metric: Metric):
    def one(position: Tensor, momentum: Tensor) -> Tensor:
        moved = flow(metric, position[:, None], momentum[:, None], step_size=0.2, steps=3)
        return torch.cat([part[:, 0] for part in moved[:2]])

    for position, momentum in zip(*(part.T for part in points()), strict=True):
        blocks = torch.func.jacrev(one, argnums=(0, 1))(position, momentum)
        determinant = torch.linalg.det(torch.cat(blocks, dim=1))
        torch.testing.assert_close(determinant, torch.ones_like(determinant))


@METRICS
def test_energy_error_of_a_step_is_of_third_order(metric: Metric):
    position, momentum = points()
    _, _, exact = flow(metric, position, momentum, step_size=0.0)

    def error(step_size: float) -> Tensor:
        # Over plus and minus the step only odd orders are left: c e^3 + O(e^5).
        ahead, behind = (
            flow(metric, position, momentum, step_size=sign * step_size)[2] - exact
            for sign in (1, -1)
        )
        return 0.5 * (ahead - behind)

    step_size = 2.0**-9
    order = torch.log2((error(2 * step_size) / error(step_size)).abs())
    torch.testing.assert_close(order, torch.full_like(order, 3.0), atol=0.05, rtol=0)
    _, _, once = flow(metric, position, momentum, step_size=step_size)
    _, _, twice = flow(metric, position, momentum, step_size=2 * step_size)
    assert ((twice - exact).abs() < 16 * (once - exact).abs()).all()
