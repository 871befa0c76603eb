"""Where chains start: at random, where the user says, or where an earlier run has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import init_to_uniform
from torch import Tensor

from pyro_ebm.diagnostics import NESTED_FROM_CHAINS
from pyro_ebm.optimize import lbfgs
from pyro_ebm.target import Target

_SUPERCHAINS = 8
# From so many chains on the slowest way in holds up enough others to be shortened. A start may lie
# so many standard deviations out in every coordinate; evaluations of one search at most.
_MANY_CHAINS, _FAR_OUT, _EVALUATIONS = 16, 3.0, 200


class Starts(NamedTuple):
    """Starting positions [dim, chains], and the superchain of every chain where they share some."""

    positions: Tensor
    superchains: Tensor | None = None


def initial_starts(
    target: Target,
    num_chains: int,
    *,
    strategy: Callable,
    generator: torch.Generator,
    uphill: bool = True,
) -> Starts:
    """Starts by one of Pyro's strategies: shared ones where nested R-hat can judge the chains.

    Random starts of many chains are brought near what is sampled, if ``uphill`` leads there.
    """
    number = num_chains if num_chains < NESTED_FROM_CHAINS else _SUPERCHAINS
    points = target.initial_positions(number, strategy=strategy, generator=generator)
    if uphill and num_chains >= _MANY_CHAINS and _is_uniform(strategy) and target.continuous_dim:
        points = brought_near(target, points)
    if number == num_chains:
        return Starts(points)
    ids = torch.arange(num_chains) * _SUPERCHAINS // num_chains
    return Starts(points[:, ids.to(points.device)].contiguous(), ids)


def _is_uniform(strategy: Callable) -> bool:
    return (strategy.func if isinstance(strategy, partial) else strategy) is init_to_uniform


def brought_near(target: Target, points: Tensor) -> Tensor:
    """Points [dim, n] moved uphill until they lie a few standard deviations from a mode.

    A draw x of a Gaussian with covariance S has x' S^-1 x = g' S g of about dim, with its gradient
    g. L-BFGS stops where this is nine times as much, by the S it has learned: far from the modes
    yet, as starts should be dispersed wider than the draws, and far from a spike of the density.
    A point from where the density rises without end stays where it is.

    Source: Zhang, Carpenter, Gelman, Vehtari (2022), Pathfinder: parallel quasi-Newton variational
    inference, for the way there.
    """

    def energy(positions: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = target.in_pieces(positions)
        # States have no gradient, and stay.
        return -value, -gradient

    found = lbfgs(
        energy,
        points,
        max_evaluations=_EVALUATIONS,
        decrement=_FAR_OUT**2 * target.dim,
    )
    return torch.where(found.unbounded, points, found.positions)


def starts_after(target: Target, before: Target, last: Tensor, num_chains: int) -> Starts:
    """The last positions [dim, chains] of a run on another target of the same sites.

    :raises ValueError: it has other sites or coordinates, or the density vanishes there.
    """
    theirs, own = (
        ", ".join(f"{site.name} {tuple(site.shape)}" for site in each.sites)
        for each in (before, target)
    )
    if theirs != own or last.shape[0] != target.dim:
        raise ValueError(
            f"warmup_from= has the latent sites {theirs} and this model {own}: warm starts need "
            "the same."
        )
    points = last.T.to(target.dtype)
    there = before.to_unconstrained(last.T).to(points)
    if not torch.allclose(there, target.to_unconstrained(points), 1e-3, 1e-3):
        raise ValueError(
            "warmup_from= has run in other coordinates, through another flow or none: what it has "
            "learned holds in its own alone."
        )
    order = torch.arange(num_chains, device=last.device) % last.shape[1]
    start = last[:, order].to(target.dtype)
    _check(target, start, "The last positions of warmup_from=")
    return Starts(start)


def given_starts(target: Target, initial_params: Mapping[str, Tensor], num_chains: int) -> Starts:
    """The user's unconstrained starts.

    :raises ValueError: they are for another number of chains, or the density vanishes there.
    """
    positions = target.unconstrain(initial_params)
    if positions.dim() == 1:
        positions = positions.expand(num_chains, -1)
    if positions.shape != (num_chains, target.dim):
        raise ValueError(
            "The leading axis of every tensor in initial_params must be the chains: expected "
            f"({num_chains}, ...), got shapes "
            f"{ {name: tuple(value.shape) for name, value in initial_params.items()} }."
        )
    start = positions.T.contiguous()
    _check(target, start, "initial_params")
    return Starts(start)


def one_chain_of(initial_params: Mapping[str, Tensor], num_chains: int) -> Mapping[str, Tensor]:
    """One chain's worth of initial_params, for a potential_fn whose shapes they give."""
    if num_chains == 1:
        return initial_params
    for name, value in initial_params.items():
        if value.dim() == 0 or value.shape[0] != num_chains:
            raise ValueError(
                f"initial_params['{name}'] has shape {tuple(value.shape)}; its leading axis "
                f"must be the {num_chains} chains."
            )
    return {name: value[0] for name, value in initial_params.items()}


def validate(target: Target, position: Tensor) -> None:
    """Run the user's model once at a start with validation on."""
    program: Any = target.described
    model = getattr(program, "user_model", None)
    if model is None:
        return
    values = target.evaluate(position).latents
    with pyro.validation_enabled(True), poutine.block():
        conditioned = poutine.condition(model, data=values)
        trace = poutine.trace(conditioned).get_trace(*program.args, **program.kwargs)
        trace.compute_log_prob()


def _check(target: Target, start: Tensor, whose: str) -> None:
    """A chain goes nowhere from a start [dim, chains] without a finite density and gradient."""
    value, gradient = target.in_pieces(start)
    good = value.isfinite()
    if target.num_states is None:
        good = good & gradient.isfinite().all(0)
    if not bool(good.all()):
        raise ValueError(
            f"{whose} give a log density of {value[~good].tolist()} for chains "
            f"{(~good).nonzero()[:, 0].tolist()}; a start needs a finite density and gradient."
        )
