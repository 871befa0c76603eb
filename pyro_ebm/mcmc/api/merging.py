"""Shards of a run as one run: chains in the order of the shards.

Chains of one shard share starts and what warm-up has learned, those of two share nothing: a
superchain never spans two shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from .joined import Joined
from .record import RunRecord
from .shard import ShardDraws

_POSITIONS = "positions"
_SUMMED = ("gradient_steps", "warmup_gradient_steps", "sampling_time")
_LEAST = ("warmup_steps", "num_samples", "auxiliary_exact", "vectorized", "complete")
_DISTRIBUTION = "distribution"
_OF_SHARDS = ("num_shards", "shard_size", "missing_shards")


def merged_record(
    target: Target, shards: Iterable[ShardDraws], num_chains: int, **fields: Any
) -> RunRecord:
    """The record of all shards together; of none a record without draws.

    :param shards: they are looked at once, one after another.
    :param num_chains: of all of them.
    :param fields: those of the record that are not draws.
    """
    joined, ids = Joined(num_chains, fields.get("folder")), []
    for shard in shards:
        ids.append(shard.superchains)
        joined.add("draws", _named(shard.positions))
        joined.add("statistics", shard.statistics)
        joined.add("stored", shard.stored)
        joined.add("warmup", _named(shard.warmup_positions))
        joined.add("warmup_statistics", shard.warmup_statistics)
        joined.add("warmup_stored", shard.warmup_stored)
    found = joined.groups()
    if "draws" not in found:
        nothing = torch.zeros(0, 0, target.dim, dtype=target.dtype, device=target.device)
        return RunRecord(target, nothing, {}, **fields)
    chains = merged_superchains(ids)
    record = RunRecord(
        target,
        _positions(found["draws"], target),
        _tensors(found["statistics"]),
        superchain_ids=None if chains is None else torch.from_numpy(chains),
        stored=found.get("stored", {}),
        **fields,
    )
    if "warmup" not in found:
        return record
    return record._replace(
        warmup_positions=_positions(found["warmup"], target),
        warmup_statistics=_tensors(found["warmup_statistics"]),
        warmup_stored=found.get("warmup_stored", {}),
    )


def merged_superchains(ids: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Which chains share a start, numbered through; None where none do."""
    known = [part for part in ids if part is not None]
    if not known or len(known) < len(ids):
        return None
    offset, found = 0, []
    for part in known:
        found.append(part + offset)
        offset = int(found[-1].max()) + 1
    return np.concatenate(found)


def merged_attributes(
    parts: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The attributes of shards, or of runs, as those of one run.

    What adds up is a sum, of what is worse when it is smaller the least counts, and of auxiliary
    data those that are farthest off. Else what is true of all is said once, and what differs is a
    list.

    :param about: the attributes of the run as a whole.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part.get(name) for part in parts]
        known = [value for value in values if value is not None]
        if name in _SUMMED:
            found[name] = sum(known)
        elif name in _LEAST and known:
            found[name] = min(known)
        elif name == _DISTRIBUTION:
            # The same but for roundings, as parts of one run, or of runs that were compared.
            found[name] = known[0]
        elif name not in _OF_SHARDS:
            found[name] = values[0] if all(value == values[0] for value in values) else values
    return {**found, **_auxiliary(parts), **_shards(parts), **about}


def _auxiliary(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Where auxiliary data are not exact, those by which a mean is farthest off."""
    inexact = [part for part in parts if part.get("auxiliary_exact") == 0]
    if not inexact:
        return {}
    worst = max(inexact, key=_surely_off)
    return {name: value for name, value in worst.items() if name.startswith("auxiliary_")}


def _surely_off(part: Mapping[str, Any]) -> float:
    return abs(part["auxiliary_shift"]) - 2 * part["auxiliary_shift_error"]


def _shards(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many shards runs have together, and how many of them did not end."""
    found = {}
    if all("num_shards" in part for part in parts):
        found["num_shards"] = sum(part["num_shards"] for part in parts)
    missing = sum(number_of(part.get("missing_shards", 0)) for part in parts)
    return {**found, **({"missing_shards": missing} if missing else {})}


def number_of(missing_shards: int | Sequence[int]) -> int:
    """How many shards did not end: of one run their numbers are known."""
    return missing_shards if isinstance(missing_shards, int) else len(missing_shards)


def _named(positions: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if positions is None else {_POSITIONS: positions}


def _positions(group: Mapping[str, np.ndarray], target: Target) -> Tensor:
    return torch.from_numpy(group[_POSITIONS]).to(target.device)


def _tensors(group: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in group.items()}
