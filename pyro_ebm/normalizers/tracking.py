"""Evaluating an energy inside a Pyro model: nothing is sampled there, and parents stay visible.

Pyro finds out what depends on what by running the model on tensors that carry the names of the
sites they come from (`pyro.ops.provenance`). Such a tensor that an energy captures in its closure
loses its names under `torch.func.vmap`, silently. So while names are followed, every tensor is
stripped of them as an operation reads it, the names are collected on the side, and the energy
computes on plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import (
    ProvenanceTensor,
    detach_provenance,
    extract_provenance,
    get_provenance,
    track_provenance,
)
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

# Operations that hand a tensor's numbers to Python: what is computed from them depends on it.
_READS_NUMBERS = {
    "__array__",
    "__bool__",
    "__complex__",
    "__contains__",
    "__float__",
    "__index__",
    "__int__",
    "allclose",
    "equal",
    "is_nonzero",
    "item",
    "numpy",
    "tolist",
}


class CollectProvenance(TorchFunctionMode):
    """Strip tensors of the names they carry wherever they are read, and remember the names.

    Attributes: ``names`` of all sites whose values were read; shapes and dtypes do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: frozenset[str] = frozenset()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bare: Any
        bare, found = extract_provenance([tuple(args), dict(kwargs or {})])
        result = func(*bare[0], **bare[1])
        if found and (func.__name__ in _READS_NUMBERS or _holds_tensor(result)):
            self.names |= found
        return result


def _holds_tensor(result: object) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result))


class RefuseSampling(Messenger):
    """Refuse `pyro.sample` statements: an energy is a fixed function of its arguments."""

    def _pyro_sample(self, msg: Any) -> None:
        raise ValueError(
            f"expected an energy that draws nothing, got one that calls pyro.sample inside, at "
            f"{msg['name']!r} (the weights of a PyroSample net, perhaps). Every evaluation would "
            "see other values, and no handler would know them. Draw them in the model, before the "
            "energy, and pass them by params."
        )


class TagLatents(Messenger):
    """Mark the value of every latent site with the site's name.

    Observed values and `pyro.deterministic` keep the names of what they were computed from;
    `pyro.param` gets none, since parameters are fixed while a chain runs.
    """

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] or _passes_through(msg) or not isinstance(msg["value"], Tensor):
            return
        value = detach_provenance(msg["value"])
        msg["value"] = ProvenanceTensor(value, frozenset({msg["name"]}))


def _passes_through(msg: Any) -> bool:
    fn = msg["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__ in ("Delta", "_Subsample")


def guarded(function: Callable[..., Tensor], *tensors: Any) -> Tensor:
    """function(*tensors), an energy evaluated in a model.

    Args:
        function: gives a tensor.
        tensors: its arguments; any of them may be a number.

    Returns:
        The value; while Pyro follows provenance, with the names of all that was read.

    Raises:
        ValueError: the function calls `pyro.sample`.
    """
    with RefuseSampling():
        if not _following(tensors):
            return function(*tensors)
        with CollectProvenance() as collected:
            value = function(*map(plain, tensors))
        return track_provenance(value, collected.names | get_provenance(tensors))


def _following(tensors: tuple) -> bool:
    return any(isinstance(tensor, ProvenanceTensor) for tensor in tensors) or any(
        isinstance(messenger, TrackProvenance | TagLatents) for messenger in _PYRO_STACK
    )


def sample_sites(trace: Any) -> list[Any]:
    """The sample sites of one of Pyro's traces, in the model's order."""
    return [site for site in trace.nodes.values() if site["type"] == "sample"]


def parents_of(function: Callable[[], Any]) -> frozenset[str]:
    """The names of the sites that a computation reads, directly or by closure."""
    with CollectProvenance() as collected:
        result = function()
    return collected.names | get_provenance(result)


def plain(tensor: Any) -> Any:
    """A tensor without the names it carries; anything else as it is."""
    return detach_provenance(tensor)
