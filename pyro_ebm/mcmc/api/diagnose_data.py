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
    attrs = parsed_attributes(groups["posterior"].attrs)
    values, states = _coordinates(groups, attrs)
    first = next(iter(values.values()))
    shape = first.shape[:2]
    # States come last, as in a target.
    ordered = dict(sorted(values.items(), key=lambda item: item[0] in states))
    sites = tuple(_Site(name, value.shape[2:]) for name, value in ordered.items())
    continuous = sum(math.prod(v.shape[2:]) for n, v in ordered.items() if n not in states)
    flat = [value.reshape(*shape, -1).astype(float) for value in ordered.values()]
    positions = torch.from_numpy(np.concatenate(flat, -1))
    stats = numeric_draws(groups.get("sample_stats"))
    discrete = bool(stats) and "energy" not in stats and "n_steps" in stats
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


def _coordinates(
    groups: Mapping[str, Any], attrs: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], set[str]]:
    """Where the figures are taken, unconstrained as far as they are there; and which are states."""
    free = numeric_draws(groups.get("unconstrained_posterior"))
    drawn = numeric_draws(groups["posterior"])
    states = _states(drawn, attrs) - free.keys()
    if not free and "sampled_sites" not in attrs:
        return drawn, states
    return free | {n: v for n, v in drawn.items() if n in states} or drawn, states


def _states(drawn: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> set[str]:
    """The discrete sites that were sampled; where data do not name them, all whole numbers."""
    named = attrs.get("sampled_sites")
    if not isinstance(named, list):
        return {name for name, value in drawn.items() if value.dtype.kind in "iu"}
    renamed = attrs.get("renamed_variables", {})
    return {renamed.get(name, name) for name in named} & drawn.keys()


def numeric_draws(dataset: Any) -> dict[str, np.ndarray]:
    """The variables of a group that are numbers with chains and draws, [chain, draw, ...].

    :param dataset: None where there is no such group.
    """
    return {
        str(name): np.asarray(variable.transpose("chain", "draw", ...))
        for name, variable in ({} if dataset is None else dataset.data_vars).items()
        if {"chain", "draw"} <= set(variable.dims) and variable.dtype.kind in "biuf"
    }


def _statistic(name: str, stats: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> torch.Tensor:
    if name in stats:
        return torch.from_numpy(np.array(stats[name], dtype=float))
    missing = float("nan") if name == "energy" else _PASSED.get(name, 0.0)
    return torch.full(shape, missing, dtype=torch.float64)
