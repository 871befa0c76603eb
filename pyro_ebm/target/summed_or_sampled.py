"""Which discrete sites of a model are summed out, and which are sampled.

What the user marks for enumeration is summed out, and so is everything else that can be and whose
joint table is small. The others are sampled: what Pyro cannot enumerate, what an energy captures,
sites that meet an energy across their plate, and sites whose joint table is large. That is found by
trying, all sites together first, then one by one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Transform
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_ebm.shapes import joint_shape

from .layout import origin
from .program import ROOM_FOR_EVENTS, ModelProgram
from .side import NO_SIDE
from .substitute import HoldDiscrete, Substitute

# States of all enumerated sites that meet, for one element of the plates, and numbers of a tensor.
_LARGEST_TABLE, _LARGEST_TENSOR = 4096, 2**26

SAMPLE, MARGINALISE = "sample", "marginalise"


class Choice(NamedTuple):
    """A program, by sampled site why it is sampled, and of which of them to tell the user."""

    program: ModelProgram
    why: dict[str, str]
    told: tuple[str, ...]


class _TooLarge(ValueError):
    """The table of enumerated sites is too large."""


def choose(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    discrete: Mapping[str, str],
    captured: frozenset[str],
    transforms: Mapping[str, Transform] | None = None,
    max_plate_nesting: int | None = None,
) -> Choice:
    """The program of a model with its discrete sites summed out or sampled.

    :param discrete: "sample" or "marginalise" by site, where the user decides.
    :param captured: sites that an energy captures.
    :raises ValueError: what ``discrete`` names is no discrete latent site; a site that is asked to
        be summed out cannot be.
    """
    held, continuous = _held(model, args, kwargs, transforms or {})
    _check(discrete, held)
    why = {name: "the user asks for it" for name, word in discrete.items() if word == SAMPLE}
    asked = {name for name, word in discrete.items() if word == MARGINALISE}
    for name in held.discrete:
        if name not in held.enumerable:
            why.setdefault(name, "its distribution cannot be enumerated")
        elif name in captured:
            why.setdefault(name, "an energy captures it and sees all its elements")
        if name in asked and name in why:
            raise ValueError(
                f"The discrete site {name!r} cannot be summed out, since {why[name]}. Leave it out "
                "of discrete=, so that it is sampled."
            )
    kept = asked | (held.marked - why.keys())
    if not continuous and not why:
        # Summed out, there would be nothing left to sample.
        why = dict.fromkeys((n for n in held.discrete if n not in kept), "all sites are discrete")
    free = [name for name in held.discrete if name not in why and name not in kept]

    def made(sampled: set[str], *, limited: bool) -> ModelProgram:
        def build() -> ModelProgram:
            program = ModelProgram(
                model,
                args,
                kwargs,
                transforms=transforms,
                max_plate_nesting=max_plate_nesting,
                sampled=sampled,
            )
            if limited:
                with torch.no_grad():
                    program.run(origin(program.sites), NO_SIDE)
            return program

        if not limited:
            return build()
        with _Limit(held.nesting):
            return build()

    always = set(why)
    if not free:
        return Choice(made(always, limited=False), why, ())
    refused: dict[str, str] = {}

    def tried(names: list[str]) -> ModelProgram | None:
        try:
            return made(always | (set(free) - set(names)), limited=True)
        except _TooLarge:
            reason = "the joint table of what it meets is large"
        except (ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            reason = f"it meets an energy across its plate, or cannot be enumerated there ({first})"
        refused.update({name: reason for name in names if name not in refused})
        return None

    program = tried(free)
    if program is not None:
        return Choice(program, why, ())
    if len(free) > 1:
        together = dict(refused)
        refused.clear()
        good = [name for name in free if tried([name]) is not None]
        program = tried(good) if good else None
        if program is not None:
            free_sampled = [name for name in free if name not in good]
            return Choice(
                program, {**why, **{n: refused[n] for n in free_sampled}}, tuple(free_sampled)
            )
        refused = {name: refused.get(name, together[name]) for name in free}
    return Choice(made(always | set(free), limited=False), {**why, **refused}, tuple(free))


def _held(
    model: Callable, args: tuple, kwargs: Mapping[str, Any], transforms: Mapping[str, Transform]
) -> tuple[HoldDiscrete, bool]:
    """The discrete sites of a model, and whether it has continuous ones."""
    held = HoldDiscrete()
    substitute = Substitute(None, None, {}, transforms=transforms)
    with pyro.validation_enabled(False), poutine.block(), substitute, held:
        model(*args, **kwargs)
    return held, bool(substitute.laid_out)


def _check(discrete: Mapping[str, str], held: HoldDiscrete) -> None:
    unknown = sorted(set(discrete) - set(held.discrete))
    if unknown:
        raise ValueError(
            f"discrete= names {unknown}, but the discrete latent sites of the model are "
            f"{sorted(held.discrete)}."
        )
    wrong = sorted({word for word in discrete.values() if word not in (SAMPLE, MARGINALISE)})
    if wrong:
        raise ValueError(f'discrete= takes "{SAMPLE}" or "{MARGINALISE}" by site, got {wrong}.')


class _Limit(TorchDispatchMode):
    """Refuse tensors that grow too large along the dimensions of enumerated sites.

    It looks at what operations are given, before a large tensor is there.
    """

    def __init__(self, nesting: int) -> None:
        super().__init__()
        self._nesting = nesting

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        shapes = [x.shape for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if len(shapes) > 1:
            # Where they do not fit together it is no operation element by element.
            with contextlib.suppress(RuntimeError):
                self._check(joint_shape(*shapes))
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._check(leaf.shape)
        return result

    def _check(self, shape: torch.Size) -> None:
        # Enumerated dimensions lie far to the left of plates and events.
        states = prod(shape[: max(0, len(shape) - self._nesting - ROOM_FOR_EVENTS)])
        if states > _LARGEST_TABLE or prod(shape) > _LARGEST_TENSOR:
            raise _TooLarge(f"a tensor of shape {tuple(shape)}")
