"""Draws and figures of a run by site, as Pyro gives them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_ebm.diagnostics import ess_bulk, split_rhat

from .record import RunRecord


def get_samples(
    record: RunRecord, num_samples: int | None = None, *, group_by_chain: bool = False
) -> dict[str, Tensor]:
    """Draws of the latent sites, constrained: [chain * draw, ...] or, by chain, [chain, draw, ...].

    :param num_samples: draw this many of them with replacement.
    """
    values = _latents(record)
    if not group_by_chain:
        values = {name: value.flatten(0, 1) for name, value in values.items()}
    if num_samples is None:
        return values
    chains, draws = record.positions.shape[:2]
    size = draws if group_by_chain else chains * draws
    chosen = torch.randint(size, (num_samples,)).to(record.positions.device)
    axis = 1 if group_by_chain else 0
    return {name: value.index_select(axis, chosen) for name, value in values.items()}


def _latents(record: RunRecord) -> dict[str, Tensor]:
    """Latent sites [chain, draw, ...]; mapped where they are on disk."""
    device, sites = record.positions.device, record.target.sites
    if record.stored:
        names = [site.name for site in sites if record.keeps(site.name)]
        return {name: torch.from_numpy(record.stored[name]).to(device) for name in names}
    positions = record.target.complete(record.positions, record.coordinates)
    values = record.target.evaluate(positions).latents
    return {name: value for name, value in values.items() if record.keeps(name)}


def diagnostics(record: RunRecord) -> dict[str, Any]:
    """Per latent site ``n_eff`` and ``r_hat``, and per chain divergences and acceptance."""
    found: dict[str, Any] = {}
    for name, value in get_samples(record, group_by_chain=True).items():
        draws = value.double().cpu().numpy()
        found[name] = {"n_eff": ess_bulk(draws), "r_hat": split_rhat(draws)}
    chains = range(record.num_chains)
    diverging = record.statistics["diverging"].bool()
    rate = record.statistics["acceptance_rate"].mean(1)
    if record.target.continuous_dim > 0:
        found["divergences"] = {f"chain {c}": diverging[c].nonzero()[:, 0].tolist() for c in chains}
    found["acceptance rate"] = {f"chain {c}": float(rate[c]) for c in chains}
    return found
