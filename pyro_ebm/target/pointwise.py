"""The log likelihood of single observations where discrete sites were summed out.

An observation that depends on a discrete site of its own plates (a mixture) has the likelihood
sum_z p(z) p(y | z), element by element. Where states are shared between observations (a chain of
states, a state outside of the plate) no such term exists for a single one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from .layout import origin, split, vectorised_plates
from .program import NO_SIDE, ModelProgram


def pointwise_log_likelihood(
    program: ModelProgram,
    *,
    log_prior: Mapping[str, Tensor],
    log_likelihood: Mapping[str, Tensor],
    num_batch_axes: int,
) -> dict[str, Tensor]:
    """Per observed site its log likelihood [*batch, *plates]; sites without one are left out.

    :param log_prior: terms of :meth:`Target.evaluate`, [*batch, ...] with enumerated axes in place.
    :param log_likelihood: likewise.
    :param num_batch_axes: the leading axes that the positions had.
    """
    if not program.marginalised:
        return dict(log_likelihood)
    _, trace = program.execute(split(program.sites, origin(program.sites)), NO_SIDE)
    trace.symbolize_dims()
    nodes = cast(Mapping[str, Any], trace.nodes)
    factors = {**log_prior, **log_likelihood}
    plates = {name: vectorised_plates(nodes[name]["cond_indep_stack"]) for name in factors}
    symbols: dict[str, dict[str, int]] = {}
    for name, factor in factors.items():
        names = nodes[name]["infer"]["_dim_to_symbol"]
        depth = factor.dim() - num_batch_axes
        plate_dims = {plate.dim for plate in plates[name]}
        symbols[name] = {
            names[dim]: dim
            for dim in range(-depth, 0)
            if factor.shape[dim] > 1 and dim not in plate_dims
        }
    found = {}
    for name, factor in log_likelihood.items():
        touching = _component(name, symbols)
        dims = {symbol: dim for other in touching for symbol, dim in symbols[other].items()}
        own = touching - {name} <= set(program.marginalised)
        alike = all(plates[other] == plates[name] for other in touching)
        if own and alike and len(set(dims.values())) == len(dims):
            found[name] = _summed(
                [factors[other] for other in sorted(touching)], tuple(dims.values()), num_batch_axes
            )
            found[name] = _trimmed(found[name], factor.shape[:num_batch_axes], plates[name])
    return found


def _component(name: str, symbols: Mapping[str, Mapping[str, int]]) -> set[str]:
    """The sites whose factors share enumerated axes with this one, directly or by others."""
    touching, seen = {name}, set(symbols[name])
    while True:
        more = {other for other, own in symbols.items() if seen & set(own)} - touching
        if not more:
            return touching
        touching |= more
        seen |= {symbol for other in more for symbol in symbols[other]}


def _summed(factors: list[Tensor], dims: tuple[int, ...], num_batch_axes: int) -> Tensor:
    depth = max(factor.dim() - num_batch_axes for factor in factors)
    total = torch.zeros(())
    for factor in factors:
        batch, rest = factor.shape[:num_batch_axes], factor.shape[num_batch_axes:]
        total = total + factor.reshape(*batch, *[1] * (depth - len(rest)), *rest)
    return total.logsumexp(dims, keepdim=True) if dims else total


def _trimmed(total: Tensor, batch: torch.Size, plates: tuple) -> Tensor:
    depth = max((-plate.dim for plate in plates), default=0)
    sizes = [1] * depth
    for plate in plates:
        sizes[plate.dim] = plate.size
    tail = total.reshape(*batch, -1)
    if tail.shape[-1] == 1:
        return tail.reshape(*batch, *[1] * depth).expand(*batch, *sizes)
    return total.reshape(*batch, *total.shape[total.dim() - depth :]).expand(*batch, *sizes)
