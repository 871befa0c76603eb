"""Energies: functions E(x) that stand for the unnormalised density exp(-E(x)/T).

Anything that gives one real number per configuration can be an energy. Calling one is the boundary
where user code meets the rest: whatever batch the caller has is flattened to exactly one axis, the
energy sees [N, *event], its answer is checked, and the batch comes back. All of this is shape
arithmetic, so it runs the same inside `torch.func.vmap`, `grad` and `make_fx`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import prod
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from .checks import (
    check_layers,
    check_output,
    joint_sizes,
    random_energy,
    random_state,
    sizes_of,
    values_visible,
)
from .supports import as_event_shape, as_support, event_support, same_support

if TYPE_CHECKING:
    from .algebra import ProductOfExperts, Scaled, Tempered
    from .augmented import Augmented
    from .wrappers import FunctionEnergy


class Energy(nn.Module):
    """A real function of configurations, with density proportional to exp(-E(x)/T).

    A subclass calls `super().__init__(event_shape, support=...)` and writes
    `forward(x, *params)`, which sees exactly one batch axis: x of shape [N, *event], each param of
    shape [N], and returns [N]. Calling the energy takes any batch shape. The formula is evaluated
    outside of the support too, where the density is zero: `EnergyDistribution.log_prob` looks. The
    other methods answer None until a subclass knows better.

    Args:
        event_shape: the shape of one configuration.
        support: where the density lives; widened to the dimensions of the event.

    Raises:
        TypeError: `event_shape` is not a sequence of integers, `support` not a constraint.
        ValueError: the support has more dimensions than the event.
    """

    def __init__(self, event_shape: object = (), *, support: object = constraints.real) -> None:
        super().__init__()
        self.event_shape = as_event_shape(event_shape)
        self._support = event_support(as_support(support), self.event_shape)

    def __call__(self, x: object, *params: Tensor | float) -> Float[Tensor, "*batch"]:
        """E(x): see `evaluate`."""
        return evaluate(self, x, params)

    @property
    def support(self) -> Constraint:
        """Where the density lives, as a constraint on whole configurations."""
        return self._support

    @property
    def takes_params(self) -> bool:
        """Whether `forward` has room for params after x."""
        return has_room_for_params(self.forward)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """log of the integral of exp(-E(x)/T) over the support, None when unknown.

        Args:
            temperature: T, a number or a tensor [*batch].

        Returns:
            A tensor [*batch], or None.
        """
        return None

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """The mean of x at temperature T, [*batch, *event]; None when unknown."""
        return None

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """The variance of each coordinate of x at temperature T; None when unknown."""
        return None

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Independent exact draws, None when no exact sampler is known.

        Args:
            shape: how many draws, as a shape.
            temperature: T, a number or a tensor that broadcasts to `shape`.
            generator: the random stream; torch's global one by default.

        Returns:
            A tensor [*shape, *event] without gradient, or None.
        """
        return None

    def energy_changes(self, x: Tensor) -> Tensor | None:
        """What each single change of a discrete configuration does: E(x with site i in state k)
        - E(x), zero where x_i is in state k already.

        Args:
            x: configurations [N, *event].

        Returns:
            A tensor [N, *event, K], the states in ascending order; None when nothing is known that
            is cheaper than K energies for every site.
        """
        return None

    @property
    def interactions(self) -> Tensor | None:
        """Pairs [m, 2] of different sites, as places in the flattened event, that share a term of
        a discrete energy: given all others, two sites that are no pair are independent. None when
        unknown: any two may be."""
        return None

    @property
    def augmented(self) -> Augmented | None:
        """The energy of x and of the latent variables that this one has summed out, at T = 1, where
        chains move better on both; None where there are none, or nothing is gained."""
        return None

    def invariants(self, x: Tensor) -> Tensor | None:
        """Numbers that are equal for configurations which a symmetry turns into each other (moved,
        turned, with equal atoms exchanged), and differ otherwise: minima are told apart by them.

        Args:
            x: configurations [N, *event].

        Returns:
            A tensor [N, numbers]; None where the configuration itself tells.
        """
        return None

    @staticmethod
    def from_function(
        function: Callable[..., Tensor],
        *,
        event_shape: Sequence[int] = (),
        support: Constraint = constraints.real,
        vectorized: bool = False,
    ) -> FunctionEnergy:
        """An energy from a plain function.

        Args:
            function: `f(x, *params)`: one configuration and one element of each param to a
                number; a batch [N, *event] and params [N] to [N] when `vectorized`.
            event_shape: the shape of one configuration.
            support: where the density lives.
            vectorized: whether the function takes a whole batch.
        """
        from .wrappers import FunctionEnergy

        return FunctionEnergy(
            function, event_shape=event_shape, support=support, vectorized=vectorized
        )

    def __add__(self, other: object) -> Energy:
        if isinstance(other, Tensor | Real) or not callable(other):
            return NotImplemented
        return _product(self, other)

    def __radd__(self, other: object) -> Energy:
        # sum([e1, e2]) begins with 0.
        if isinstance(other, int) and other == 0:
            return self
        if isinstance(other, Tensor | Real) or not callable(other):
            return NotImplemented
        return _product(other, self)

    def __mul__(self, factor: Any) -> Energy:
        return _scaled(self, factor) if isinstance(factor, Tensor | Real) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Energy:
        return _scaled(self, -1.0)

    def __truediv__(self, temperature: Any) -> Energy:
        if not isinstance(temperature, Tensor | Real):
            return NotImplemented
        return _tempered(self, temperature)


