"""Whether a density can be normalised at all, as far as its growth along rays can tell.

Along a random ray x = x0 + r a the mass in a shell is about exp(log density) r^dim: where that does
not fall for large r, the integral has no end. Student-t tails fall; a flat energy, one that falls
with |x|, and 1/|x| in one dimension do not. Each coordinate's own axis is tried too, where the
density itself has to fall faster than 1/r. What grows along a curve, or in a corner that no ray
meets, is not seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_ebm.target import Target

_NUM_RAYS = 64
_MOST_AXES = 128
_FROM, _TO, _POINTS = 2.0, 6.0, 5
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
            "the energy cannot be normalised: along random rays, out to |x| = 10^6 in "
            "unconstrained coordinates, exp(-E) does not fall fast enough for its integral to be "
            "finite. Add a confining term, a base (Tilted), proper priors or a bounded support"
        )
    if dim > 1 and _never_falls(target, start, axes, 1):
        return (
            "the energy cannot be normalised: along a coordinate's own axis, out to 10^6 in "
            "unconstrained coordinates, exp(-E) does not fall fast enough for its integral to be "
            "finite. Add a confining term, a base (Tilted), proper priors or a bounded support"
        )
    return None


def _never_falls(target: Target, start: Tensor, directions: Tensor, growth: int) -> bool:
    """Whether along some ray log density + growth log r does not fall over the last decades."""
    radii = torch.logspace(_FROM, _TO, _POINTS, dtype=torch.float64, device=start.device)
    heights = []
    for radius in radii:
        positions = start + radius.to(start) * directions
        value, _ = target.log_density_and_gradient(positions)
        heights.append(value.double() + growth * radius.log())
    height = torch.stack(heights)
    fall = height[:-1] - height[1:]
    # What a float no longer holds is zero, infinite, or a difference of infinities.
    fall = torch.where(height[1:].isfinite(), fall, torch.inf)
    fall = torch.where(height[1:] == torch.inf, -torch.inf, fall)
    least = _LEAST_FALL * (radii[1] / radii[0]).log()
    return bool((fall[-2:] < least).all(0).any())
