"""An energy evaluated at a site of a model: it draws nothing, and what it captures is seen.

An energy sees one configuration, and one element of each tensor that is passed beside it. A tensor
that it captures stays whole: a site of a plate around the energy with all elements of the plate, an
enumerated site with all its states. Where the energy sums, the shape is right and the number wrong.
In Pyro's own runs such a site is known by the identity of its value; what was computed from it
before the energy is seen while names are followed, which `check_model` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import ProvenanceTensor, get_provenance, track_provenance
from pyro.poutine.runtime import _PYRO_STACK, get_plates
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .enumerated import enumerated_sites
from .tracking import (
    CollectProvenance,
    RefuseSampling,
    TagLatents,
    passes_on,
    plain,
    sample_sites,
)


class Guarded(NamedTuple):
    """What an energy gave, and while Pyro follows provenance the sites it read by closure: by
    name, how many numbers at most in one tensor."""

    value: Tensor
    captured: Mapping[str, int]


class Surroundings:
    """The values that an energy must be handed where it stands in a running model.

    Copies and pickles, which are used elsewhere, hold none.

    Args:
        values: each with the sentence that refuses it as a captured one.
    """

    def __init__(self, values: Sequence[tuple[Tensor, str]] = ()) -> None:
        self.values = tuple(values)

    def __reduce__(self) -> tuple[type[Surroundings], tuple[()]]:
        return Surroundings, ()


def surroundings(place: str = "") -> Surroundings:
    """The latent sites so far that are enumerated, or share a plate with this place.

    Args:
        place: what a refusal begins with.
    """
    found = [
        (site["value"], place + captured_enumerated(site["name"]))
        for site in enumerated_sites().values()
    ]
    plates = {frame.name for frame in get_plates() if frame.vectorized and frame.size > 1}
    for messenger in _PYRO_STACK if plates else ():
        if not isinstance(messenger, TraceMessenger):
            continue
        for site in sample_sites(messenger.trace):
            shared = [frame for frame in site["cond_indep_stack"] if frame.name in plates]
            # Stock NUTS conditions the model on its latent values.
            fixed = site["is_observed"] and not getattr(site["value"], "requires_grad", False)
            if shared and not fixed and not site_is_subsample(site):
                found.append((site["value"], place + captured_across(site["name"], shared[0])))
    return Surroundings(found)


def guarded(function: Callable[..., Tensor], *tensors: Any, around: Surroundings) -> Guarded:
    """function(*tensors), an energy evaluated in a model.

    Args:
        function: gives a tensor.
        tensors: its arguments; any of them may be a number.
        around: what the function must not capture at this place of the model.

    Returns:
        The value, while Pyro follows provenance with the names of all that was read.

    Raises:
        ValueError: the function calls `pyro.sample`, or captures one of its surroundings.
    """
    with RefuseSampling():
        if _following(tensors):
            with CollectProvenance() as collected:
                value = function(*map(plain, tensors))
            names = collected.names | get_provenance(tensors)
            return Guarded(track_provenance(value, names), collected.sizes)
        if not around.values:
            return Guarded(function(*tensors), {})
        # A site that is passed is known by another object than one that is captured.
        passed = [t.view_as(t) if isinstance(t, Tensor) else t for t in tensors]
        with _RefuseCaptured(around):
            return Guarded(function(*passed), {})


def captured_enumerated(name: str) -> str:
    """The sentence that refuses an energy with an enumerated site in its closure."""
    return (
        f"expected an energy of one configuration, got one that captures the discrete site "
        f"{name!r}: while it is enumerated the closure holds all its states at once, and a sum "
        "mixes them. Pass the site, or what is computed from it, beside x: as a value of "
        "energy_factor, or in params."
    )


def captured_across(name: str, frame: Any) -> str:
    """The sentence that refuses an energy with a site of its own plate in its closure."""
    return (
        f"expected an energy of one element of the plate {frame.name!r}, got one that captures the "
        f"latent site {name!r} of the same plate: each element would see the values of all "
        f"{frame.size}. Pass the site, or what is computed from it, beside x: as a value of "
        "energy_factor, or in params. What all elements share (a sum over the plate) compute "
        "before the energy."
    )


class _RefuseCaptured(TorchFunctionMode):
    """Refuse an operation on the very value of a surrounding site."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__()
        self.refusals = {id(value): sentence for value, sentence in around.values}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if passes_on(func, result):
            for operand in pytree.tree_leaves((args, kwargs)):
                if id(operand) in self.refusals:
                    raise ValueError(self.refusals[id(operand)])
        return result


def _following(tensors: tuple) -> bool:
    return any(isinstance(tensor, ProvenanceTensor) for tensor in tensors) or any(
        isinstance(messenger, TrackProvenance | TagLatents) for messenger in _PYRO_STACK
    )
