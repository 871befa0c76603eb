"""What a run drew from, in a few numbers: by them runs of other distributions are told apart.

Sites and data are hashed. What no hash sees, a constant within the model or the weights of a net,
changes the log density or the values of sites, which are taken at points that are the same for all
runs. How a distribution was sampled is not in it: chains of two kernels may be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from .identity import digest, identity

_POINTS = 8
# Roundings by which sums differ between machines.
_ROUNDINGS = 1e3
_HASHED = {"sites": "sites or their supports", "data": "data"}
_SEEN = {"log_density": "log densities", "values": "values of sites"}

Fingerprint = Mapping[str, Any]


def fingerprint(target: Target) -> dict[str, Any] | None:
    """Of the distribution of a target, in values that JSON keeps.

    None where the density raises at the points, which may lie where no chain has been.
    """
    if target.described is not target.program:
        # A transport is a way to sample.
        target = Target(target.described)
    known, points = identity(target, (), {}), _points(target)
    try:
        log_density = target.evaluate(points).log_density.double()
        sites = target.constrain(points)
    except Exception:  # a user's code raises whatever it likes
        return None
    values = [value.double().reshape(_POINTS, -1) for value in sites.values()]
    means = [value.mean(1) for value in values if value.shape[1]]
    return {
        "sites": digest([known["site"], known["deterministic site"]])[:16],
        "data": digest(known["data of site"])[:16],
        "dtype": str(target.dtype).removeprefix("torch."),
        "log_density": _plain(log_density),
        "values": _plain(torch.stack(means).sum(0)) if means else [],
    }


def another_distribution(one: Fingerprint, other: Fingerprint) -> str | None:
    """In words by what two distributions differ; None where nothing shows it."""
    for name, words in _HASHED.items():
        if one[name] != other[name]:
            return f"its {words} are others"
    epsilon = max(torch.finfo(getattr(torch, part["dtype"])).eps for part in (one, other))
    tolerance = _ROUNDINGS * epsilon
    for name, words in _SEEN.items():
        old, new = (np.array(part[name], dtype=float) for part in (one, other))
        if not np.allclose(new, old, rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"its {words} at fixed points are others"
    return None


def _points(target: Target) -> Tensor:
    """Positions [n, dim], the same on every machine and in every precision but for roundings."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(
        _POINTS, target.dim, generator=generator, dtype=torch.float64, device=generator.device
    )
    positions = 4 * numbers - 2
    if target.num_states is not None:
        positions = (target.num_states * numbers).floor()
    for site in target.sites:
        if site.states is not None:
            own = slice(site.offset, site.offset + site.size)
            positions[:, own] = (len(site.states) * numbers[:, own]).floor()
    return positions.to(target.device, target.dtype)


def _plain(numbers: Tensor) -> list[float | None]:
    return [number if np.isfinite(number) else None for number in numbers.tolist()]
