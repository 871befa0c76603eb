"""Shapes by arithmetic alone.

``torch.broadcast_shapes`` imports an algebra system when it is first called, which takes a third of
a short run; the transforms of torch call it for a shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch.distributions import AffineTransform, ComposeTransform, Transform
from torch.distributions.transforms import IndependentTransform


def joint_shape(*shapes: Sequence[int]) -> torch.Size:
    """The shape that shapes broadcast to.

    :raises RuntimeError: they do not, as torch says it.
    """
    if torch._C._is_tracing():
        return torch.broadcast_shapes(*shapes)  # sizes are tensors then
    sizes: list[int] = []
    for column in zip_longest(*(reversed(tuple(shape)) for shape in shapes), fillvalue=1):
        others = {size for size in column if size != 1}
        if len(others) > 1:
            listed = ", ".join(str(tuple(shape)) for shape in shapes)
            raise RuntimeError(f"The shapes {listed} cannot be broadcast to a single shape.")
        sizes.append(others.pop() if others else 1)
    return torch.Size(reversed(sizes))


def unconstrained_shape(transform: Transform, shape: Sequence[int]) -> torch.Size:
    """The shape that a transform takes to this one."""
    if isinstance(transform, ComposeTransform):
        for part in reversed(transform.parts):
            shape = unconstrained_shape(part, shape)
        return torch.Size(shape)
    if isinstance(transform, IndependentTransform):
        return unconstrained_shape(transform.base_transform, shape)
    if isinstance(transform, AffineTransform):
        shifts = (getattr(part, "shape", ()) for part in (transform.loc, transform.scale))
        return joint_shape(shape, *shifts)
    found: Any = transform.inverse_shape(shape)
    return torch.Size(found)
