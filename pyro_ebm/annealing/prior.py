"""The prior of a model as a base: drawn from by running the model forwards.

This needs a prior that is normalised and has samplers: no improper or unnormalised latent site, and
none that is masked or scaled, as those are not drawn from as they weigh.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from pyro_ebm.target import Target
from pyro_ebm.target.program import ModelProgram
from pyro_ebm.target.side import Side

from .normalised import is_energy, why_not_as_drawn
from .path import Base
from .random import seeded


def prior_base(target: Target) -> Base | None:
    """The prior as a base, None when it cannot be drawn from as it weighs."""
    program = target.program
    if not isinstance(program, ModelProgram):
        return None
    nodes = cast(Mapping[str, Any], program.first_trace.nodes)
    latent = [nodes[site.name] for site in target.sites]
    summed = [nodes[name] for name in target.marginalised]
    if any(is_energy(node["fn"]) or why_not_as_drawn(node) for node in latent + summed):
        return None
    if not any(node["is_observed"] for node in nodes.values() if node["type"] == "sample"):
        return None

    sample = seeded(lambda n: prior_draws(target, program, n))

    def log_density_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        side = Side(beta=positions.new_zeros(positions.shape[1]))
        return target.log_density_and_gradient(positions, side)

    try:
        drawn = sample(2, torch.Generator(target.device).manual_seed(0))
    except Exception:  # a sampler that is missing says so in many ways
        return None
    if not bool(drawn.isfinite().all()):
        return None
    return Base(log_density_and_gradient, sample, "the model's prior")


def prior_draws(target: Target, program: ModelProgram, n: int) -> Tensor:
    """Unconstrained positions [dim, n] of independent draws from the prior."""

    def once(_: Tensor) -> Tensor:
        with pyro.validation_enabled(False), poutine.block():
            trace = poutine.trace(program.user_model).get_trace(*program.args, **program.kwargs)
        nodes = cast(Mapping[str, Any], trace.nodes)
        parts = []
        for site in target.sites:
            node = nodes[site.name]
            if site.name in program.transforms:
                free = program.transforms[site.name](node["value"])
            else:
                free = biject_to(node["fn"].support).inv(node["value"])
            parts.append(cast(Tensor, free).reshape(-1).to(target.dtype))
        return torch.cat(parts)

    count = torch.zeros(n, device=target.device)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            return torch.func.vmap(once, randomness="different")(count).T.contiguous()
    except Exception:  # vmap raises whatever the model's operations raise
        return torch.stack([once(each) for each in count], dim=1)
