"""Discrete sites that were summed out, drawn back from their exact distribution given the rest.

Let log Z(w) be the log density with a weight w added to one site's log probabilities. Its gradient
at 0 is that site's distribution given the continuous sites and the data, whatever the structure of
the model: chains of states, plates, several sites. Site after site is drawn from it and then fixed
(weight -inf on all other values), plates outside first, so that the elements of a plate are
independent given what is fixed already. All draws go through at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pyro
import torch
from jaxtyping import Shaped
from pyro import poutine
from torch import Tensor

from .enumeration import is_subsample, marginal_log_density
from .layout import split, vectorised_plates
from .program import NO_SIDE, ModelProgram
from .target import Target

# Numbers held at once.
_NUMBERS = 2**22


def draw_discrete(
    target: Target,
    positions: Shaped[Tensor, "*batch dim"],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """One draw of every marginalised site at each position, [*batch, *site shape] by site."""
    program = target.described
    if not isinstance(program, ModelProgram) or not program.marginalised:
        return {}
    batch = positions.shape[:-1]
    flat = target.to_unconstrained(positions.reshape(-1, target.dim))
    chunk = max(1, _NUMBERS // target.numbers_in_memory)
    parts = [_draw_rows(target, program, rows, generator) for rows in flat.split(chunk)]
    return {
        name: torch.cat([part[name] for part in parts]).reshape(batch + parts[0][name].shape[1:])
        for name in program.marginalised
    }


def _draw_rows(
    target: Target,
    program: ModelProgram,
    rows: Tensor,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    def log_density(weights: dict[str, Tensor], position: Tensor) -> Tensor:
        _, trace = program.execute(split(program.sites, position), NO_SIDE)
        with pyro.validation_enabled(False):
            log_factors = _log_factors(program, trace)
            for name, weight in weights.items():
                log_factors[name] = log_factors[name] + weight
            trace.symbolize_dims()
            return marginal_log_density(trace, log_factors)

    met = cast(Mapping[str, Any], program.first_trace.nodes)
    nodes = {name: met[name] for name in program.marginalised}
    shapes = {name: _weight_shape(node) for name, node in nodes.items()}
    weights = {name: rows.new_zeros(len(rows), *shape) for name, shape in shapes.items()}
    order = sorted(nodes, key=lambda name: len(vectorised_plates(nodes[name]["cond_indep_stack"])))
    found = {}
    gradient = torch.func.grad(log_density)
    for name in order:

        def marginal(weight: Tensor, others: dict, position: Tensor, name: str = name) -> Tensor:
            return gradient({**others, name: weight}, position)[name]

        others = {other: weight for other, weight in weights.items() if other != name}
        arguments = (weights[name], others, rows)
        with torch.no_grad():
            if target.vectorized:
                probabilities = torch.func.vmap(marginal)(*arguments)
            else:
                probabilities = torch.stack(
                    [
                        marginal(weight, {k: v[i] for k, v in others.items()}, rows[i])
                        for i, weight in enumerate(weights[name])
                    ]
                )
        # [row, state, 1, ..., *plates]: the states of an enumerated site come first.
        states = shapes[name][0]
        cumulative = probabilities.clamp(min=0).cumsum(1)
        uniform = torch.rand(
            (len(rows), 1, *shapes[name][1:]),
            generator=generator,
            dtype=rows.dtype,
            device=rows.device,
        )
        index = (cumulative <= uniform * cumulative[:, -1:]).sum(1).clamp(max=states - 1)
        chosen = torch.arange(states, device=rows.device).reshape(-1, *[1] * (index.dim() - 1))
        fixed = torch.where(chosen == index[:, None], 0.0, -torch.inf)
        weights[name] = fixed.to(rows.dtype)
        found[name] = _values(nodes[name], index)
    return found


def _log_factors(program: ModelProgram, trace: poutine.Trace) -> dict[str, Tensor]:
    found = {}
    for name, node in cast(Mapping[str, Any], trace.nodes).items():
        if node["type"] != "sample" or is_subsample(node) or not program.has_density(name):
            continue
        found[name] = program.log_factor(name, node)
    return found


def _weight_shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    """States on the site's own enumerated axis, its plates on theirs, one elsewhere."""
    axis = node["infer"]["_enumerate_dim"]
    shape = [1] * -axis
    shape[0] = _support(node).shape[0]
    for plate in vectorised_plates(node["cond_indep_stack"]):
        shape[plate.dim] = plate.size
    return tuple(shape)


def _support(node: Mapping[str, Any]) -> Tensor:
    """The values of an enumerated site, [states, *event]."""
    event = node["value"].shape[node["value"].dim() - node["fn"].event_dim :]
    return node["value"].reshape(-1, *event)


def _values(node: Mapping[str, Any], index: Tensor) -> Tensor:
    """The values of chosen states [row, 1, ..., *plates], as [row, *batch, *event]."""
    plates = vectorised_plates(node["cond_indep_stack"])
    depth = max((-plate.dim for plate in plates), default=0)
    batch = index.shape[index.dim() - depth :] if depth else ()
    return _support(node)[index.reshape(index.shape[0], *batch)]
