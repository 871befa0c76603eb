"""The path from a base, which can be drawn from and is normalised, to the target.

The densities between are geometric means, log p_beta = (1 - beta) log q + beta log p, in the
unconstrained coordinates of the target. Their slope in beta, U = log p - log q, is what all weights
are made of. Where the base is a model's own prior, U is the log likelihood, and one run of the
model gives density, gradient and slope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.couplings import binary_pairs
from pyro_ebm.mcmc.tempered_gibbs import TemperedGibbs, tempered_gibbs
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram
from pyro_ebm.target.side import Side
from pyro_ebm.target.vectorize import RecordedDensity, composed


class Base(NamedTuple):
    """A normalised density on unconstrained coordinates that can be drawn from.

    ``log_density_and_gradient`` maps [dim, n] to ([n], [dim, n]); ``sample(n, generator)`` gives
    independent draws [dim, n], with NaN where a draw lies outside the support of the target.
    ``description`` says in a few words what it is; ``plain`` whether its density is nothing but
    tensor operations, which may be recorded without care. ``log_probabilities`` [dim, states] are
    those of a base of independent sites.
    """

    log_density_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]
    sample: Callable[[int, torch.Generator], Tensor]
    description: str
    plain: bool = False
    log_probabilities: Tensor | None = None


class Path(NamedTuple):
    """Densities between base and target.

    ``evaluate(positions [dim, n], beta [n])`` gives log density [n], gradient [dim, n] and slope U
    [n]; ``record(function, number, *example)`` makes a function that calls it for this number of
    particles faster, for the shapes of the example. Over the states of a discrete target there are
    changes in place of gradients, and ``blocks`` numbers the sites that do not interact, where
    changes are exact; ``sweeps`` go through all sites in C, where these have two states and
    interact in pairs.
    """

    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    sample: Callable[[int, torch.Generator], Tensor]
    record: Callable[..., Callable]
    like: Tensor
    dim: int
    base: Base
    blocks: Tensor | None = None
    sweeps: TemperedGibbs | None = None

    @property
    def description(self) -> str:
        """What the base is, in a few words."""
        return self.base.description


def geometric(target: Target, base: Base) -> Path:
    """From any base to the target by geometric means."""

    of_base = RecordedDensity(base.log_density_and_gradient)

    def evaluate(positions: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        target_value, target_gradient = target.recorded(positions)
        base_value, base_gradient = of_base(positions)
        slope = _slope(target_value.double(), base_value.double())
        log_density = base_value + beta * slope.to(base_value.dtype)
        gradient = base_gradient + beta * (target_gradient - base_gradient)
        return log_density, gradient, slope

    def parts(number: int) -> list[Callable]:
        positions = torch.zeros(target.dim, number, dtype=target.dtype, device=target.device)
        own = [] if base.plain else [of_base.at(positions)]
        return [target.recorded.at(positions), *own]

    return _path(target, evaluate, parts, base)


def from_prior(target: Target, prior: Base) -> Path:
    """From a model's prior to its posterior: the likelihood is raised to the power beta."""
    single = target.log_density

    def batched(positions: Tensor, beta: Tensor) -> Tensor:
        if target.vectorized:
            return torch.func.vmap(lambda z, b: single(z, Side(beta=b)), in_dims=(1, 0))(
                positions, beta
            )
        rows = zip(positions.T, beta, strict=True)
        return torch.stack([single(z, Side(beta=b)) for z, b in rows])

    def of_beta(positions: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            z, b = positions.detach().requires_grad_(), beta.detach().requires_grad_()
            value = batched(z, b)
            gradient, slope = torch.autograd.grad(value.sum(), (z, b))
        slope = torch.where(slope.isnan(), -torch.inf, slope.double())
        return value.detach(), gradient.contiguous(), slope

    evaluate = RecordedDensity(of_beta)

    def parts(number: int) -> list[Callable]:
        positions = torch.zeros(target.dim, number, dtype=target.dtype, device=target.device)
        return [evaluate.at(positions, torch.zeros_like(positions[0]))]

    return _path(target, evaluate, parts, prior)


def _slope(target_value: Tensor, base_value: Tensor) -> Tensor:
    """log p - log q; what is no number there has no density."""
    slope = target_value - base_value
    return torch.where(slope.isnan(), -torch.inf, slope)


def _path(
    target: Target, evaluate: Callable, parts: Callable[[int], list[Callable]], base: Base
) -> Path:
    def record(function: Callable, number: int, *example: object) -> Callable:
        return composed(function, parts(number), *example) if target.vectorized else function

    like = torch.empty((), dtype=target.dtype, device=target.device)
    blocks = target.program.blocks if isinstance(target.program, DiscreteProgram) else None
    blocks = blocks if target.exact_changes else None
    sweeps = _sweeps(target, base.log_probabilities)
    return Path(evaluate, base.sample, record, like, target.dim, base, blocks, sweeps)


def _sweeps(target: Target, log_probabilities: Tensor | None) -> TemperedGibbs | None:
    pairs = None if log_probabilities is None else binary_pairs(target)
    if pairs is None or log_probabilities is None:
        return None
    zero, one = log_probabilities.double().unbind(1)
    return tempered_gibbs(pairs, one - zero, float(zero.sum()))
