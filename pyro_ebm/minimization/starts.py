"""Where a search for minima begins: dispersed positions, or configurations that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor

from pyro_ebm.target.discrete import DiscreteProgram

from .problem import Problem


def start_positions(problem: Problem, starts: Any) -> Tensor:
    """Flat positions [dim, runs].

    Args:
        starts: a number of dispersed starts, or the configurations themselves.

    Raises:
        TypeError: another type.
        ValueError: a number below 1; configurations of another shape, outside the support, or where
            the energy is not finite.
    """
    if isinstance(starts, int) and not isinstance(starts, bool):
        if starts < 1:
            raise ValueError(f"expected at least one start, got {starts}.")
        return problem.target.initial_positions(starts)
    values = _by_site(problem, starts)
    if isinstance(problem.target.program, DiscreteProgram):
        return problem.target.program.indices(values).T.contiguous()
    number = len(next(iter(values.values())))
    columns = [_one(problem, values, row) for row in range(number)]
    return torch.cat(columns, dim=1)


def _one(problem: Problem, values: Mapping[str, Tensor], row: int) -> Tensor:
    chosen = {name: value[row] for name, value in values.items()}
    try:
        return problem.target.initial_positions(1, strategy=init_to_value(values=chosen))
    except ValueError as error:
        raise ValueError(f"expected starts inside the support, start {row}: {error}") from error


def _by_site(problem: Problem, starts: Any) -> dict[str, Tensor]:
    """Starting values [runs, *shape] of every latent site."""
    sites = {site.name: site for site in problem.target.sites}
    if problem.bare and isinstance(starts, Tensor):
        if problem.clamped is not None:
            event = problem.clamped.energy.event_shape
            _check_shape("starts", starts, event)
            starts = problem.clamped.free(starts)
        starts = {"x": starts}
    if not isinstance(starts, Mapping):
        wanted = "a tensor [n, *event]" if problem.bare else "a dictionary {site: [n, *shape]}"
        raise TypeError(f"expected starts to be a number or {wanted}, got {type(starts).__name__}.")
    if set(starts) != set(sites):
        raise ValueError(
            f"expected starts for each of the latent sites {sorted(sites)}, got {sorted(starts)}."
        )
    values = {}
    for name, site in sites.items():
        value = torch.as_tensor(starts[name], dtype=site.dtype, device=site.device)
        _check_shape(f"starts of '{name}'", value, site.shape)
        values[name] = value
    if len({len(value) for value in values.values()}) > 1:
        counts = {name: len(value) for name, value in values.items()}
        raise ValueError(f"expected equally many starts of every site, got {counts}.")
    return values


def _check_shape(what: str, value: Tensor, shape: torch.Size) -> None:
    if value.dim() != len(shape) + 1 or value.shape[1:] != shape or not len(value):
        expected = ", ".join(["n", *map(str, shape)])
        raise ValueError(
            f"expected {what} of shape [{expected}] with n at least 1, got {tuple(value.shape)}."
        )
