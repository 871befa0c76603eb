"""Data for a flow: finite rows, some of them held out, and the scale of their columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.numeric import as_numbers

_LEAST_ROWS = 10


class Rows(NamedTuple):
    """Rows to train on and rows held out, [n, dim]."""

    train: Tensor
    held_out: Tensor

    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the columns that are trained on.

        :raises ValueError: a column that is constant.
        """
        loc, scale = self.train.mean(0), self.train.std(0)
        flat = scale <= 10 * torch.finfo(loc.dtype).eps * loc.abs()
        if bool(flat.any()):
            raise ValueError(
                f"expected columns that vary, got constant ones, {flat.nonzero()[:, 0].tolist()}: "
                "a flow has no density there. Leave them out."
            )
        return loc, scale


def split_rows(data: Any, held_out: Any, generator: torch.Generator) -> Rows:
    """Data or a finished run in two parts.

    :param held_out: a fraction of the rows, drawn at random, or rows [m, dim]. Of a run with two
        chains and more whole chains are held out, as draws of one chain are alike; of one chain
        its last draws.
    :raises TypeError, ValueError: other data; nothing left on either side.
    """
    rows = _run_rows(data) if isinstance(data, MCMC) else _checked("data", data)[None]
    dim = rows.shape[-1]
    if not isinstance(held_out, bool | int | float | str | None):
        kept = _checked("held_out", held_out)
        if kept.shape[1] != dim:
            raise ValueError(f"expected held_out= of {dim} columns, got {kept.shape[1]}.")
        return Rows(_enough(rows.reshape(-1, dim)), kept.to(rows))
    if not isinstance(held_out, float) or not 0.0 < held_out < 1.0:
        raise ValueError(
            f"expected held_out to be a fraction between 0 and 1, or rows, got {held_out!r}."
        )
    if not isinstance(data, MCMC) or len(rows) > 1:
        rows = rows if len(rows) > 1 else rows[0][:, None]
        order = permuted(len(rows), generator).to(rows.device)
        rows = rows[order]
    else:
        # The held-out draws come first, as those of the chains do.
        rows = rows[0].flip(0)[:, None]
    size = max(1, round(held_out * len(rows)))
    return Rows(_enough(rows[size:].reshape(-1, dim)), rows[:size].reshape(-1, dim))


def permuted(number: int, generator: torch.Generator) -> Tensor:
    """The numbers below ``number`` in random order."""
    return torch.randperm(number, generator=generator, device=generator.device)


def _enough(rows: Tensor) -> Tensor:
    if len(rows) < _LEAST_ROWS:
        raise ValueError(
            f"expected at least {_LEAST_ROWS} rows to train on, got {len(rows)}. Give more data, "
            "or hold out less."
        )
    return rows


def _checked(name: str, data: Any) -> Tensor:
    data = as_numbers(name, data)
    if not data.is_floating_point():
        raise TypeError(
            f"expected {name} of real numbers [n, dim], got {data.dtype}. Counts and labels have "
            "no density: add uniform noise to counts, or leave them out. Whole numbers that "
            "measure something are real ones: turn them into floats."
        )
    if data.dim() != 2 or data.shape[1] == 0:
        way_out = "data[:, None] for one column" if data.dim() < 2 else "data.flatten(1)"
        raise ValueError(
            f"expected {name} of shape [n, dim], got {tuple(data.shape)}. Write {way_out}."
        )
    if not bool(data.isfinite().all()):
        bad = (~data.isfinite()).any(1).nonzero()[:, 0]
        raise ValueError(
            f"expected finite numbers, got others in {len(bad)} rows of {name}, the first of them "
            f"{int(bad[0])}. Leave these rows out."
        )
    return data


def _run_rows(run: MCMC) -> Tensor:
    """The unconstrained coordinates [chain, draw, dim] of a run's draws."""
    record = run.record
    target = record.target
    if target.num_states is not None or target.sampled:
        raise ValueError("expected a run of continuous sites alone, got one with discrete states.")
    if not record.keeps_all:
        raise ValueError(
            f"expected a run that kept all {target.dim} coordinates of its model, got one with "
            f"{record.positions.shape[-1]}. Run it without sites=."
        )
    return target.to_unconstrained(record.positions)
