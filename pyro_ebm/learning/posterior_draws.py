"""Draws of the latents of rows, given the parameters of a model: HMC from where the prior suits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_ebm.diagnostics import ess_mean, split_rhat

from .latents import Latents
from .posterior_chains import StepSize, move_latents

if TYPE_CHECKING:
    from .latent_energy_model import LatentEnergyModel

# Draws of the prior among which chains choose where to start, and rows weighed at a time.
_CANDIDATES, _ROWS = 512, 64


def posterior_draws(
    model: LatentEnergyModel,
    rows: Tensor,
    observed: Tensor | None,
    *,
    num_samples: int,
    warmup_steps: int,
    num_chains: int,
) -> Latents:
    """See :meth:`.LatentEnergyModel.latents`; rows and mask are [n, *event]."""
    generator = torch.Generator(rows.device).manual_seed(int(torch.randint(2**62, ())))
    z = _starts(model, rows, observed, num_chains, generator).flatten(0, 1)
    whole = rows.repeat(num_chains, *[1] * (rows.dim() - 1))
    every = None if observed is None else observed.repeat(num_chains, *[1] * (rows.dim() - 1))

    def log_joint(latents: Tensor) -> Tensor:
        return model.log_joint(whole, latents, every)

    moved = move_latents(log_joint, z, StepSize(), transitions=warmup_steps, generator=generator)
    draws, acceptance = [], 0.0
    for _ in range(num_samples):
        moved = move_latents(
            log_joint,
            moved.latents,
            moved.step_size,
            transitions=1,
            generator=generator,
            adapt=False,
        )
        draws.append(moved.latents)
        acceptance += moved.acceptance / num_samples
    stacked = torch.stack(draws).unflatten(1, (num_chains, len(rows))).transpose(0, 1)
    return Latents(stacked, split_rhat(stacked), ess_mean(stacked), acceptance)


def _starts(
    model: LatentEnergyModel,
    rows: Tensor,
    observed: Tensor | None,
    number: int,
    generator: torch.Generator,
) -> Tensor:
    """Latents [number, n, d]: of many draws of the prior, those that suit each row by chance of
    their likelihoods."""
    with torch.no_grad():
        candidates = model.prior.sample((_CANDIDATES,))
        given = model.given(candidates)
        starts = []
        for first in range(0, len(rows), _ROWS):
            part = rows[first : first + _ROWS, None]
            entries = given.log_prob(part)
            if observed is not None:
                entries = torch.where(observed[first : first + _ROWS, None], entries, 0.0)
            shares = entries.flatten(2).sum(2).softmax(1)
            which = torch.multinomial(shares, number, True, generator=generator)
            starts.append(candidates[which])
        return torch.cat(starts).transpose(0, 1)