def _product(first: object, second: object) -> ProductOfExperts:
    from .algebra import ProductOfExperts

    return ProductOfExperts([first, second])


def _scaled(energy: Energy, factor: Any) -> Scaled:
    from .algebra import Scaled

    return Scaled(energy, factor)


def _tempered(energy: Energy, temperature: Any) -> Tempered:
    from .algebra import Tempered

    return Tempered(energy, temperature)


def as_energy(energy: object, *, event_shape: object = None, support: object = None) -> Energy:
    """Turn any callable, net or energy into an `Energy`.

    An `nn.Module` is called on batches [N, *event]; any other callable sees one configuration,
    under vmap. None for `event_shape` and `support` means the energy's own, else `()` and real.

    Args:
        energy: what gives one real number per configuration.
        event_shape: the shape of one configuration.
        support: where the density lives; one that differs from an energy's own replaces it, and
            the energy's normaliser, moments and sampler are then unknown.

    Raises:
        TypeError: `energy` cannot be called, or is a distribution.
        ValueError: `event_shape` contradicts the energy's own.
    """
    from .wrappers import FunctionEnergy, ModuleEnergy, Restricted

    if isinstance(energy, Energy):
        if event_shape is not None and as_event_shape(event_shape) != energy.event_shape:
            raise ValueError(
                f"expected event_shape {tuple(energy.event_shape)}, which is what "
                f"{type(energy).__name__} is made for, got {tuple(as_event_shape(event_shape))}. "
                "Leave event_shape out, or build the energy for that shape."
            )
        if support is None:
            return energy
        wanted = event_support(as_support(support), energy.event_shape)
        return energy if same_support(wanted, energy.support) else Restricted(energy, wanted)
    shape = () if event_shape is None else event_shape
    where = constraints.real if support is None else support
    if isinstance(energy, type) or not callable(energy):
        raise TypeError(
            f"expected an energy: an Energy, an nn.Module or a function of x, got {energy!r} of "
            f"type {type(energy).__name__}. For a class, pass an instance of it."
        )
    if isinstance(energy, Distribution):
        raise TypeError(
            f"expected an energy, got the distribution {energy}, whose call draws. "
            "Write lambda x: -distribution.log_prob(x), or Tilted(energy, distribution)."
        )
    if isinstance(energy, nn.Module):
        return ModuleEnergy(energy, event_shape=shape, support=where)
    return FunctionEnergy(energy, event_shape=shape, support=where)


def evaluate(
    energy: Energy, x: object, params: Sequence[Tensor | float] = ()
) -> Float[Tensor, "*batch"]:
    """E(x), the boundary: one batch axis in, one checked real number per configuration out.

    Args:
        energy: the energy.
        x: configurations [*batch, *event].
        params: tensors that broadcast with the batch; the energy sees one element of each per
            configuration.

    Returns:
        The energies, of the shape that the batch of x and the params broadcast to.

    Raises:
        TypeError: x is not a tensor; the output is not a tensor of real floating-point numbers.
        ValueError: x does not end in the event's shape; the energy is random; the output is not
            one number per configuration.
    """
    event = energy.event_shape
    name = type(energy).__name__
    if not isinstance(x, Tensor):
        raise TypeError(f"expected x to be a tensor, got {type(x).__name__}.")
    split, shape = x.dim() - len(event), sizes_of(x)
    if split < 0 or shape[split:] != event:
        raise ValueError(
            f"expected configurations whose last dimensions are the event shape {tuple(event)} of "
            f"{name}, got x of shape {tuple(shape)}. Reshape x, or give the energy its "
            "event_shape."
        )
    if params and not energy.takes_params:
        raise ValueError(
            f"expected no params, because {name} is a function of x alone, got {len(params)}. "
            "Write forward(x, *params), or leave the params out."
        )
    tensors = [
        p if isinstance(p, Tensor) else torch.as_tensor(p, dtype=x.dtype, device=x.device)
        for p in params
    ]
    # Without params there is nothing to broadcast, which costs more than a small energy.
    batch = joint_sizes(shape[:split], *map(sizes_of, tensors)) if tensors else shape[:split]
    rows = prod(batch)
    energies = evaluate_rows(
        energy,
        x.expand(batch + event).reshape(rows, *event),
        *(p.expand(batch).reshape(rows) for p in tensors),
    )
    return energies.reshape(batch)


def evaluate_rows(energy: Energy, x: Tensor, *others: Tensor) -> Float[Tensor, " rows"]:
    """One checked real number for each row of x and of what the energy takes beside it.

    Raises:
        TypeError: the output is not a tensor of real floating-point numbers.
        ValueError: a layer in train mode, or torch's random stream moved; the output is not one
            number per row.
    """
    check_layers(energy)
    before = random_state(x.device) if values_visible() else None
    value = nn.Module.__call__(energy, x, *others)
    if before is not None and not torch.equal(before, random_state(x.device)):
        raise ValueError(random_energy())
    return check_output(value, sizes_of(x)[0], type(energy).__name__)


def has_room_for_params(function: Callable[..., object]) -> bool:
    """Whether a callable takes more than one positional argument; True when it cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
