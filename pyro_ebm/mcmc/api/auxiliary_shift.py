"""How far auxiliary data that are no exact draws shift a posterior.

With the score s(y), the gradient of log f(y; theta) by theta, the posterior that is sampled has the
mean of s over auxiliary data where the mean over the model belongs. To first order its mean is off
by the posterior covariance times the difference of the two. The mean over the model is estimated by
longer chains: from the observed data, and, to see whether the model has several kinds of data
between which no chain goes, from random data, and from data with all units in one
state or, of continuous ones, far out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..auxiliary import StateDraws
from ..auxiliary_reals import RealDraws
from .record import RunRecord

AnyDraws = StateDraws | RealDraws

# How many auxiliary draws are looked at, from the data and from elsewhere, and how many times as
# long a chain they are compared with.
_EXAMINED, _ELSEWHERE, _LONGER = 1024, 256, 4
# Pieces of chains that errors are taken from, at least.
_PIECES = 16


class _Shift(NamedTuple):
    """By how many posterior standard deviations the mean of the site ``name`` is off."""

    mean: float
    error: float
    name: str

    @property
    def sure(self) -> float:
        """What is left of it beside its error."""
        return abs(self.mean) - 2 * self.error


def shifts(record: RunRecord, draws: list[AnyDraws], generator: torch.Generator) -> dict[str, Any]:
    """The shift of the worst site, and that of the start that differs most, as attributes."""
    found = _shift(record, draws, _EXAMINED, None, generator)
    elsewhere = {
        start: _shift(record, draws, _ELSEWHERE, start, generator)
        for start in dict.fromkeys(start for each in draws for start in each.starts)
    }
    start, other = max(elsewhere.items(), key=lambda each: each[1].sure)
    return {
        "auxiliary_shift": found.mean,
        "auxiliary_shift_error": found.error,
        "auxiliary_shift_site": found.name,
        "auxiliary_start": start,
        "auxiliary_start_shift": other.mean,
        "auxiliary_start_error": other.error,
        "auxiliary_start_site": other.name,
    }


def _shift(
    record: RunRecord,
    draws: list[AnyDraws],
    number: int,
    start: str | None,
    generator: torch.Generator,
) -> _Shift:
    positions, groups = _positions(record, number)
    flat = positions.reshape(len(positions), -1)
    covariance = torch.atleast_2d(torch.cov(record.positions.flatten(0, 1).T))
    spread = covariance.diagonal().sqrt().clamp(min=torch.finfo(flat.dtype).tiny)
    difference = sum(_difference_of_scores(each, flat, start, generator) for each in draws)
    by_draw = ((covariance @ difference) / spread[:, None]).reshape(len(flat), groups, -1)
    by_group = by_draw.mean(2)
    mean, error = by_group.mean(1), by_group.std(1) / groups**0.5
    worst = int((mean.abs() - 2 * error).argmax())
    sites = record.target.sites
    name = next(s.name for s in sites if s.offset <= worst < s.offset + s.size)
    return _Shift(float(mean[worst]), float(error[worst]), name)


def _positions(record: RunRecord, number: int) -> tuple[Tensor, int]:
    """Draws from all over the run [dim, groups, draws of each]; groups are chains, or pieces."""
    chains, kept, _ = record.positions.shape
    pieces = min(kept, -(-_PIECES // chains))
    each = min(kept // pieces, max(1, -(-number // (chains * pieces))))
    length = kept // pieces
    within = torch.linspace(0, length - 1, each).round().long()
    rows = (torch.arange(pieces)[:, None] * length + within).reshape(-1)
    picked = record.positions[:, rows].permute(2, 0, 1)
    return picked.reshape(len(picked), chains * pieces, each), chains * pieces


def _difference_of_scores(
    draws: AnyDraws, positions: Tensor, start: str | None, generator: torch.Generator
) -> Tensor:
    """The score of data from longer chains less that of auxiliary draws [dim, n].

    :param start: where the longer ones begin; None means that they go on from the auxiliary ones.
    """
    site, number = draws.site, positions.shape[1]
    kind = {"generator": generator, "dtype": positions.dtype, "device": positions.device}

    def numbers() -> Tensor:
        return torch.rand(draws.sweeps * draws.uniforms_of_sweep, number, **kind)

    y = draws.draw(positions, numbers())
    before = site.score(positions, y)
    if start is not None:
        y = draws.start(start, positions, torch.rand(site.dim, number, **kind))
        y = draws.swept(positions, y, numbers())
    later = torch.zeros_like(before)
    for _ in range(_LONGER - 1):
        y = draws.swept(positions, y, numbers())
        later = later + site.score(positions, y) / (_LONGER - 1)
    return later - before
