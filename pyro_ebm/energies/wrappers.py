"""What `as_energy` makes of things that are not energies yet: functions, nets, other supports."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from .base import Energy, evaluate, has_room_for_params
from .checks import RefuseTrainMode, check_output, random_energy, sizes_of, values_visible
from .numbers_seen import overrides_functions


class FunctionEnergy(Energy):
    """A plain function as an energy.

    Unless `vectorized`, the function sees one configuration under `torch.func.vmap`. What vmap
    cannot run (a Python `if` on values) is called once per configuration instead when values are
    visible, slower and the same; inside another vmap its RuntimeError goes up. `torch.jit.trace`
    cannot record vmap, and so records the calls one by one.

    Args:
        function: `f(x, *params)` with one real number per configuration.
        event_shape: the shape of one configuration.
        support: where the density lives.
        vectorized: whether the function takes a batch [N, *event] and params [N].
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        event_shape: object = (),
        support: object = constraints.real,
        vectorized: bool = False,
    ) -> None:
        super().__init__(event_shape, support=support)
        self.function = function
        self.vectorized = vectorized

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        with RefuseTrainMode():
            return self._energies(x, params)

    def _energies(self, x: Tensor, params: tuple[Tensor, ...]) -> Tensor:
        if self.vectorized:
            return check_output(self.function(x, *params), sizes_of(x)[0], self.extra_repr())
        if not sizes_of(x)[0]:  # vmap needs a row
            empty = x.reshape(0, self.event_shape.numel()).sum(-1)
            return empty if x.is_floating_point() else empty.to(torch.get_default_dtype())
        # vmap strips tensor subclasses that follow where values go; a loop keeps them.
        if torch._C._is_tracing() or any(map(overrides_functions, (x, *params))):
            return self._loop(x, params)
        try:
            return torch.func.vmap(self._one, randomness="error")(x, *params)
        except RuntimeError as error:
            if "randomness" in str(error):
                raise ValueError(random_energy()) from error
            if not values_visible():
                raise
        return self._loop(x, params)

    def _one(self, x: Tensor, *params: Tensor) -> Tensor:
        value = self.function(x, *params)
        row = value.unsqueeze(0) if isinstance(value, Tensor) else value
        return check_output(row, 1, self.extra_repr()).squeeze(0)

    def _loop(self, x: Tensor, params: tuple[Tensor, ...]) -> Tensor:
        rows = zip(*(tensor.unbind(0) for tensor in (x, *params)), strict=True)
        return torch.stack([self._one(*row) for row in rows])

    @property
    def takes_params(self) -> bool:
        return has_room_for_params(self.function)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


class ModuleEnergy(Energy):
    """A net as an energy: called once on [N, *event], an output [N] or [N, 1].

    Args:
        net: the net; its parameters are the energy's.
        event_shape: the shape of one configuration.
        support: where the density lives.
    """

    def __init__(
        self, net: nn.Module, *, event_shape: object = (), support: object = constraints.real
    ) -> None:
        super().__init__(event_shape, support=support)
        self.net = net

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        with RefuseTrainMode():
            return check_output(self.net(x, *params), sizes_of(x)[0], type(self.net).__name__)

    @property
    def takes_params(self) -> bool:
        return has_room_for_params(self.net.forward)


class Restricted(Energy):
    """An energy on another support; what was known of its normaliser holds no longer.

    Args:
        energy: the energy.
        support: the new support.
    """

    def __init__(self, energy: Energy, support: Constraint) -> None:
        super().__init__(energy.event_shape, support=support)
        self.energy = energy

    def forward(self, x: Tensor, *params: Tensor) -> Float[Tensor, " n"]:
        return evaluate(self.energy, x, params)

    @property
    def takes_params(self) -> bool:
        return self.energy.takes_params
