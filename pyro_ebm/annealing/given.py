"""Bases that a user gives: a distribution, a flow, a guide of Pyro's, or a finished MCMC run.

A distribution over the values of the one site of a target is taken as it stands, and draws outside
of the site's support count as lost. One over vectors of as many numbers as the target has
coordinates is a density of the unconstrained coordinates, in the order of ``Target.sites``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoContinuous
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to, constraints

from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.recording import is_recording
from pyro_ebm.target import Target
from pyro_ebm.target.program import ModelProgram, Terms
from pyro_ebm.target.side import Side
from pyro_ebm.target.vectorize import looped, traced, vectorized

from .autoregressive import WIDEN, autoregressive_base, fit_autoregression
from .families import independent
from .normalised import why_no_base, why_not_as_drawn
from .path import Base
from .random import seeded

# A finished run may hold far more draws than a fit needs.
_MOST_DRAWS = 20_000
_PROBES = 16


def given_base(target: Target, base: Any, args: tuple, kwargs: dict[str, Any]) -> Base:
    """What the user gave, as a base for this target.

    :param args: the model's arguments, which a guide takes too.
    :raises TypeError: nothing that a base can be made of.
    :raises ValueError: a distribution over events of another shape.
    """
    if isinstance(base, Base):
        return base
    if isinstance(base, MCMC):
        return run_base(target, base)
    if isinstance(base, AutoContinuous):
        return _autoguide_base(target, base)
    if isinstance(base, nn.Module) and not isinstance(base, Distribution):
        made = base() if _takes_nothing(base) else None
        if isinstance(made, Distribution):
            return _distribution_base(target, made, f"the given flow {type(base).__name__}")
    if isinstance(base, Distribution):
        return _distribution_base(target, base, f"the given {type(base).__name__}")
    if callable(base):
        return _guide_base(target, base, args, kwargs)
    raise TypeError(
        'expected base to be "auto", a distribution, a flow, a guide or a finished MCMC run, got '
        f"{type(base).__name__}."
    )


def run_base(target: Target, run: MCMC) -> Base:
    """A density fitted to the draws of a finished run."""
    record = run.record
    if not record.keeps_all or record.positions.shape[-1] != target.dim:
        raise ValueError(
            f"expected a run that kept all {target.dim} coordinates of this model, got one with "
            f"{record.positions.shape[-1]}. Run it on the same model, without sites=."
        )
    flat = record.positions.reshape(-1, target.dim)
    rows = moved(record.target, target, flat[:: max(1, len(flat) // _MOST_DRAWS)])
    draws = rows.T.to(target.dtype)
    fit = fit_autoregression(independent(draws))
    return autoregressive_base(fit, widen=WIDEN, description="a density fitted to the given run")


def moved(before: Target, target: Target, positions: Tensor) -> Tensor:
    """Positions [*batch, dim] of a run of the same model in the coordinates of this target."""
    return target.from_unconstrained(before.to_unconstrained(positions).to(target.dtype))


def _distribution_base(target: Target, given: Distribution, description: str) -> Base:
    reason = why_no_base(given)
    if reason is not None:
        raise ValueError(
            "expected base to be a normalised distribution of continuous values, as log Z is told "
            f"from it, got {type(given).__name__}: {reason}."
        )
    event, dim = tuple(given.event_shape), target.dim
    if given.batch_shape:
        given = torch.distributions.Independent(given, len(given.batch_shape))
        event = tuple(given.event_shape)
    site = target.sites[0]
    one = len(target.sites) == 1 and event == tuple(site.shape)
    # Where a transport stands between, values are not positions.
    if one and (
        target.described is not target.program or not _is_real(_support(target, site.name))
    ):
        return _site_base(target, given, description)
    if one or event == (dim,):
        return _flat_base(target, given, description)
    shapes = {each.name: tuple(each.shape) for each in target.sites}
    raise ValueError(
        f"expected a base over {shapes} (one site) or over vectors of the {dim} unconstrained "
        f"coordinates, got a distribution over events of shape {event}."
    )


def _flat_base(target: Target, given: Distribution, description: str) -> Base:
    """A distribution of the unconstrained coordinates themselves, evaluated at all of them at once:
    flows that integrate or search for an inverse cannot be mapped from one position to many."""
    with torch.random.fork_rng([]):
        drawn: Any = given.sample()

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        with _unchecked(given), torch.enable_grad():
            z = positions.detach().requires_grad_()
            value: Any = given.log_prob(z.T.reshape(-1, *given.event_shape).to(drawn.dtype))
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach().to(target.dtype), gradient.contiguous()

    def draw(n: int) -> Tensor:
        drawn: Any = given.sample(torch.Size((n,)))
        return drawn.reshape(n, -1).T.to(target.dtype).contiguous()

    sample = seeded(draw)
    near = sample(_PROBES, torch.Generator(target.device).manual_seed(0))
    held = _recordable(log_density_and_gradient, near)
    evaluate = log_density_and_gradient if held else _as_is(log_density_and_gradient)
    return Base(evaluate, sample, description)


def _recordable(evaluate: Callable, near: Tensor) -> bool:
    """Whether a recording at positions [dim, n] holds elsewhere: indexing by a mask does not."""
    near = near.nan_to_num()
    far = near * torch.logspace(-1, 3, near.shape[1], dtype=near.dtype, device=near.device)
    try:
        pairs = zip(traced(evaluate, near)(far), evaluate(far), strict=True)
        return all(torch.allclose(a, b, rtol=1e-3, equal_nan=True) for a, b in pairs)
    except RuntimeError:
        return False


def _as_is(evaluate: Callable) -> Callable:
    """The same, and whoever records it is told, by the error that is caught there, not to."""

    def unrecorded(positions: Tensor) -> tuple[Tensor, Tensor]:
        if is_recording():
            raise RuntimeError("The density of this base branches on values.")
        return evaluate(positions)

    return unrecorded


def _site_base(target: Target, given: Distribution, description: str) -> Base:
    """A distribution of the values of the target's one site."""
    site = target.sites[0]

    def log_density(terms: Terms) -> Tensor:
        with _unchecked(given):
            value: Any = given.log_prob(terms.latents[site.name])
        return value

    def draw(n: int) -> Tensor:
        value: Any = given.sample(torch.Size((n,)))
        return unconstrained(target, {site.name: value})

    return Base(_through_sites(target, log_density), seeded(draw), description)


