"""Missing values: drawn given those that were observed, by chains in which these are held.

Chains begin at exact draws of the mixture given the observed coordinates, and are moved by
transitions that leave the energy's conditional distribution invariant. Where the energy is that of
the mixture there is nothing to move.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .mixture_base import MixtureBase
from .row_chains import EnergyOfRows, RowChains


class Filled(NamedTuple):
    """``draws`` [m, n, dim] are completed rows, ``acceptance`` the rate of the trajectories."""

    draws: Tensor
    acceptance: float


def filled_rows(
    energy: EnergyOfRows,
    rows: Float[Tensor, "n dim"],
    base: MixtureBase,
    *,
    num_draws: int,
    transitions: int,
    generator: torch.Generator,
) -> Filled:
    """Rows with what is missing drawn from exp(-energy) given the rest.

    :param rows: with NaN where a value is missing.
    :param num_draws: completed copies, each from a chain of its own.
    :param transitions: of every chain; 0 where the energy is that of the mixture.
    """
    missing = rows.isnan()
    some = missing.any(1)
    draws = rows.expand(num_draws, *rows.shape).clone()
    if not bool(some.any()) or not num_draws:
        return Filled(draws, 1.0)
    wanted = rows[some].repeat(num_draws, 1)
    held = ~wanted.isnan()
    begun = conditional_draws(base, wanted, generator)
    if not transitions:
        draws[:, some] = begun.reshape(num_draws, -1, rows.shape[1])
        return Filled(draws, 1.0)
    chains = RowChains(energy, base.num_states)
    state = chains.begin(begun)
    state, acceptance = chains.move(state, transitions, generator, held=held, values=begun)
    done = chains.rows(state, held=held, values=begun)
    draws[:, some] = done.reshape(num_draws, -1, rows.shape[1])
    return Filled(draws, acceptance)


def conditional_draws(
    base: MixtureBase, rows: Float[Tensor, "n dim"], generator: torch.Generator
) -> Float[Tensor, "n dim"]:
    """Rows with missing coordinates drawn from the mixture given the others, exactly."""
    found = rows.clone()
    patterns, which = rows.isnan().unique(dim=0, return_inverse=True)
    for place, missing in enumerate(patterns):
        if bool(missing.any()):
            chosen = which == place
            found[chosen] = _drawn(base, rows[chosen], missing, generator)
    return found


def _drawn(base: MixtureBase, rows: Tensor, missing: Tensor, generator: torch.Generator) -> Tensor:
    """Rows that miss the same coordinates, completed."""
    gone = missing[base.continuous]
    known = ~gone
    x = rows[:, base.continuous]
    log_share = base.log_weights.expand(len(rows), -1).double()
    dense = base.factor.dim() == 3
    factor = base.factor.double()
    covariance = factor @ factor.mT if dense else factor.square()
    mean, apart = base.mean.double(), x[:, None].double() - base.mean.double()
    if bool(known.any()):
        if dense:
            root = torch.linalg.cholesky(covariance[:, known][:, :, known])
            seen = apart[:, :, known].permute(1, 2, 0)
            white = torch.linalg.solve_triangular(root, seen, upper=False)
            log_share = log_share - 0.5 * white.square().sum(1).T
            log_share = log_share - root.diagonal(dim1=1, dim2=2).log().sum(-1)
        else:
            square = apart[:, :, known].square() / covariance[:, known]
            log_share = log_share - 0.5 * (square + covariance[:, known].log()).sum(-1)
    for place, column in enumerate(base.discrete):
        if not bool(missing[column]):
            table = base.log_probabilities[:, place].T.double()
            log_share = log_share + table[rows[:, column].long()]
    share = log_share.softmax(-1)
    component = torch.multinomial(share, 1, generator=generator)[:, 0]
    found = rows.clone()
    kind = {"generator": generator, "dtype": torch.float64, "device": rows.device}
    continuous = torch.tensor(base.continuous, device=rows.device)
    if bool(gone.any()):
        noise = torch.randn(len(rows), int(gone.sum()), **kind)
        drawn = torch.empty_like(noise)
        for k in component.unique():
            at = component == k
            middle = mean[k, gone].expand(int(at.sum()), -1)
            if not dense:
                drawn[at] = middle + covariance[k, gone].sqrt() * noise[at]
                continue
            spread = covariance[k][gone][:, gone]
            if bool(known.any()):
                across = covariance[k][gone][:, known]
                gain = torch.linalg.solve(covariance[k][known][:, known], across.T).T
                middle = middle + apart[at, k][:, known] @ gain.T
                spread = spread - gain @ across.T
            eye = torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
            root, _ = torch.linalg.cholesky_ex(spread + 1e-9 * eye)
            drawn[at] = middle + noise[at] @ root.T
        found[:, continuous[gone]] = drawn.to(found)
    for place, column in enumerate(base.discrete):
        if bool(missing[column]):
            shares = base.log_probabilities[component, place].exp()
            found[:, column] = torch.multinomial(shares, 1, generator=generator)[:, 0].to(found)
    return found
