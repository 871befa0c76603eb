"""Mean and factor of a Gaussian that is given as a distribution."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal


def gaussian_parts(distribution: Any) -> tuple[Tensor, Tensor]:
    """Mean [N], and standard deviations [N] or a Cholesky factor [N, N], of a Gaussian over [N].

    Raises:
        TypeError: another distribution.
        ValueError: a Gaussian over events of another kind than [N].
    """
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if not isinstance(base, Normal | MultivariateNormal):
        raise TypeError(
            "expected a Gaussian, Normal(...).expand([N]).to_event(1) or MultivariateNormal(...), "
            f"for elliptical slice sampling, got {type(base).__name__}."
        )
    if len(distribution.event_shape) != 1 or distribution.batch_shape:
        raise ValueError(
            f"expected a Gaussian over vectors [N], got event shape "
            f"{tuple(distribution.event_shape)} and batch shape {tuple(distribution.batch_shape)}."
        )
    if isinstance(base, Normal):
        return distribution.mean, distribution.stddev
    return base.loc, base.scale_tril
