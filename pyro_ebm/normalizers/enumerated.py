"""Pyro's parallel enumeration, seen from inside a model: which tensor dimensions it uses.

An enumerated site lies along a dimension of its own, left of all plates. What depends on the site
has that dimension too, so an unnormalised density whose batch reaches so far left has a discrete
parent, and a value of a factor that reaches so far left is one value per state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _ENUM_ALLOCATOR, _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger

from .parents import missing_normalizer
from .tracking import sample_sites


def enumerated_sites() -> dict[int, Mapping[str, Any]]:
    """The sites enumerated so far in the running model, by tensor dimension from the right."""
    if not any(isinstance(messenger, EnumMessenger) for messenger in _PYRO_STACK):
        return {}
    return {
        site["infer"]["_enumerate_dim"]: site
        for messenger in _PYRO_STACK
        if isinstance(messenger, TraceMessenger)
        for site in sample_sites(messenger.trace)
        if site["infer"].get("_enumerate_dim") is not None
    }


def first_enumerated_dim() -> int | None:
    """The rightmost dimension that enumeration uses in the running model, None without any."""
    for messenger in _PYRO_STACK:
        if isinstance(messenger, EnumMessenger):
            local = [dim for dims in messenger._value_dims.values() for dim in dims]
            dims = [*_ENUM_ALLOCATOR.dim_to_id, *local]
            if dims:
                return max(dims)
    return None


class FactorEvents(Messenger):
    """The shapes of the events of energy factors, learnt in a run without enumeration.

    Under enumeration the same values reach further left, and the shape alone may not tell a state
    from an event. Enter it around a plain run of the model, then again around enumerated ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[str, tuple[torch.Size, ...]] = {}


def known_events(name: str) -> tuple[torch.Size, ...] | None:
    """The event shapes of a factor's values, where they have been learnt."""
    for messenger in _PYRO_STACK:
        if isinstance(messenger, FactorEvents) and name in messenger.events:
            return messenger.events[name]
    return None


def remember_events(name: str, events: tuple[torch.Size, ...]) -> None:
    """Let the enclosing FactorEvents learn a factor's event shapes, if it does not know them."""
    for messenger in _PYRO_STACK:
        if isinstance(messenger, FactorEvents):
            messenger.events.setdefault(name, events)


def refuse_enumerated_parents(batch_shape: torch.Size, enumerated_from: int | None) -> None:
    """Refuse a batch that reaches into the dimensions of enumerated sites.

    Raises:
        ValueError: the density has a value per state of an enumerated site.
    """
    if enumerated_from is None:
        return
    reach = batch_shape[: max(len(batch_shape) + enumerated_from + 1, 0)]
    if any(size > 1 for size in reach):
        raise ValueError(missing_normalizer(["an enumerated discrete site"]))
