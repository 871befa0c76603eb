"""A multilayer perceptron as an energy, confined by a Gaussian.

A net alone is rarely normalisable: a bounded activation leaves the density flat at infinity, where
samplers run away. The confining term 0.5 |x/s|^2 outgrows any net whose activation grows at most
linearly, and makes exp(-E/T) integrable at every temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import constraints

from .base import Energy
from .parameters import hold, positive


class MLPEnergy(Energy):
    """net(x) + 0.5 |x/confinement|^2, with a net of linear layers.

    Args:
        event_shape: the shape of one configuration.
        hidden: the widths of the hidden layers.
        activation: makes one activation layer, such as `nn.SiLU` (smooth, as NUTS needs).
        confinement: s, positive, a number or a tensor that broadcasts to the event; None for the
            net alone, which needs a bounded support or a base (`Tilted`) to be a density.
        support: where the density lives.

    Raises:
        ValueError: a confinement that is not positive; an event without coordinates.
    """

    confinement: Tensor | None

    def __init__(
        self,
        event_shape: object,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: Callable[[], nn.Module] = nn.SiLU,
        confinement: float | Tensor | None = 3.0,
        support: object = constraints.real,
    ) -> None:
        super().__init__(event_shape, support=support)
        size = self.event_shape.numel()
        if size < 1:
            raise ValueError(f"expected at least one coordinate, got event_shape {event_shape}.")
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(size, width), activation()]
            size = width
        self.net = nn.Sequential(*layers, nn.Linear(size, 1))
        if confinement is None:
            self.register_buffer("confinement", None)
        else:
            hold(self, {"confinement": positive}, confinement=confinement)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        flat = x.flatten(1) if x.dim() > 1 else x.unsqueeze(-1)
        energy = self.net(flat).squeeze(-1)
        if self.confinement is None:
            return energy
        return energy + 0.5 * (x / self.confinement).square().reshape(flat.shape).sum(-1)
