"""Draws of the target that a user gives, to be annealed backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.target import Target

from .given import moved, unconstrained

# Draws of a run beyond these say little more of log Z.
_ENOUGH = 1024


@dataclass(frozen=True)
class ExactDraws:
    """Draws that are exactly of the target: of data simulated by the model, the latent values that
    generated them; of an energy, those of an exact sampler. With them the estimate from backwards
    is a stochastic upper bound, not only a diagnostic.
    """

    draws: Any


def positions_of(target: Target, draws: Any) -> Tensor:
    """Unconstrained positions [dim, n] of draws of the target.

    :param draws: a finished MCMC run of the same model, {site: values [n, *shape]}, or the values
        [n, *shape] of the one site.
    :raises TypeError, ValueError: other things, or values outside of the support.
    """
    if isinstance(draws, MCMC):
        record = draws.record
        if not record.keeps_all or record.positions.shape[-1] != target.dim:
            raise ValueError(
                f"expected reverse= to be a run that kept all {target.dim} coordinates of this "
                f"model, got one with {record.positions.shape[-1]}."
            )
        # From the ends of all chains backwards, so that draws are as far apart as can be.
        flat = record.positions.flip(1).transpose(0, 1).reshape(-1, target.dim)
        stride = max(1, len(flat) // _ENOUGH)
        return moved(record.target, target, flat[::stride]).T.contiguous()
    if isinstance(draws, Tensor):
        if len(target.sites) != 1:
            raise ValueError(
                "expected reverse= to be {site: values} for a model with the sites "
                f"{[site.name for site in target.sites]}, got a tensor."
            )
        draws = {target.sites[0].name: draws}
    if not isinstance(draws, Mapping):
        raise TypeError(
            "expected reverse= to be True, False, a finished MCMC run, {site: values [n, *shape]} "
            f"or ExactDraws of these, got {type(draws).__name__}."
        )
    missing = [site.name for site in target.sites if site.name not in draws]
    if missing:
        raise ValueError(
            f"expected reverse= to hold draws of every latent site, missing {missing}."
        )
    values = {}
    for site in target.sites:
        value, shape = draws[site.name], tuple(site.shape)
        if tuple(value.shape[1:]) != shape or len(value) < 1:
            raise ValueError(
                f"expected draws of '{site.name}' of shape [n, {', '.join(map(str, shape))}], got "
                f"{tuple(value.shape)}."
            )
        values[site.name] = value
    positions = unconstrained(target, values)
    if not bool(positions.isfinite().all()):
        raise ValueError(
            "expected draws of the target, got some outside of, or on the border of, its support."
        )
    return positions
