"""Shards of a run as one run: chains in the order of the shards.

Chains of one shard share starts and what warm-up has learned, those of two share nothing: a
superchain never spans two shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from .record import RunRecord
from .shard import ShardDraws

# What adds up over shards.
_SUMMED = ("gradient_steps", "warmup_gradient_steps", "sampling_time")


def merged_record(target: Target, shards: Sequence[ShardDraws], **fields: Any) -> RunRecord:
    """The record of all shards together; of none a record without draws.

    :param fields: those of the record that are not draws.
    """
    if not shards:
        nothing = torch.zeros(0, 0, target.dim, dtype=target.dtype, device=target.device)
        return RunRecord(target, nothing, {}, **fields)
    ids = merged_superchains([shard.superchains for shard in shards])
    record = RunRecord(
        target,
        _joined([shard.positions for shard in shards]).to(target.device),
        _by_name([shard.statistics for shard in shards]),
        superchain_ids=None if ids is None else torch.from_numpy(ids),
        **fields,
    )
    stored = [shard.stored for shard in shards]
    if all(stored):
        record = record._replace(stored=_arrays_by_name(stored))
    if shards[0].warmup_positions is None:
        return record
    rows = min(len(_given(shard.warmup_positions)[0]) for shard in shards)
    before = [_given(shard.warmup_positions)[:, :rows] for shard in shards]
    seen = [
        {name: value[:, :rows] for name, value in shard.warmup_statistics.items()}
        for shard in shards
    ]
    record = record._replace(
        warmup_positions=_joined(before).to(target.device), warmup_statistics=_by_name(seen)
    )
    warm = [{n: v[:, :rows] for n, v in shard.warmup_stored.items()} for shard in shards]
    return record._replace(warmup_stored=_arrays_by_name(warm)) if all(warm) else record


def merged_superchains(ids: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Which chains share a start, numbered through; None where none do."""
    if not ids or any(part is None for part in ids):
        return None
    offset, found = 0, []
    for part in ids:
        found.append(_given(part) + offset)
        offset = int(found[-1].max()) + 1
    return np.concatenate(found)


def merged_attributes(
    shards: Mapping[int, Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """What is true of all shards once, what adds up as a sum, and what differs as a list.

    :param about: the attributes of the run as a whole.
    """
    parts = list(shards.values())
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part.get(name) for part in parts]
        if name in _SUMMED:
            found[name] = sum(value or 0 for value in values)
        else:
            found[name] = values[0] if all(value == values[0] for value in values) else values
    return {**found, **about}


def _given(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def _joined(parts: Sequence[np.ndarray | None]) -> Tensor:
    return torch.from_numpy(np.concatenate([_given(part) for part in parts]))


def _by_name(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in _arrays_by_name(parts).items()}


def _arrays_by_name(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
