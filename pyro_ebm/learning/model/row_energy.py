"""The default energy of rows: a net that tilts a mixture.

    E(x) = net(x) - log base(x)

States are shown to the net one-hot; images go through convolutions. The last layer begins at zero,
so that learning begins at the base, whose log Z is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_ebm.energies import Energy

from .mixture_base import MixtureBase


class OneHot(nn.Module):
    """Rows [n, dim] with the states of discrete coordinates one-hot.

    :param num_states: [dim], 0 for a continuous coordinate.
    """

    def __init__(self, num_states: Sequence[int]) -> None:
        super().__init__()
        self.num_states = tuple(num_states)
        self.size = sum(max(1, count) for count in num_states)

    def forward(self, rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n size"]:
        """The coordinates as a net sees them."""
        if not any(self.num_states):
            return rows
        parts = [
            rows[:, i : i + 1]
            if count == 0
            else (rows[:, i : i + 1] == torch.arange(count, device=rows.device)).to(rows)
            for i, count in enumerate(self.num_states)
        ]
        return torch.cat(parts, 1)


def perceptron(num_states: Sequence[int], hidden: Sequence[int]) -> nn.Module:
    """Linear layers with SiLU from rows to one number each, [n, 1]; zero at first."""
    shown = OneHot(num_states)
    layers: list[nn.Module] = [shown]
    size = shown.size
    for width in hidden:
        layers += [nn.Linear(size, width), nn.SiLU()]
        size = width
    return nn.Sequential(*layers, _zeroed(nn.Linear(size, 1)))


def convolutions(event_shape: Sequence[int], num_states: Sequence[int], width: int) -> nn.Module:
    """Convolutions over images [h, w] or [channels, h, w] given as rows, and a linear layer over
    what they find; states of labels behind the pixels are shown to that layer.

    :param num_states: [dim] of the rows, the pixels first.
    """
    return _Convolutions(event_shape, num_states, width)


class _Convolutions(nn.Module):
    def __init__(self, event_shape: Sequence[int], num_states: Sequence[int], width: int) -> None:
        super().__init__()
        shape = tuple(event_shape)
        self.shape = shape if len(shape) == 3 else (1, *shape)
        self.pixels = self.shape[0] * self.shape[1] * self.shape[2]
        self.more = OneHot(num_states[self.pixels :])
        self.body = nn.Sequential(
            nn.Conv2d(self.shape[0], width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.body(torch.zeros(1, *self.shape)).shape[1]
        self.head = nn.Sequential(
            nn.Linear(size + self.more.size, 4 * width), nn.SiLU(), _zeroed(nn.Linear(4 * width, 1))
        )

    def forward(self, rows: Tensor) -> Tensor:
        found = self.body(rows[:, : self.pixels].reshape(-1, *self.shape))
        return self.head(torch.cat([found, self.more(rows[:, self.pixels :])], 1))


class RowEnergy(Energy):
    """net(x) - log base(x) over rows [n, dim], the states of discrete coordinates whole numbers.

    Its support is said to be the real numbers; coordinates of states are moved by
    :class:`.RowChains`, which know of them.

    :param net: from rows to [n, 1].
    :param base: the mixture that it tilts.
    """

    def __init__(self, net: nn.Module, base: MixtureBase) -> None:
        super().__init__((len(base.num_states),))
        self.net, self.base = net, base

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(-1) - self.base.log_prob(x)


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
