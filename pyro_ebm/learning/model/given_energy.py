"""Energies that a user gives, as energies of rows.

An energy has configurations of its own: images, spins -1 and +1, inputs with labels. Rows have
coordinates, and numbers of states in place of states; here the one becomes the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_ebm.energies import ClassifierEnergy, Energy, states_of


class GivenEnergy(Energy):
    """An energy of configurations as one of rows [n, dim].

    :param energy: of an event with as many numbers as a row has; a :class:`ClassifierEnergy` is
        taken as the joint energy of an input and its label, the last coordinate, if there is one.
    :param num_states: [dim] how many states each coordinate of a row has, 0 for a continuous one.
    :raises ValueError: a row is no configuration of the energy.
    """

    states: Tensor | None

    def __init__(self, energy: Energy, num_states: Sequence[int]) -> None:
        super().__init__((len(num_states),))
        self.energy = energy
        size = energy.event_shape.numel()
        self.joint = isinstance(energy, ClassifierEnergy) and len(num_states) == size + 1
        if not self.joint and size != len(num_states):
            raise ValueError(
                f"expected an energy of {len(num_states)} coordinates, one a column"
                f" (and one for the label), got {type(energy).__name__} of event shape "
                f"{tuple(energy.event_shape)}."
            )
        states = states_of(energy.support)
        if states is not None and any(count != len(states) for count in num_states):
            raise ValueError(
                f"expected columns of {len(states)} states, which is what "
                f"{type(energy).__name__} is of, got {list(num_states)} (0 is continuous). Give "
                'columns="binary" or "categorical".'
            )
        self.register_buffer("states", states)

    def configurations(self, rows: Tensor) -> Tensor:
        """Rows [n, dim] as the energy takes them, [n, *event]; labels left out."""
        size = self.energy.event_shape.numel()
        x = rows[:, :size]
        if self.states is not None:
            x = self.states.to(rows)[x.long()]
        return x.reshape(len(rows), *self.energy.event_shape)

    def forward(self, x: Tensor) -> Tensor:
        found = self.configurations(x)
        if self.joint and isinstance(self.energy, ClassifierEnergy):
            return self.energy.joint(found, x[:, -1].long())
        return self.energy(found)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return None if self.joint else self.energy.log_normalizer(temperature)


class ShownAs(nn.Module):
    """A net over events as one over rows: reshaped, continuous coordinates as they are.

    :param net: from [n, *event] to [n] or [n, 1].
    :param event_shape: that of the data.
    """

    def __init__(self, net: nn.Module, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.net, self.event_shape = net, tuple(event_shape)

    def forward(self, rows: Tensor) -> Tensor:
        found = self.net(rows.reshape(len(rows), *self.event_shape))
        return found.reshape(len(rows), 1)


def frozen_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose parameters do not follow those of the original."""
    import copy

    return copy.deepcopy(module)
