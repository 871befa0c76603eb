"""The verdict on a run of which there is ArviZ data and no model.

The figures are those of :mod:`.diagnosis`; what needs the density, whether it falls in all
directions, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from pyro_ebm.inference_data import datasets_of, parsed_attributes
from pyro_ebm.target import Target

from ..draws import STATISTICS
from .diagnosis import diagnose
from .record import RunRecord

_PASSED = {"acceptance_rate": 1.0}


class _Site(NamedTuple):
    name: str
    unconstrained_shape: tuple[int, ...]


class _Described(NamedTuple):
    """What of a target the figures look at."""

    sites: tuple[_Site, ...]
    dim: int
    continuous_dim: int
    program: None = None
    described: None = None


def diagnose_data(data: Any) -> str:
    """What is wrong with the run that the data hold, in sentences, or that all is well.

    Of data by another package, what it kept of the transitions is what there is to judge.

    :param data: what ``to_arviz()`` or ``from_store()`` gives, of MCMC.
    :raises ValueError: the data hold no draws.
    """
    return diagnose(_record(datasets_of(data)))


def _record(groups: Mapping[str, Any]) -> RunRecord:
    if "posterior" not in groups:
        raise ValueError(f"expected draws in a group 'posterior', got {', '.join(groups)}.")
    values = _coordinates(groups)
    first = next(iter(values.values()))
    shape = first.shape[:2]
    # States of whole numbers come last, as in a target.
    ordered = dict(sorted(values.items(), key=lambda item: item[1].dtype.kind != "f"))
    sites = tuple(_Site(name, value.shape[2:]) for name, value in ordered.items())
    continuous = sum(math.prod(v.shape[2:]) for v in ordered.values() if v.dtype.kind == "f")
    flat = [value.reshape(*shape, -1).astype(float) for value in ordered.values()]
    positions = torch.from_numpy(np.concatenate(flat, -1))
    stats = {} if "sample_stats" not in groups else _arrays(groups["sample_stats"])
    discrete = bool(stats) and "energy" not in stats and "n_steps" in stats
    attrs = parsed_attributes(groups["posterior"].attrs)
    ids = stats.get("superchain")
    described = _Described(sites, positions.shape[2], 0 if discrete else continuous)
    return RunRecord(
        cast(Target, described),
        positions,
        {name: _statistic(name, stats, shape) for name in STATISTICS},
        superchain_ids=None if ids is None else torch.from_numpy(ids[:, 0].astype(np.int64)),
        attrs=attrs,
        max_tree_depth=int(stats["tree_depth"].max()) if "tree_depth" in stats else 10,
        complete=bool(attrs.get("complete", True)),
        thinning=int(attrs.get("thinning", 1)),
    )


def _coordinates(groups: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Where the figures are taken: unconstrained, as far as they are there."""
    free = (
        {}
        if "unconstrained_posterior" not in groups
        else _arrays(groups["unconstrained_posterior"])
    )
    drawn = _arrays(groups["posterior"])
    if not free:
        return drawn
    return free | {n: v for n, v in drawn.items() if n not in free and v.dtype.kind in "iu"}


def _arrays(dataset: Any) -> dict[str, np.ndarray]:
    """Numbers [chain, draw, ...] by variable."""
    found = {}
    for name, variable in dataset.data_vars.items():
        if {"chain", "draw"} <= set(variable.dims) and variable.dtype.kind in "biuf":
            found[str(name)] = np.asarray(variable.transpose("chain", "draw", ...))
    return found


def _statistic(name: str, stats: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> torch.Tensor:
    if name in stats:
        return torch.from_numpy(np.array(stats[name], dtype=float))
    missing = float("nan") if name == "energy" else _PASSED.get(name, 0.0)
    return torch.full(shape, missing, dtype=torch.float64)
