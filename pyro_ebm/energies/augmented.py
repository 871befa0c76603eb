"""An energy behind an energy: latent variables that were summed out, kept for those who sample.

The free energy F(x) = -log sum over h of exp(-E(x, h)) is what data are scored by; chains over x
and h together often move better and cost less. Whoever learns F starts them by drawing h given x,
and drops h from where they end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .base import Energy


class Augmented(NamedTuple):
    """Attributes:
    energy: E(x, h), an energy of both.
    complete: from x [n, *event] and a generator to configurations of both, h drawn given x.
    visible: from configurations of both to x.
    """

    energy: Energy
    complete: Callable[[Tensor, torch.Generator | None], Tensor]
    visible: Callable[[Tensor], Tensor]
