"""Elements of latent sites that a mask takes out of the density, and that nothing else weighs.

A masked element of a latent site has a flat prior. Where the rest of the model depends on it that
is what the mask says. Where nothing does (Pyro's ``obs_mask=`` leaves such an element of
``y_unobserved`` for every datum) the density is flat along it and no chain ends there. Such an
element keeps its own prior: given everything else it integrates to one, so that the density of
everything else, and the evidence, stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import ImproperUniform, MaskedDistribution
from torch import Tensor
from torch.distributions import Independent

from pyro_ebm.shapes import joint_shape

from .layout import Site

# Positions at which masked elements are looked at.
_PROBES = 3
_PROBE_SEED = 21


class Glimpse(NamedTuple):
    """A model at one position: log density, log determinants by latent site, nodes by site."""

    log_density: Tensor
    log_det: Mapping[str, Tensor]
    nodes: Mapping[str, Any]


def find_unweighed(
    sites: Sequence[Site], like: Tensor, look: Callable[[Tensor], Glimpse]
) -> dict[str, Tensor]:
    """By site which elements of its unmasked distribution are masked out and weighed by nothing.

    At some positions the density of all the rest has no gradient along them, and does not change
    when they jump.

    :param sites: the masked latent sites.
    :param like: a flat position.
    :raises ValueError: such elements whose own distribution is not normalised.
    """
    found: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    for _ in range(_PROBES if sites else 0):
        unit = torch.rand(
            like.shape, generator=generator, dtype=like.dtype, device=generator.device
        )
        position = (4 * unit - 2).to(like.device)
        for site in sites:
            out, weighed = _weighed(site, position, look)
            # Never out or once weighed: no.
            known = found.setdefault(site.name, torch.zeros_like(out, dtype=torch.int8))
            found[site.name] = torch.where(weighed, -1, torch.where(out & (known == 0), 1, known))
    unweighed = {name: state > 0 for name, state in found.items() if bool((state > 0).any())}
    nodes = look(like).nodes if unweighed else {}
    for name in unweighed:
        _check_own_density(nodes[name])
    return unweighed


def _weighed(
    site: Site, position: Tensor, look: Callable[[Tensor], Glimpse]
) -> tuple[Tensor, Tensor]:
    """Which elements [*batch] are masked out at a position, and which of them something weighs."""
    with torch.enable_grad():
        z = position.clone().requires_grad_()
        here = look(z)
        rest = here.log_density - here.log_det[site.name]
        gradient = None
        if rest.requires_grad:
            (gradient,) = torch.autograd.grad(rest, z, allow_unused=True)
    node = here.nodes[site.name]
    batch = site.shape[: len(site.shape) - _unwrapped(node)[0].event_dim]
    out = masked_out(node, batch)
    if site.unconstrained_shape[: len(batch)] != batch:
        return out, out
    slope = torch.zeros_like(position) if gradient is None else gradient
    weighed = out & (slope[site.slice].reshape((*batch, -1)) != 0).any(-1)
    free = (out & ~weighed).reshape(-1, 1).expand(-1, site.size // max(1, batch.numel()))
    jumped = position.clone()
    jumped[site.slice] = torch.where(free.flatten(), -3 * position[site.slice], jumped[site.slice])
    with torch.no_grad():
        there = look(jumped)
        moved = there.log_density - there.log_det[site.name]
    tolerance = 1e3 * torch.finfo(rest.dtype).eps
    if not torch.allclose(rest, moved, rtol=tolerance, atol=tolerance):
        return out, out
    return out, weighed


def is_masked(node: Mapping[str, Any]) -> bool:
    """Whether a handler or its distribution masks a site."""
    return not all(mask is True for mask, _ in _unwrapped(node)[1])


def counts(node: Mapping[str, Any]) -> Tensor:
    """Which elements of a site's unmasked distribution enter the density; it broadcasts."""
    _, masks, depth = _unwrapped(node)
    found = torch.ones((), dtype=torch.bool, device=node["value"].device)
    for mask, above in masks:
        own = torch.as_tensor(mask, device=found.device).bool()
        found = found & own.reshape((*own.shape, *[1] * (depth - above)))
    return found


def counted_points(node: Mapping[str, Any]) -> Tensor:
    """Which points [*batch] of a site enter the density with any of their elements."""
    fn, _, depth = _unwrapped(node)
    whole = counts(node)
    whole = whole.expand(joint_shape(whole.shape, fn.batch_shape))
    return whole.flatten(whole.dim() - depth).any(-1) if depth else whole


def masked_out(node: Mapping[str, Any], batch: torch.Size) -> Tensor:
    """Which elements [*batch] of a site are out of the density in all enumerated states.

    :param batch: the batch shape of the unmasked distribution, without enumerated axes.
    """
    counted = counts(node)
    states = counted.dim() - len(batch)
    if states > 0:
        counted = counted.flatten(0, states - 1).any(0)
    return ~counted.expand(batch)


def own_density(node: Mapping[str, Any], unweighed: Tensor) -> Tensor:
    """The prior log density of the masked elements among some, [*batch], zero for the others."""
    fn, _, depth = _unwrapped(node)
    log_prob = fn.log_prob(node["value"])
    log_prob = torch.where(unweighed & ~counts(node), log_prob, torch.zeros_like(log_prob))
    return log_prob.flatten(log_prob.dim() - depth).sum(-1) if depth else log_prob


def _check_own_density(node: Mapping[str, Any]) -> None:
    """Refuse masked elements that nothing weighs where their own density is none.

    :raises ValueError: an improper or unnormalised distribution.
    """
    fn = _unwrapped(node)[0]
    if isinstance(fn, ImproperUniform) or not getattr(fn, "normalized", True):
        raise ValueError(
            f"Elements of the latent site '{node['name']}' are masked out, and nothing else "
            "depends on them, so that their density is flat; their own distribution is not "
            "normalised and cannot take its place. Leave these elements out of the model, or give "
            "them a normalised prior."
        )


def _unwrapped(node: Mapping[str, Any]) -> tuple[Any, list[tuple[Any, int]], int]:
    """The distribution below masks and reinterpreted dimensions.

    Beside it the masks, each with the number of dimensions reinterpreted above it, and the number
    of all of them.
    """
    fn, depth = node["fn"], 0
    masks = [(True if node["mask"] is None else node["mask"], 0)]
    while isinstance(fn, MaskedDistribution | Independent):
        if isinstance(fn, MaskedDistribution):
            masks.append((fn._mask, depth))
        else:
            depth += fn.reinterpreted_batch_ndims
        fn = fn.base_dist
    return fn, masks, depth
