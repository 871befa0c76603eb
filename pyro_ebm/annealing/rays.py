"""Whether a density can be normalised at all, as far as its growth along rays can tell.

Along a random ray x = x0 + r a the mass in a shell is about exp(log density) r^dim: where that does
not fall for large r, the integral has no end. Student-t tails fall; a flat energy, one that falls
with |x|, and 1/|x| in one dimension do not. Each coordinate's own axis is tried too, where the
density itself has to fall faster than 1/r. What grows along a curve, or in a corner that no ray
meets, is not seen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.target import Target

_NUM_RAYS = 64
_MOST_AXES = 128
_FROM, _TO, _POINTS = 1.0, 6.0, 26
_SPACING = math.log(10.0) * (_TO - _FROM) / (_POINTS - 1)
# The mass of a shell must fall at least as r^-this.
_LEAST_FALL = 0.05


def grows_along_rays(target: Target, generator: torch.Generator) -> str | None:
    """A sentence that says how a density fails to fall, None when it falls along every ray."""
    dim = target.dim
    kind = {"generator": generator, "dtype": target.dtype, "device": target.device}
    start = torch.randn(dim, 1, **kind)
    random = torch.randn(dim, _NUM_RAYS, **kind)
    random = random / random.square().sum(0).sqrt()
    eye = torch.eye(dim, dtype=target.dtype, device=target.device)[:, :_MOST_AXES]
    axes = torch.cat([eye, -eye], dim=1)
    if _never_falls(target, start, random, dim):
        return (
            "it seems that the energy cannot be normalised: along random rays, out to |x| = 10^6 "
            "in unconstrained coordinates, exp(-E) does not fall fast enough for its integral to "
            "be finite. Add a confining term, a base (Tilted), proper priors or a bounded support"
        )
    if dim > 1 and _never_falls(target, start, axes, 1):
        return (
            "it seems that the energy cannot be normalised: along a coordinate's own axis, out to "
            "10^6 in unconstrained coordinates, exp(-E) does not fall fast enough for its "
            "integral to be finite. Add a confining term, a base (Tilted), proper priors or a "
            "bounded support"
        )
    return None


def _never_falls(target: Target, start: Tensor, directions: Tensor, growth: int) -> bool:
    """Whether along some ray log density + growth log r does not fall any more, far out.

    A ray is followed for as long as a float can tell its configurations from one another: beyond,
    a bounded support has been left behind, and exp(r) is infinite.
    """
    radii = torch.logspace(_FROM, _TO, _POINTS, dtype=torch.float64, device=start.device)
    rays = directions.shape[1]
    before: Tensor | None = None
    last = start.new_full((rays,), torch.nan, dtype=torch.float64)
    fall = torch.full_like(last, torch.inf)
    going = torch.ones(rays, dtype=torch.bool, device=start.device)
    for radius in radii:
        positions = start + radius.to(start) * directions
        height = _value(target, positions).double() + growth * radius.log()
        configuration = _configurations(target, positions)
        # Infinite densities that nothing led up to are overflows of the model's own arithmetic.
        overflow = (height == torch.inf) & (last < 0.0)
        going = going & configuration.isfinite().all(1) & ~height.isnan() & ~overflow
        if before is not None:
            going = going & (configuration != before).any(1)
        rate = torch.where(height == torch.inf, -torch.inf, last - height) / _SPACING
        fall = torch.where(going & ~last.isnan(), rate.nan_to_num(torch.inf), fall)
        last = torch.where(going, height, last)
        before = configuration
    return bool((fall < _LEAST_FALL).any())


def _configurations(target: Target, positions: Tensor) -> Tensor:
    """The values of all sites [n, numbers] at positions [dim, n]."""
    try:
        values = target.constrain(positions.T)
    except RuntimeError as error:
        _only_of_matrices(error)
        return positions.T
    names = [site.name for site in target.sites]
    return torch.cat([values[name].reshape(len(values[name]), -1) for name in names], dim=1)


def _value(target: Target, positions: Tensor) -> Tensor:
    """Log densities so far out; what cannot be computed there, a factor of a matrix, is zero."""
    try:
        return target.log_density_and_gradient(positions)[0]
    except RuntimeError as error:
        _only_of_matrices(error)
        return positions.new_full(positions.shape[1:], -torch.inf)


def _only_of_matrices(error: RuntimeError) -> None:
    """Raise anew what is no failure of linear algebra, whose error torch does not export."""
    if "LinAlg" not in type(error).__name__:
        raise error
