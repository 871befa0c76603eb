"""Stored positions sent through the model once more: sites, log priors, likelihoods, energies.

Discrete sites that were summed out are drawn back first; deterministic sites, log priors and
energies are then those at these draws. Rows go through in pieces that fit into memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
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
    record: RunRecord,
    positions: Tensor,
    facts: Mapping[str, Facts],
    *,
    log_likelihood: bool,
    known: Mapping[str, np.ndarray] = {},
) -> Evaluated:
    """What the model gives at stored positions [chain, draw, coordinates].

    :param known: values of sites that are taken as they are. Those of a run that is on disk are on
        disk, as is then everything that is given back.
    """
    target, (chains, draws) = record.target, positions.shape[:2]
    # Draw after draw, as they lie on disk.
    stored = positions.transpose(0, 1).reshape(draws * chains, -1)
    columns: tuple[dict[str, _Column], ...] = ({}, {}, {}, {})
    for piece in stored.split(max(1, _NUMBERS // target.numbers_in_memory)):
        rows = target.complete(piece, record.coordinates)
        found = _evaluate(record, rows, facts, log_likelihood=log_likelihood)
        for group, values in zip(columns, found, strict=True):
            for name, value in values.items():
                if group is columns[0] and name in known:
                    continue
                group.setdefault(name, _Column(record.folder)).add(value)

    def whole(column: _Column) -> np.ndarray:
        return np.swapaxes(column.whole((draws, chains)), 0, 1)

    posterior, *others = ({n: whole(c) for n, c in group.items()} for group in columns)
    values = {**known, **posterior}
    return Evaluated({name: values[name] for name in facts if name in values}, *others)


class _Column:
    """One variable, piece after piece: in memory, or in a file without a name that is mapped."""

    def __init__(self, folder: Path | None) -> None:
        # Closed when it is mapped; it has no name that would have to be removed.
        self._file = None if folder is None else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._pieces: list[np.ndarray] = []

    def add(self, piece: np.ndarray) -> None:
        if self._file is None:
            self._pieces.append(piece)
            return
        self._file.write(np.ascontiguousarray(piece).data)
        self._pieces = [piece[:0]]

    def whole(self, batch: tuple[int, int]) -> np.ndarray:
        """All rows as [*batch, *event]."""
        (first, *_) = self._pieces
        shape = (*batch, *first.shape[1:])
        if self._file is None:
            return np.concatenate(self._pieces).reshape(shape)
        self._file.flush()
        if 0 in shape:
            return np.zeros(shape, first.dtype)
        with self._file:
            return np.memmap(self._file, first.dtype, "r+", shape=shape)


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
    program = target.described
    if not isinstance(program, ModelProgram):
        return {}
    found = pointwise_log_likelihood(
        program,
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
    """The coordinates of every kept latent site, [chain, draw, *unconstrained shape].

    Those of a discrete target, or site, are its states once more, and are left out.
    """
    if record.target.num_states is not None:
        return {}
    # Behind a transport all coordinates are kept.
    positions = record.target.to_unconstrained(positions)
    places = {int(c): i for i, c in enumerate(record.stored_coordinates.tolist())}
    found = {}
    for site in record.target.sites:
        if record.keeps(site.name) and site.states is None:
            # A site is kept whole, and coordinates ascend.
            first = places[site.offset] if site.size else 0
            part = positions[..., first : first + site.size]
            found[site.name] = as_array(part.reshape(*part.shape[:2], *site.unconstrained_shape))
    return found
