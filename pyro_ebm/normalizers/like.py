"""The dtype and device of a site's values, read off what its distribution is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, constraints

_MADE_OF_PARTS = (Distribution, Transform, constraints.Constraint, nn.Module)


def like_of(thing: object) -> Tensor:
    """An empty tensor of the dtype and device that draws from a distribution have.

    All its floating parameters count, however deeply it wraps them: the dtype is the one that they
    promote to, the device the first that is not the CPU. Without any it is torch's default.

    Args:
        thing: a distribution, an energy, a constraint or a transform.
    """
    parts = list(_floating(thing, set()))
    if not parts:
        return torch.empty(())
    dtype, device = parts[0].dtype, parts[0].device
    for part in parts:
        dtype = torch.promote_types(dtype, part.dtype)
        device = part.device if device.type == "cpu" else device
    return torch.empty((), dtype=dtype, device=device)


def _floating(part: object, seen: set[int]) -> Iterator[Tensor]:
    """The floating tensors that something is made of."""
    if isinstance(part, Tensor):
        if part.dtype.is_floating_point:
            yield part
        return
    if id(part) in seen:
        return
    seen.add(id(part))
    own = getattr(part, "like", None) if isinstance(part, Distribution) else None
    if isinstance(own, Tensor):
        yield own
        return
    if isinstance(part, _MADE_OF_PARTS):
        part = vars(part)
    if isinstance(part, Mapping):
        part = tuple(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from _floating(inner, seen)
