"""What depends on what in a Pyro model: names that follow values, and nothing sampled unseen.

Pyro finds out what depends on what by running the model on tensors that carry the names of the
sites they come from (`pyro.ops.provenance`). Such a tensor that an energy captures in its closure
loses its names under `torch.func.vmap`, silently. So while names are followed, every tensor is
stripped of them as an operation reads it, the names are collected on the side, and the energy
computes on plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.ops.provenance import (
    ProvenanceTensor,
    detach_provenance,
    extract_provenance,
    get_provenance,
)
from pyro.poutine.messenger import Messenger
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

    Attributes: ``sizes`` by name of the sites whose values were read, how many numbers at most in
    one tensor; shapes and dtypes do not count as read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}

    @property
    def names(self) -> frozenset[str]:
        """All sites whose values were read."""
        return frozenset(self.sizes)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bare: Any
        bare, found = extract_provenance([tuple(args), dict(kwargs or {})])
        result = func(*bare[0], **bare[1])
        if found and passes_on(func, result):
            for operand in pytree.tree_leaves((args, kwargs)):
                for name in get_provenance(operand):
                    self.sizes[name] = max(self.sizes.get(name, 0), plain(operand).numel())
        return result


def passes_on(func: Any, result: object) -> bool:
    """Whether an operation lets the numbers of its operands out, and not their shapes alone."""
    return func.__name__ in _READS_NUMBERS or any(
        isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)
    )


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