def _guide_base(target: Target, guide: Callable, args: tuple, kwargs: dict[str, Any]) -> Base:
    """A guide written by hand, with the sites of the model and none besides."""
    with torch.no_grad(), poutine.block():
        trace: Any = poutine.trace(guide).get_trace(*args, **kwargs)
    found = {name for name, node in trace.nodes.items() if _is_drawn(node)}
    wanted = {site.name for site in target.sites}
    if found != wanted:
        raise ValueError(
            f"expected a guide that samples {sorted(wanted)} and nothing besides, got one with "
            f"{sorted(found)}. An AutoGuide of Pyro's may have auxiliary sites; a guide may not."
        )

    _check_guide(trace.nodes)

    def log_density(terms: Terms) -> Tensor:
        with pyro.validation_enabled(False), poutine.block():
            conditioned = poutine.condition(guide, data=terms.latents)
            run: Any = poutine.trace(conditioned).get_trace(*args, **kwargs)
            total: Any = run.log_prob_sum()
        return total

    def draw(n: int) -> Tensor:
        rows = []
        for _ in range(n):
            with poutine.block():
                run: Any = poutine.trace(guide).get_trace(*args, **kwargs)
            values = {name: run.nodes[name]["value"][None] for name in wanted}
            rows.append(unconstrained(target, values))
        return torch.cat(rows, dim=1)

    return Base(_through_sites(target, log_density), seeded(draw), "the given guide")


