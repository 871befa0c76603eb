"""Free energy, energy, entropy and heat capacity at any temperature, from draws of a ladder.

With k_B = 1, of weighted draws at temperature T: F = -T log Z, U = <E>, S = (U - F)/T and
C = dU/dT = (<E^2> - <E>^2)/T^2. Errors are those of the delete-a-group jackknife: each group of
independent ladders is left out in turn, and everything is estimated anew from the others, the
normalisers of the rungs too, so that what F, U and S share is carried through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.annealing.multistate import ladder, log_mixture, log_normalizers

from .observables import HIDDEN, Derived

_GROUPS = 16


class LadderDraws(NamedTuple):
    """What is kept of the draws of all rungs, the ladders on the last axis.

    ``slope`` U and ``energy`` E are [draws, ladders]; ``log_measure`` is the log of the reference
    measure over the base, of which exp(-E/T) and exp(beta U) are densities; ``moments`` are
    observables [draws, ladders] by name.
    """

    slope: Float[Tensor, "draws ladders"]
    energy: Float[Tensor, "draws ladders"]
    log_measure: Float[Tensor, "draws ladders"]
    moments: Mapping[str, Float[Tensor, "draws ladders"]]

    def without(self, group: Tensor) -> LadderDraws:
        """All but some ladders, given as a mask."""
        kept = ~group
        return LadderDraws(
            self.slope[:, kept],
            self.energy[:, kept],
            self.log_measure[:, kept],
            {name: values[:, kept] for name, values in self.moments.items()},
        )


class Rungs(NamedTuple):
    """Inverse temperatures of the ladder, and the log normalisers from which a search begins."""

    betas: Tensor
    log_z: Tensor


class Estimates(NamedTuple):
    """By name the estimates [temperatures] and their standard errors, and by temperature how many
    equally weighted draws they are worth."""

    values: dict[str, Tensor]
    errors: dict[str, Tensor]
    ess: Tensor


def estimate(
    draws: LadderDraws,
    rungs: Rungs,
    temperatures: Tensor,
    *,
    derived: Mapping[str, Derived] | None = None,
) -> Estimates:
    """All quantities at all temperatures, with errors from two or more independent ladders.

    :param derived: quantities that follow from the means, by name.
    """

    def quantities(draws: LadderDraws, rungs: Rungs) -> tuple[dict[str, Tensor], Tensor]:
        means, ess = _quantities(draws, rungs, shares, temperatures)
        further = {name: f(means, temperatures) for name, f in (derived or {}).items()}
        shown = {name: values for name, values in means.items() if not name.startswith(HIDDEN)}
        return shown | further, ess

    shares = torch.full_like(rungs.betas, 1.0 / len(rungs.betas), dtype=torch.float64)
    log_z = log_normalizers(_log_f(draws, rungs), shares, rungs.log_z)
    rungs = rungs._replace(log_z=log_z)
    values, ess = quantities(draws, rungs)
    ladders = draws.slope.shape[1]
    number = min(_GROUPS, ladders)
    group_of = torch.arange(ladders, device=draws.slope.device) % number
    left_out = []
    for g in range(number):
        rest = draws.without(group_of == g)
        log_z = log_normalizers(_log_f(rest, rungs), shares, rungs.log_z)
        left_out.append(quantities(rest, rungs._replace(log_z=log_z))[0])
    errors = {
        name: torch.stack([each[name] for each in left_out]).std(0, correction=0)
        * math.sqrt(number - 1)
        for name in values
    }
    return Estimates(values, errors, ess)


def _log_f(draws: LadderDraws, rungs: Rungs) -> Tensor:
    return ladder(draws.slope.reshape(-1).double(), rungs.betas)


def _quantities(
    draws: LadderDraws, rungs: Rungs, shares: Tensor, temperatures: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    energy = draws.energy.reshape(-1)
    mixture = log_mixture(_log_f(draws, rungs), shares, rungs.log_z)
    reference = draws.log_measure.reshape(-1) - mixture
    moments = {name: moment.reshape(-1) for name, moment in draws.moments.items()}
    rows = [_at(float(t), energy, reference, moments) for t in temperatures]
    columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return columns, columns.pop("ess")


def _at(
    temperature: float, energy: Tensor, reference: Tensor, moments: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    log_weights = reference - energy / temperature
    # A draw outside of the support has an infinite energy and no weight.
    log_weights = torch.where(log_weights.isnan(), -torch.inf, log_weights)
    log_z = log_weights.logsumexp(0) - math.log(len(energy))
    weights = log_weights.softmax(0)

    def mean(values: Tensor) -> Tensor:
        return (weights * torch.where(weights > 0, values, 0.0)).sum()

    internal = mean(energy)
    free = -temperature * log_z
    found = {
        "log_z": log_z,
        "free_energy": free,
        "internal_energy": internal,
        "entropy": (internal - free) / temperature,
        "heat_capacity": mean((energy - internal).square()) / temperature**2,
        "ess": 1.0 / weights.square().sum(),
    }
    return found | {name: mean(values) for name, values in moments.items()}
