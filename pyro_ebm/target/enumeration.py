"""Discrete latent sites summed out exactly, in a form that can be mapped and recorded.

Pyro lays each enumerated site along a tensor dimension of its own, left of all plates. What is
left is a sum of products over those dimensions: plates multiply, enumerated dimensions add. Pyro's
message passing chooses the order; here it is given a ring whose sums are plain
:func:`torch.logsumexp`, as Pyro's own goes through an autograd function that functorch refuses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any

import torch
from pyro.distributions.util import is_identically_zero
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from pyro.poutine import Trace
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor


class ParallelEnumeration(EnumMessenger):
    """Pyro's parallel enumeration, with a stand-in for ``value.data``, which vmap forbids.

    :param held: sites that are not enumerated: they are sampled, or their values are given.
    """

    def __init__(self, first_available_dim: int, *, held: Container[str] = ()) -> None:
        super().__init__(first_available_dim)
        self.held = held

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.held:
            msg["infer"] = {**msg["infer"], "enumerate": None}
        super()._pyro_sample(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["value"], Tensor):
            msg = {**msg, "value": torch.empty(msg["value"].shape, device="meta")}
        super()._pyro_post_sample(msg)


class _LogSumExpRing(LogRing):
    """Sum-product in log space by broadcasting and logsumexp."""

    def sumproduct(self, terms, dims):
        names = sorted(set("".join(term._pyro_dims for term in terms)))
        aligned = [_align(term, names) for term in terms]
        total: Any = torch.stack(torch.broadcast_tensors(*aligned)).sum(0)
        summed = [i for i, name in enumerate(names) if name in dims]
        result: Any = _logsumexp(total, summed) if summed else total
        result._pyro_dims = "".join(name for name in names if name not in dims)
        return result


def _align(term: Any, names: list[str]) -> Tensor:
    own = term._pyro_dims
    order = [own.index(name) for name in names if name in own]
    term = term.permute(order)
    for i, name in enumerate(names):
        if name not in own:
            term = term.unsqueeze(i)
    return term


def _logsumexp(x: Tensor, dims: list[int]) -> Tensor:
    # A row of -inf has no maximum to subtract; its gradient is zero rather than NaN.
    top = x.detach().amax(dims, keepdim=True).clamp(min=torch.finfo(x.dtype).min)
    total = (x - top).exp().sum(dims)
    safe = torch.where(total > 0, total, torch.ones_like(total))
    log_total = torch.where(total > 0, safe.log(), torch.full_like(total, -torch.inf))
    return log_total + top.reshape(log_total.shape)


def marginal_log_density(trace: Trace, log_factors: dict[str, Tensor]) -> Tensor:
    """The log density of a trace with its enumerated sites summed out.

    :param trace: a trace run under Pyro's enumeration, with packed plate and enumeration symbols.
    :param log_factors: per site its log probability, plates and enumerated dimensions in place.
    """
    tree: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for name, log_factor in log_factors.items():
        site: Any = trace.nodes[name]
        if is_identically_zero(log_factor):
            continue
        ordinal = frozenset(
            trace.plate_to_symbol[f.name] for f in site["cond_indep_stack"] if f.vectorized
        )
        tree.setdefault(ordinal, []).append(_pack(log_factor, trace, site))
    enumerated = set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())
    return contract_to_tensor(tree, enumerated, ring=_LogSumExpRing())


def _pack(value: Tensor, trace: Trace, site: dict) -> Tensor:
    """Name the dimensions of size above one, and drop the others."""
    symbols = site["infer"]["_dim_to_symbol"]
    names, sizes = "", []
    for dim in range(-value.dim(), 0):
        if value.shape[dim] > 1:
            if dim not in symbols:
                raise ValueError(
                    f"The log probability of site '{site['name']}' has shape "
                    f"{tuple(value.shape)}, but its dimension {dim} belongs to no plate and no "
                    "enumerated site. Put the site into a pyro.plate, or mark the dimension as "
                    "an event with .to_event()."
                )
            names += symbols[dim]
            sizes.append(value.shape[dim])
    packed: Any = value.reshape(sizes)
    packed._pyro_dims = names
    return packed


def is_subsample(site: dict) -> bool:
    """Whether a trace node is a plate's own choice of indices."""
    return isinstance(site["fn"], _Subsample)