def _check_guide(nodes: Mapping[str, Any]) -> None:
    for name, node in nodes.items():
        if node["type"] != "sample" or node["name"] == "_INPUT":
            continue
        reason = "it is a factor or observed" if node["is_observed"] else why_not_as_drawn(node)
        if reason is not None:
            raise ValueError(
                "expected a guide that weighs as it draws, as log Z is told from it; at site "
                f"'{name}', {reason}."
            )


def _autoguide_base(target: Target, guide: AutoContinuous) -> Base:
    """A guide over one flat unconstrained vector, its coordinates put in the target's order."""
    if guide.prototype_trace is None:
        raise ValueError("expected a trained guide, got one that has not been called yet.")
    shapes = {name: shape.numel() for name, shape in guide._unconstrained_shapes.items()}
    wanted = {site.name: site.size for site in target.sites}
    if shapes != wanted:
        raise ValueError(f"expected a guide over {wanted} coordinates, got one over {shapes}.")
    starts, offset = {}, 0
    for name, size in shapes.items():
        starts[name], offset = offset, offset + size
    ranges = [(starts[site.name], starts[site.name] + site.size) for site in target.sites]
    order = torch.cat([torch.arange(*each, device=target.device) for each in ranges])
    back = torch.argsort(order)
    with torch.no_grad():
        posterior: Any = guide.get_posterior()

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = positions.detach().requires_grad_()
            value = posterior.log_prob(z.index_select(0, back).T)
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient.contiguous()

    def draw(n: int) -> Tensor:
        drawn = posterior.sample(torch.Size((n,)))
        return drawn.T.index_select(0, order).to(target.dtype).contiguous()

    return Base(log_density_and_gradient, seeded(draw), f"the given {type(guide).__name__}")


def _through_sites(target: Target, log_density: Callable[[Terms], Tensor]) -> Callable:
    """Batched density and gradient of a density of constrained values, Jacobian included."""

    def single(position: Tensor, side: Side) -> Tensor:
        terms = target.program.run(position, side)
        return log_density(terms) + terms.log_det

    return (vectorized if target.vectorized else looped)(single)


def unconstrained(target: Target, values: dict[str, Tensor]) -> Tensor:
    """Positions [dim, n] of constrained values [n, *shape]; NaN where one is outside."""
    parts = []
    for site in target.sites:
        value = values[site.name].to(target.dtype)
        support = _support(target, site.name)
        inside = support.check(value).reshape(len(value), -1).all(1)
        free: Any = biject_to(support).inv(value)
        free = free.reshape(len(value), -1)
        parts.append(torch.where(inside[:, None] & free.isfinite(), free, torch.nan))
    return target.from_unconstrained(torch.cat(parts, dim=1)).T.contiguous()


def _support(target: Target, name: str) -> Any:
    program: Any = target.described
    if isinstance(program, ModelProgram):
        node: Any = program.first_trace.nodes[name]
        return node["fn"].support
    return program.energy.support


def _is_real(support: Any) -> bool:
    """Whether the values of a site are its unconstrained coordinates."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return isinstance(support, type(constraints.real))


@contextmanager
def _unchecked(given: Distribution) -> Iterator[None]:
    """A distribution, and those inside it, without checks of values: what is outside has no density
    here, and a check would be a branch on tensors."""
    inside: list[Any] = [given]
    while hasattr(inside[-1], "base_dist"):
        inside.append(inside[-1].base_dist)
    before = [each._validate_args for each in inside]
    for each in inside:
        each._validate_args = False
    try:
        yield
    finally:
        for each, value in zip(inside, before, strict=True):
            each._validate_args = value


def _takes_nothing(module: nn.Module) -> bool:
    try:
        module()
    except TypeError:
        return False
    return True


def _is_drawn(node: Any) -> bool:
    return node["type"] == "sample" and not node["is_observed"] and node["name"] != "_INPUT"
