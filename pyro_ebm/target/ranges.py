"""Whether a transformed distribution lives where it says.

Its support is taken from its last transform alone: exp followed by a shift says "real" and reaches
only what lies beyond the shift. A sampler that believes it meets NaN, or densities that are none.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import TransformedDistribution, constraints

from pyro_ebm.normalizers import like_of
from pyro_ebm.shapes import unconstrained_shape

from .layout import bijection

# Unconstrained values to look at: where chains start, and on the real line far beyond.
_NEAR = (-2.0, -0.5, 0.5, 2.0)
_FAR = (-1000.0, -100.0, -10.0, 10.0, 100.0, 1000.0)
# Distributions that are more than their transforms know where they live.
_COMPOSED = (dist.TransformedDistribution, TransformedDistribution)


def check_range(name: str, fn: Any) -> None:
    """Refuse a latent site whose support is wider than the range of its transforms.

    :raises ValueError: a value in the support that the transforms do not reach.
    """
    inner = _unwrapped(fn)
    if type(inner) not in _COMPOSED:
        return
    transform = bijection(fn.support, name)
    shape = unconstrained_shape(transform, fn.shape())
    elementwise = all(each.domain.event_dim == 0 for each in inner.transforms)
    real = _elementwise(fn.support) is constraints.real
    probes = like_of(fn).new_tensor(_NEAR + _FAR if real and elementwise else _NEAR)
    value: Any = transform(probes.reshape(-1, *[1] * len(shape)).expand(-1, *shape))
    if not bool(_reached(inner, value).all()):
        raise ValueError(
            f"Site '{name}' declares the support {fn.support}, but its transforms do not reach all "
            "of it: torch takes the support of a TransformedDistribution from the last transform "
            "alone. Sample the base and transform it in the model (pyro.deterministic names the "
            "result), give the kernel transforms= with the map of this site from its true support, "
            "or condition on it."
        )


def _reached(fn: TransformedDistribution, value: Tensor) -> Tensor:
    """Where the inverse of all transforms is a number that lies within the base's support."""
    for transform in reversed(fn.transforms):
        value = torch.as_tensor(transform.inv(value))
    base = _unwrapped(fn.base_dist)
    if type(base) in _COMPOSED:
        return _reached(base, value)
    support = _elementwise(base.support)
    # Rounding may put a value on a border.
    lower = getattr(support, "lower_bound", -torch.inf)
    upper = getattr(support, "upper_bound", torch.inf)
    return ~value.isnan() & (value >= lower) & (value <= upper)


def _elementwise(support: Any) -> Any:
    """The constraint behind reinterpreted dimensions."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _unwrapped(fn: Any) -> Any:
    """The distribution behind masks, plates and reinterpreted dimensions."""
    while hasattr(fn, "base_dist") and not isinstance(fn, TransformedDistribution):
        fn = fn.base_dist
    return fn
