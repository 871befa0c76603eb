"""Stored positions sent through the model once more: sites, log priors, likelihoods, energies.

Discrete sites that were summed out are drawn back first; deterministic sites, log priors and
energies are then those at these draws. Rows go through in pieces that fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pyro_ebm.target import Target
from pyro_ebm.target.discrete_draws import draw_discrete
from pyro_ebm.target.pointwise import pointwise_log_likelihood
from pyro_ebm.target.program import ModelProgram, Side, Terms

from .inputs import as_array
from .record import RunRecord
from .sites import Facts

# Numbers held at once.
_NUMBERS = 2**23


class Evaluated(NamedTuple):
    """Positions mapped back to sites."""

    posterior: dict[str, np.ndarray]
    log_prior: dict[str, np.ndarray]
    log_likelihood: dict[str, np.ndarray]
    energies: dict[str, np.ndarray]


def evaluated(
    record: RunRecord, positions: Tensor, facts: Mapping[str, Facts], *, log_likelihood: bool
) -> Evaluated:
    """What the model gives at stored positions [chain, draw, coordinates]."""
    target, batch = record.target, positions.shape[:2]
    rows = target.complete(positions, record.coordinates).flatten(0, 1)
    chunk = max(1, _NUMBERS // target.numbers_per_run)
    pieces = [
        _evaluate(record, piece, facts, log_likelihood=log_likelihood)
        for piece in rows.split(chunk)
    ]

    def join(dictionaries: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        whole = {name: np.concatenate([d[name] for d in dictionaries]) for name in dictionaries[0]}
        return {name: array.reshape(*batch, *array.shape[1:]) for name, array in whole.items()}

    return Evaluated(
        posterior=join([piece.posterior for piece in pieces]),
        log_prior=join([piece.log_prior for piece in pieces]),
        log_likelihood=join([piece.log_likelihood for piece in pieces]),
        energies=join([piece.energies for piece in pieces]),
    )


def _evaluate(
    record: RunRecord, rows: Tensor, facts: Mapping[str, Facts], *, log_likelihood: bool
) -> Evaluated:
    """The same at rows [row, dim]."""
    target = record.target
    terms = target.evaluate(rows)
    if not record.keeps_all:
        # What depends on a discrete site is among the kept sites only where all positions are.
        values = {**terms.latents, **terms.deterministics}
        return Evaluated(_kept_sites(record, values, facts), {}, {}, {})
    pointwise = _pointwise(target, terms, facts) if log_likelihood else {}
    discrete = draw_discrete(target, rows)
    if discrete:
        terms = target.evaluate(rows, Side(values=discrete))
    values = {**terms.latents, **discrete, **terms.deterministics}
    factors = {
        name: -value for name, value in terms.log_likelihood.items() if facts[name].kind == "factor"
    }
    return Evaluated(
        _kept_sites(record, values, facts),
        _whole_batches(terms.log_prior, facts),
        pointwise,
        _whole_batches({**factors, **terms.energies}, facts),
    )


def _kept_sites(
    record: RunRecord, values: Mapping[str, Tensor], facts: Mapping[str, Facts]
) -> dict[str, np.ndarray]:
    return {name: as_array(values[name]) for name in facts if name in values and record.keeps(name)}


def _pointwise(target: Target, terms: Terms, facts: Mapping[str, Facts]) -> dict[str, np.ndarray]:
    if not isinstance(target.program, ModelProgram):
        return {}
    found = pointwise_log_likelihood(
        target.program,
        log_prior=terms.log_prior,
        log_likelihood=terms.log_likelihood,
        num_batch_axes=1,
    )
    whole = _whole_batches(
        {
            name: value
            for name, value in found.items()
            if facts[name].kind == "observed" and facts[name].normalised
        },
        facts,
    )
    return {name: kept for name, v in whole.items() if (kept := _counted(v, facts[name])).size}


def _counted(values: np.ndarray, fact: Facts) -> np.ndarray:
    """A log likelihood [row, *batch] without the points that a mask takes out, [row, point]."""
    return values if fact.counted is None else values[:, as_array(fact.counted)]


def _whole_batches(
    terms: Mapping[str, Tensor], facts: Mapping[str, Facts]
) -> dict[str, np.ndarray]:
    """Terms [row, ...] with the whole batch shape of their sites."""
    found = {}
    for name, value in terms.items():
        batch = facts[name].batch
        missing = len(batch) - (value.dim() - 1)
        value = value.reshape(len(value), *[1] * missing, *value.shape[1:])
        found[name] = as_array(value.expand(len(value), *batch))
    return found


def unconstrained(record: RunRecord, positions: Tensor) -> dict[str, np.ndarray]:
    """The coordinates of every kept latent site, [chain, draw, *unconstrained shape]."""
    whole = record.target.complete(positions, record.coordinates)
    return {
        site.name: as_array(
            whole[..., site.slice].reshape(*whole.shape[:2], *site.unconstrained_shape)
        )
        for site in record.target.sites
        if record.keeps(site.name)
    }
