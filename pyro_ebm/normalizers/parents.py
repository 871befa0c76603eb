"""Which parents an unnormalised density has, and which of them it may not have.

A site with density exp(-E(x; theta)/T) has the normaliser Z(theta). Where inference moves theta (a
latent site under MCMC, a parameter under SVI) the missing log Z(theta) makes the answer wrong
without a word: with th ~ Gamma(4, 4) and x ~ exp(-(x/th)^2/2), no data, E[th] comes out as 1.25
where the prior's 1 is right. Autograd sees such parents: they are leaves of the graph behind the
log density that are not the site's own value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import pyro
from pyro.infer.elbo import ELBO, ELBOModule
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn


def missing_normalizer(parents: Iterable[str]) -> str:
    """The sentence that refuses a density whose normaliser follows its parents unseen."""
    return (
        f"The normaliser log Z of this unnormalised density depends on {', '.join(parents)}, and "
        "is not known as a function of it: the answer would be silently wrong. Ways out: "
        "(1) log_normalizer=f, a function f(*params, temperature) that gives log Z (a number or a "
        "tensor cannot follow what it depends on); (2) energy_factor(name, energy, *values) if a "
        "joint energy is meant, without a normaliser; (3) for doubly-intractable posteriors, whose "
        "site is observed, MCMC(Exchange(model)), or listed_log_normalizer(...) or "
        "log_normalizer_surface(...) as f."
    )


class Walk(NamedTuple):
    """What lies behind some tensors: the leaves, and whether a path leads to the value."""

    leaves: list[Tensor]
    reached: bool


def refuse_moving_parents(leaves: Iterable[Tensor]) -> None:
    """Refuse a log density that depends on anything inference moves, other than the value.

    Legal are weights of nets outside Pyro's param store, and parameters in the store unless
    variational inference is learning them.

    Args:
        leaves: of the graph behind -E(value)/T and the tensors in the support, value excepted.

    Raises:
        ValueError: a parent that moves, and the ways out.
    """
    losses = None
    moving = []
    for leaf in leaves:
        losses = list(_enclosing_losses()) if losses is None else losses
        name = _moving_name(leaf, losses)
        if name is not None and name not in moving:
            moving.append(name)
    if moving:
        raise ValueError(missing_normalizer(moving))


def walk(outputs: Iterable[Tensor], value: Tensor) -> Walk:
    """Walk the autograd graph behind some tensors, and stop at the node of `value`.

    Args:
        outputs: -E(value)/T, and the tensors in the support.
        value: the site's value, a view of its own, so that it has a node of its own.
    """
    stop = value.grad_fn
    leaves: dict[int, Tensor] = {}
    nodes: list[Any] = []
    for output in outputs:
        if output.grad_fn is not None:
            nodes.append(output.grad_fn)
        elif output.requires_grad:
            leaves[id(output)] = output
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is stop:
            continue
        if hasattr(node, "variable"):
            leaves[id(node.variable)] = node.variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return Walk(list(leaves.values()), stop in seen)


def _moving_name(leaf: Tensor, losses: list[Any]) -> str | None:
    """What to call a leaf that inference moves, None for one that stays."""
    name = pyro.get_param_store().param_name(leaf)
    if name is not None:
        return f"the learnable parameter {name!r}" if losses else None
    if isinstance(leaf, nn.Parameter):
        learned = any(
            leaf is parameter
            for loss in losses
            if isinstance(loss, ELBOModule)
            for parameter in loss.parameters()
        )
        return f"a learnable parameter of shape {tuple(leaf.shape)}" if learned else None
    return (
        f"a latent value of shape {tuple(leaf.shape)} (if it is a constant that the energy "
        "captures with requires_grad=True, .detach() it)"
    )


def _enclosing_losses() -> Iterator[Any]:
    """What is learning now: SVI's step, or an ELBO somewhere among the callers."""
    for messenger in _PYRO_STACK:
        if isinstance(messenger, TraceMessenger) and messenger.param_only:
            yield messenger
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("pyro.infer."):
            caller = frame.f_locals.get("self")
            if isinstance(caller, ELBO | ELBOModule):
                yield caller
        frame = frame.f_back
