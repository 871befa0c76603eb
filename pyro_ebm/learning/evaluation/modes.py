"""Coverage of modes: which of the known modes are there, and in what shares?

A sample belongs to the mode that is nearest in units of the mode's radius, and is of high quality
where it lies within that radius. Samples of one mode alone look perfect to a measure of quality;
the shares of the modes show what is missing.

Source: Metz, Poole, Pfau, Sohl-Dickstein (2017), Unrolled generative adversarial networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .rows import Rows, check_count, flat_alike


class ModeCoverage(NamedTuple):
    """How samples are spread over K modes.

    ``counts`` [K] are the samples within the radius of each mode, ``shares`` [K] the counts over
    their sum, ``missing`` the modes with too few of them; ``high_quality`` is the share of all
    samples within some radius. ``kl`` = sum_k shares_k log(shares_k / weights_k), in nats: exact
    draws of modes that do not overlap give about (K - 1) / (2 n) for n samples.
    """

    counts: Int[Tensor, " modes"]
    shares: Float[Tensor, " modes"]
    missing: tuple[int, ...]
    high_quality: float
    kl: float

    def __repr__(self) -> str:
        modes = len(self.counts)
        return (
            f"{modes - len(self.missing)} of {modes} modes, high quality {self.high_quality:.3f}, "
            f"KL {self.kl:.4f}"
        )


def mode_coverage(
    samples: Rows,
    modes: Rows,
    *,
    radius: float | Sequence[float] | Rows,
    weights: Sequence[float] | Rows | None = None,
    min_samples: int = 1,
    chunk_size: int = 4096,
) -> ModeCoverage:
    """Count samples by mode.

    :param samples: rows [n, *event].
    :param modes: the modes [K, *event].
    :param radius: within what distance of a mode a sample is of high quality, one for all or [K]:
        of a Gaussian mode in two dimensions three standard deviations hold 98.9 % of it.
    :param weights: the shares that the modes should have, [K], up to a constant; equal unless
        given.
    :param min_samples: with fewer samples within its radius a mode is missing.
    :param chunk_size: how many samples are compared at once.
    :raises TypeError: no rows of real numbers.
    :raises ValueError: rows of different shapes; a radius or weights that are not positive, or not
        as many as modes.
    """
    check_count("min_samples", min_samples, least=1)
    check_count("chunk_size", chunk_size, least=1)
    x, centres = flat_alike(samples=samples, modes=modes)
    number = len(centres)
    reach = _each("radius", radius, number).to(x.device)
    expected = _each("weights", 1.0 if weights is None else weights, number).to(x.device)
    expected = expected / expected.sum()
    counts = torch.zeros(number, dtype=torch.long, device=x.device)
    for part in x.split(chunk_size):
        apart = torch.cdist(part, centres, compute_mode="donot_use_mm_for_euclid_dist") / reach
        nearest, mode = apart.min(1)
        counts += torch.bincount(mode[nearest <= 1.0], minlength=number)
    inside = int(counts.sum())
    shares = counts.double() / max(inside, 1)
    kl = float(torch.special.xlogy(shares, shares / expected).sum()) if inside else math.inf
    missing = tuple((counts < min_samples).nonzero()[:, 0].tolist())
    return ModeCoverage(counts, shares, missing, inside / len(x), kl)


def _each(name: str, given: object, number: int) -> Float[Tensor, " modes"]:
    """A positive number for each mode."""
    values = torch.as_tensor(given, dtype=torch.float64).detach()
    if values.dim() > 1 or (values.dim() == 1 and len(values) != number):
        raise ValueError(
            f"expected {name} to be a number or one for each of {number} modes, got shape "
            f"{tuple(values.shape)}."
        )
    if not bool(((values > 0) & values.isfinite()).all()):
        raise ValueError(f"expected {name} to be positive and finite, got {given}.")
    return values.expand(number)
