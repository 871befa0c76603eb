"""Importance sampling at the mode: the plainest estimate of log Z, and the one to beat.

At the mode m the curvature H of -log density gives a Student-t of 8 degrees of freedom,
q = t(m, H^-1), and the mean of density/q over its draws is Z. It is right where the target has one
mode and the shape that its curvature says; elsewhere its standard error means nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy import optimize
from torch import Tensor

from pyro_ebm.target import Side, Target

DF = 8.0
NUM_STARTS = 16
NUM_POLISHING_STEPS = 20
DRAWS_AT_ONCE = 5_000


class Estimate(NamedTuple):
    """log Z and its standard error, the relative one of Z."""

    log_z: float
    std_error: float


def laplace_importance_sampling(
    target: Target, num_draws: int, generator: torch.Generator
) -> Estimate:
    """log Z by draws from a Student-t at the best of a few modes.

    Args:
        target: a log density over R^dim.
        num_draws: how many draws.
        generator: the random stream of starts and draws.
    """
    return estimate(laplace_draws(target, num_draws, generator)[1])


def estimate(log_weights: Tensor) -> Estimate:
    """log of the mean of exp(log_weights), with its standard error."""
    num_draws = len(log_weights)
    log_z = log_weights.logsumexp(0) - math.log(num_draws)
    weights = (log_weights - log_z).exp()
    return Estimate(float(log_z), float(weights.std() / math.sqrt(num_draws)))


def laplace_draws(
    target: Target, num_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draws of the Student-t, [num_draws, dim], and log density/q of each, [num_draws]."""
    dim = target.dim
    mode, curvature = find_mode(target, generator)
    values, vectors = torch.linalg.eigh(curvature)
    # A saddle or a flat direction has no scale of its own: it is given some, and no exception.
    values = values.abs().clamp(min=1e-12 * float(values.abs().amax()))
    scale = vectors * values.rsqrt()

    like = {"dtype": target.dtype, "device": target.device}
    noise = torch.randn(num_draws, dim, generator=generator, **like)
    half_df = torch.full((num_draws,), 0.5 * DF, **like)
    chi_square = 2 * torch.ops.aten._standard_gamma(half_df, generator=generator)
    white = noise * (DF / chi_square).sqrt().unsqueeze(-1)
    log_proposal = (
        math.lgamma(0.5 * (DF + dim))
        - math.lgamma(0.5 * DF)
        - 0.5 * dim * math.log(math.pi * DF)
        + 0.5 * values.log().sum()
        - 0.5 * (DF + dim) * torch.log1p(white.square().sum(-1) / DF)
    )
    positions = mode + white @ scale.mT
    log_density = torch.cat([log_density_of(target, x) for x in positions.split(DRAWS_AT_ONCE)])
    return positions, (log_density - log_proposal).double().nan_to_num(nan=-math.inf)


def find_mode(target: Target, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The highest mode from the origin and a few normal starts, [dim], with the curvature of
    -log density there, [dim, dim]."""
    starts = torch.randn(
        NUM_STARTS, target.dim, generator=generator, dtype=target.dtype, device=target.device
    )
    starts[0] = 0.0
    value_and_gradient = target.traced_log_density_and_gradient(1)
    ends = [climb(value_and_gradient, start) for start in starts]
    ends = [starts[0], *(end for end in ends if bool(target.log_density(end).isfinite()))]
    mode = max(ends, key=lambda end: float(target.log_density(end)))
    curvature = torch.func.jacrev(torch.func.grad(lambda z: -target.log_density(z)))
    # L-BFGS stops short where scales differ by orders of magnitude; Newton's steps do not.
    for _ in range(NUM_POLISHING_STEPS):
        matrix = curvature(mode)
        _, gradient = target.log_density_and_gradient(mode.unsqueeze(-1))
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info):
            break
        step = torch.cholesky_solve(gradient, factor).squeeze(-1)
        if not bool(target.log_density(mode + step) > target.log_density(mode)):
            break
        mode = mode + step
    return mode, curvature(mode).detach()


def climb(value_and_gradient: Callable[..., tuple[Tensor, Tensor]], start: Tensor) -> Tensor:
    """The end of L-BFGS from a start."""

    def objective(z):
        value, gradient = value_and_gradient(torch.as_tensor(z).to(start).unsqueeze(-1), Side())
        return -float(value), -gradient.squeeze(-1).double().cpu().numpy()

    end = optimize.minimize(objective, start.double().cpu().numpy(), jac=True, method="L-BFGS-B").x
    return torch.as_tensor(end).to(start)


def log_density_of(target: Target, positions: Tensor) -> Tensor:
    """log density of positions [n, dim], as [n]."""
    with torch.no_grad():
        return target.log_density_and_gradient(positions.mT)[0]
