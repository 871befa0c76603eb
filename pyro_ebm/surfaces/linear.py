"""Energies that are linear in their params: E(x; theta) = E_0(x) + sum_k theta_k s_k(x).

The statistics (E_0, s_1, ..., s_d) follow from values of the energy at d + 1 points. Whether they
tell the energy everywhere is looked at on every configuration that matters: on all of a list, on
all draws of a pool.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_ebm.energies import Energy, evaluate

# Between single and double precision: how near two ways to compute one energy should be.
_SINGLE, _DOUBLE = 1e-4, 1e-8
# Levels are told apart to so many digits of the largest.
_DIGITS = 1e-9


class LinearEnergy(NamedTuple):
    """An energy, read as linear between the params ``low`` [d] and ``high`` [d]."""

    energy: Energy
    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]

    def statistics(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
        """E_0 and the s_k of configurations, in float64."""
        low = self.low.to(x.device)
        at_low = self.at(x, low)
        slopes = []
        for axis, (first, last) in enumerate(zip(self.low, self.high, strict=True)):
            corner = low.clone()
            corner[axis] = last
            slopes.append((self.at(x, corner) - at_low) / float(last - first))
        slope = torch.stack(slopes, -1) if slopes else at_low.new_zeros(len(x), 0)
        return torch.cat([(at_low - slope @ low)[:, None], slope], 1)

    def at(self, x: Tensor, params: Tensor) -> Tensor:
        """E at params [d], or [n, d], in float64."""
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return evaluate(self.energy, x, [*params.to(x.device, dtype).unbind(-1)]).double()

    def holds(self, x: Tensor, statistics: Tensor, params: Tensor) -> Bool[Tensor, " n"]:
        """Whether the energy of configurations at params [d] is what their statistics say."""
        right = statistics[:, 0] + statistics[:, 1:] @ params.double().to(statistics.device)
        seen = self.at(x, params)
        size = 1 + (statistics[:, 1:] * params.to(statistics)).abs().sum(1) + seen.abs()
        off = _SINGLE if x.dtype != torch.float64 else _DOUBLE
        return (seen - right).abs() <= off * size


def levels_among(
    rows: Float[Tensor, "n k"],
) -> tuple[Float[Tensor, "levels k"], Int[Tensor, " n"]]:
    """Rows that differ, and which of them each row is."""
    scale = rows.abs().amax(0).clamp(min=1.0) * _DIGITS
    keys, which = (rows / scale).round().unique(dim=0, return_inverse=True)
    return rows.new_zeros(keys.shape).index_copy_(0, which, rows), which


def log_z_of_levels(
    statistics: Float[Tensor, "levels k"],
    log_counts: Float[Tensor, "*way levels"],
    params: list[Tensor],
    temperature: Tensor,
) -> Float[Tensor, "*ways_and_batch"]:
    """log of the sum of counts times exp(-E/T) over levels [*way, *batch], in float64."""
    device = (params or [temperature])[0].device
    levels = statistics.to(device)
    energy = levels[:, 0]
    for param, column in zip(params, levels.unbind(1)[1:], strict=True):
        energy = energy + param.double().unsqueeze(-1) * column
    exponent = -energy / temperature.double().unsqueeze(-1)
    counts = log_counts.to(device)
    if counts.dim() == 1:
        return (counts + exponent).logsumexp(-1)
    return torch.stack([(way + exponent).logsumexp(-1) for way in counts])
