"""Directions along which nothing pulls the chains back: the sign of a density without a normaliser.

The force is the gradient of the log density. A density with a normaliser falls outwards faster than
1/distance: force times distance comes to one or more. Chains that are slow have seen little of
that, but what force there is points inward. Where a density is flat there is none, or rounding
errors of any sign. Draws show it at once, however far from settled they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pyro_ebm.diagnostics import split_rhat

from .figures import Coordinates
from .inputs import as_array
from .record import RunRecord

# Draws at which the forces are looked at, and the share of them that counts as the far end.
_LOOKS, _FEWEST = 400, 40
_FARTHEST = 0.05
# Only directions along which the chains are so far from agreeing are suspected.
_SUSPECT_RHAT = 1.1
# Force times distance, one and more in proper tails, below which there is no force.
_NO_FORCE = 0.01
# Rounding errors point inward half of the time; this leaves room for chance.
_INWARD = 0.75
# Coordinates with less than this share of the largest are not named as parts of a direction.
_PART = 0.3


class Flat(NamedTuple):
    """Coordinates that are flat, or that only ``together`` make up a flat direction.

    ``reach`` is how far from their median the draws of these coordinates lie.
    """

    names: tuple[str, ...]
    together: bool
    reach: float


def flat_directions(record: RunRecord, at: Coordinates) -> Flat | None:
    """The coordinates, else the one combination of them, along which the density does not fall."""
    if not record.keeps_all:
        return None
    scale = at.draws.std((0, 1))
    moving = np.isfinite(scale) & (scale > 0)
    if not moving.any():
        return None
    draws = at.draws[:, :, moving] / scale[moving]
    names = [name for name, moves in zip(at.names, moving, strict=True) if moves]
    seen, forces = _look(record, at.places[moving])
    if len(forces) < _FEWEST:
        return None
    seen, forces = seen / scale[moving], forces * scale[moving]
    far = np.abs(at.draws - np.median(at.draws, axis=(0, 1))).max((0, 1))[moving]

    suspects = np.flatnonzero(split_rhat(draws) > _SUSPECT_RHAT)
    flat = [i for i in suspects if _is_flat(seen[:, i], forces[:, i])]
    if flat:
        return Flat(tuple(names[i] for i in flat), False, float(far[flat].max()))
    if len(suspects) < 2 or len(forces) < 2 * forces.shape[1]:
        return None
    # The least force of all: flat directions that no axis shows, a - b when only a + b matters.
    direction = np.linalg.eigh(forces.T @ forces)[1][:, 0]
    along = split_rhat(draws @ direction)
    if along > _SUSPECT_RHAT and _is_flat(seen @ direction, forces @ direction):
        size = np.abs(direction)
        parts = np.flatnonzero(size > _PART * size.max())
        return Flat(tuple(names[i] for i in parts), True, float(far[parts].max()))
    return None


def _look(record: RunRecord, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws of these coordinates and the forces at them [draw, coordinate]."""
    target = record.target
    number = record.num_chains * record.num_draws
    # In float64, as float32 does not resolve the number of a late draw.
    chosen = torch.linspace(0, number - 1, min(number, _LOOKS), dtype=torch.float64).long()
    chain, draw = (part.to(record.positions.device) for part in _divided(chosen, record.num_draws))
    positions = target.complete(record.positions[chain, draw], record.coordinates)
    _, gradient = target.log_density_and_gradient(positions.T.contiguous())
    finite = as_array(gradient.isfinite().all(0))
    stored = np.arange(target.dim) if record.coordinates is None else as_array(record.coordinates)
    columns = stored[places]
    return (
        as_array(positions)[finite][:, columns].astype(float),
        as_array(gradient.T)[finite][:, columns].astype(float),
    )


def _divided(number: torch.Tensor, by: int) -> tuple[torch.Tensor, torch.Tensor]:
    return number.div(by, rounding_mode="floor"), number % by


def _is_flat(place: np.ndarray, force: np.ndarray) -> bool:
    """Whether the draws that are farthest from the median feel no force, or rounding errors."""
    centred = place - np.median(place)
    # The side that reaches farther: the other may end at a wall, or not have come to its own.
    outward = 1.0 if centred.max() > -centred.min() else -1.0
    distance = outward * centred
    far = distance >= np.quantile(distance, 1 - _FARTHEST)
    inward = float((outward * force[far] < 0).mean())
    # Not the median: a wall is felt by the few draws that have just reached it.
    work = float(np.quantile(np.abs(force[far]) * distance[far], 0.9))
    return work < _NO_FORCE and inward < _INWARD
