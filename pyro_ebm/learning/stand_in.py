"""A loss of held-out rows for objectives that have none of their own.

Contrastive divergence follows a gradient whose loss is not known without log Z. What is known of
rows is how likely each site is given the others, for states, and how well the energy's slope leads
noise back to where it was put in, for real numbers: both are least, or near it, where the energy is
that of the data, and neither needs log Z. Learning is watched by them; it does not follow them.

Unadjusted chains learn an energy at a temperature of their own: there the loss is that at the best
temperature.

Source: Besag (1975), Statistical analysis of non-lattice data; Vincent (2011), A connection between
score matching and denoising autoencoders.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_ebm.energies import Energy

from .objective import check_real
from .pseudo_likelihood import PseudoLikelihood
from .score_matching import energy_and_gradient

# Noise in standard deviations of the rows, and rows that are looked at.
_NOISE, _ROWS = 0.2, 512


def stand_in(
    energy: Energy, rows: Tensor, generator: torch.Generator, *, any_temperature: bool
) -> float | None:
    """The loss of rows [n, *event]; None where neither is for this energy."""
    rows = rows[:_ROWS]
    try:
        return PseudoLikelihood().bind(energy).held_out(rows, None, generator)
    except ValueError:
        pass
    try:
        check_real(energy, "denoising")
    except ValueError:
        return None
    if len(rows) < 2:
        return None
    noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
    scale = _NOISE * rows.std(0).mean()
    _, _, gradient = energy_and_gradient(energy, rows + scale * noise)
    back, beta = (scale * gradient.detach()).double(), 1.0
    if any_temperature:
        beta = float((back * noise).sum() / back.square().sum().clamp(min=1e-300))
    return float(0.5 * (max(beta, 0.0) * back - noise).square().sum()) / len(rows)
