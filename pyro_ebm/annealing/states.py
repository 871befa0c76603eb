"""Annealing over the states of a discrete energy: from independent sites to the target.

The base is a product of one distribution for every site, all states alike unless given: infinite
temperature. Its changes are known as those of the target are, and the geometric path between the
two is linear in both, so that moves over states go along it as moves along a gradient do. Two sites
that do not interact in the target do not on the path, either.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.target import Target

from .path import Base


def independent_sites(
    target: Target, log_probabilities: Float[Tensor, "dim states"] | None = None
) -> Base:
    """A base of independent sites.

    :param log_probabilities: of the states of every site; all alike unless given.
    :raises TypeError: the target is not discrete.
    :raises ValueError: probabilities of another shape, or that do not sum to one.
    """
    states, dim = target.num_states, target.dim
    if states is None:
        raise TypeError("expected a discrete target, got one with continuous coordinates.")
    description = "independent sites"
    if log_probabilities is None:
        log_probabilities = torch.full((dim, states), -math.log(states))
        description = "independent sites, all states alike"
    table = log_probabilities.to(dtype=target.dtype, device=target.device)
    sums = table.double().logsumexp(1)
    if table.shape != (dim, states) or not bool((sums.abs() < 1e-4).all()):
        raise ValueError(
            f"expected log probabilities [{dim}, {states}] of the states of every site, which sum "
            f"to one, got shape {tuple(table.shape)}."
        )
    cumulated = table.double().exp().cumsum(1)

    def log_density_and_changes(positions: Tensor) -> tuple[Tensor, Tensor]:
        here = table.gather(1, positions.long())
        return here.double().sum(0).to(positions), table[..., None] - here[:, None]

    def sample(number: int, generator: torch.Generator) -> Tensor:
        kind = {"generator": generator, "dtype": torch.double, "device": target.device}
        uniform = torch.rand((dim, 1, number), **kind)
        drawn = (uniform >= cumulated[:, :-1, None]).sum(1)
        return drawn.to(target.dtype)

    return Base(log_density_and_changes, sample, description, plain=True, log_probabilities=table)
