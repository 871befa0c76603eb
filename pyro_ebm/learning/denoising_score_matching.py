"""Denoising score matching: the score learns to point from a noisy row to the row itself.

    J = 1/2 E |dE/dx(x + s z) - z/s|^2 s^2,   z standard normal,

whose minimum is the energy of the *noisy* data: for a Gaussian the precision (Sigma + s^2 1)^-1.
Biased by the noise, smooth, and one backward pass whatever the dimension. The factor s^2 keeps
losses at different noise of one size.

Source: Vincent (2011), A connection between score matching and denoising autoencoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.energies import Energy

from .objective import Bound, Judged, Objective, check_real
from .score_matching import energy_and_gradient


@dataclass(frozen=True)
class DenoisingScoreMatching(Objective):
    """Learns the energy of the data with Gaussian noise added.

    :param noise_scale: s, the standard deviation of the noise in units of the data, a number or a
        tensor that broadcasts to a configuration.
    """

    noise_scale: float | Tensor

    def __post_init__(self) -> None:
        scale = torch.as_tensor(self.noise_scale)
        if scale.is_complex() or not bool((scale > 0).all() and scale.isfinite().all()):
            raise ValueError(f"noise_scale must be positive, got {self.noise_scale}.")

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy of all real numbers.

        :raises ValueError: another support, or noise of another shape.
        """
        check_real(energy, "denoising score matching")
        return _Bound(energy, torch.as_tensor(self.noise_scale))


class _Bound(Bound):
    def __init__(self, energy: Energy, noise_scale: Tensor) -> None:
        super().__init__(energy)
        try:
            torch.broadcast_to(noise_scale, energy.event_shape)
        except RuntimeError as error:
            raise ValueError(
                f"expected a noise_scale that broadcasts to the event shape "
                f"{tuple(energy.event_shape)}, got {tuple(noise_scale.shape)}."
            ) from error
        self.noise_scale = noise_scale

    def judge(self, batch: Tensor, state: Any, generator: torch.Generator) -> Judged:
        kind = {"generator": generator, "dtype": batch.dtype, "device": batch.device}
        noise = torch.randn(batch.shape, **kind)
        scale = self.noise_scale.to(batch)
        energy, _, gradient = energy_and_gradient(self.energy, batch + scale * noise)
        off = (gradient * scale - noise).reshape(len(batch), -1)
        return Judged(0.5 * off.square().sum(-1).mean(), None, energy)

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float:
        return float(self.judge(rows, state, generator).loss.detach())
