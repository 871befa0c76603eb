"""The default energy of rows: a net that tilts a mixture.

    E(x) = net(x) - log base(x)

States are shown to the net one-hot; images go through convolutions. Nets learn what varies slowly
first, and thin structures hardly at all: where there are rows enough to see them, continuous
coordinates are shown as waves too. The last layer begins at zero, so that learning begins at the
base, whose log Z is zero.

Source of the waves: Tancik et al. (2020), Fourier features let networks learn high frequency
functions in low dimensional domains.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_ebm.energies import Energy

from .mixture_base import MixtureBase

# How many waves, and how many rows each cell of their length wants; those longer than the spread of
# the rows tell nothing new, and none is shorter than a net can follow.
_WAVES, _ROWS_A_CELL = 128, 50
_LOWEST, _HIGHEST = 2.0, 8.0


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


class Waves(nn.Module):
    """Rows [n, dim] as a net sees them, and waves of their continuous coordinates.

    The directions are random, the frequencies spread up to what ``num_rows`` rows of unit spread
    can tell from noise; no waves where that is no more than the coordinates themselves.
    """

    frequencies: Tensor

    def __init__(self, num_states: Sequence[int], num_rows: int) -> None:
        super().__init__()
        self.shown = OneHot(num_states)
        self.continuous = [i for i, count in enumerate(num_states) if count == 0]
        dim = len(self.continuous)
        highest = min((num_rows / _ROWS_A_CELL) ** (1.0 / max(dim, 1)), _HIGHEST)
        number = _WAVES if dim and highest >= _LOWEST else 0
        direction = nn.functional.normalize(torch.randn(dim, number), dim=0)
        self.register_buffer("frequencies", direction * highest * torch.linspace(0.25, 1.5, number))
        self.size = self.shown.size + 2 * number

    def forward(self, rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n size"]:
        """One-hot states and coordinates, sines and cosines."""
        shown = self.shown(rows)
        if not self.frequencies.shape[1]:
            return shown
        phase = rows[:, self.continuous] @ self.frequencies
        return torch.cat([shown, phase.sin(), phase.cos()], 1)


def perceptron(num_states: Sequence[int], hidden: Sequence[int], *, num_rows: int) -> nn.Module:
    """Linear layers with SiLU from rows, of which there are ``num_rows``, to one number each,
    [n, 1]; zero at first."""
    shown = Waves(num_states, num_rows)
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

    def forget(self) -> None:
        """Take back what the net has learned: its last layer is zero again."""
        last = [part for part in self.net.modules() if isinstance(part, nn.Linear)][-1]
        _zeroed(last)


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
