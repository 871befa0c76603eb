"""Learning a latent-variable model: latents of a batch, and a step of everything by them."""

from __future__ import annotations

import copy
import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ebm.mcmc.api.arguments import check_whole

from .posterior_chains import StepSize, move_latents
from .run import DivergedWarning

if TYPE_CHECKING:
    from .latent_energy_model import LatentEnergyModel

_LOOKS = 100


class LatentOptions(NamedTuple):
    """How to learn; see :meth:`.LatentEnergyModel.fit`."""

    num_steps: int
    batch_size: int
    posterior_steps: int


class FittedLatents(NamedTuple):
    """How learning went.

    :ivar history: by name an array [looks]: ``step``, ``log_likelihood`` (the mean of log p(x|z) of
        a batch, z by its posterior), ``gap`` (the mean energy of draws of the prior over that of
        the latents of data: near zero where the two agree), ``acceptance`` and ``step_size`` of the
        chains over the latents (NaN with an encoder).
    :ivar latents: where the chains of the latents of all rows are [n, d]; None with an encoder.
    :ivar diverged: whether the loss was no number: the parameters are those of the last good look.
    :ivar why: a sentence on how it ended.
    """

    history: dict[str, np.ndarray]
    latents: Tensor | None
    diverged: bool
    why: str

    def __repr__(self) -> str:
        return f"FittedLatents({self.why})"


class _Inferred(NamedTuple):
    """Latents of a batch, log q(z|x) with its gradient, and how their chains went."""

    latents: Tensor
    log_q: Tensor
    acceptance: float


def fit_latent_model(
    model: LatentEnergyModel,
    rows: Tensor,
    optimizer: Any,
    options: LatentOptions,
    *,
    disable_progbar: bool,
) -> FittedLatents:
    """See :meth:`.LatentEnergyModel.fit`."""
    for name, value in options._asdict().items():
        check_whole(name, value, 1)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=1e-3) if optimizer is None else optimizer(learned)
    device = rows.device
    generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
    shape = (len(rows), model.latent_dim)
    lasting = torch.randn(shape, generator=generator, dtype=rows.dtype, device=device)
    step_size = StepSize()
    looks: list[tuple[float, ...]] = []
    good = copy.deepcopy(model.state_dict())
    size = min(options.batch_size, len(rows))
    every = max(1, options.num_steps // _LOOKS)
    order = torch.randperm(len(rows), generator=generator, device=device)
    why, diverged, used = f"all {options.num_steps} steps were made", False, 0
    bar: Any = tqdm(total=options.num_steps, disable=True if disable_progbar else None, leave=False)
    try:
        for step in range(1, options.num_steps + 1):
            if used + size > len(rows):
                order, used = torch.randperm(len(rows), generator=generator, device=device), 0
            which = order[used : used + size]
            used += size
            batch = rows[which]
            if model.encoder is None:
                moved = move_latents(
                    lambda z, batch=batch: model.log_joint(batch, z),
                    lasting[which],
                    step_size,
                    transitions=options.posterior_steps,
                    generator=generator,
                )
                lasting[which], step_size = moved.latents, moved.step_size
                found = _Inferred(moved.latents, batch.new_zeros(()), moved.acceptance)
            else:
                proposal = model.encoded(batch)
                noise = torch.randn(
                    size, model.latent_dim, generator=generator, dtype=rows.dtype, device=device
                )
                z = proposal.base_dist.loc + proposal.base_dist.scale * noise
                found = _Inferred(z, proposal.log_prob(z).mean(), math.nan)
            log_likelihood = model.log_likelihood(batch, found.latents).mean()
            log_prior = model.prior.log_prob(found.latents).mean()
            loss = found.log_q - log_likelihood - log_prior
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            finite = all(
                bool(p.grad.isfinite().all()) for p in learned if p.grad is not None
            ) and math.isfinite(float(loss.detach()))
            if not finite:
                why, diverged = f"the loss or its gradient was no number at step {step}", True
                break
            if step % every == 0:
                good = copy.deepcopy(model.state_dict())
                gap = _gap(model, found.latents)
                size_now = math.nan if model.encoder is not None else step_size.size
                look = (step, float(log_likelihood.detach()), gap, found.acceptance, size_now)
                looks.append(look)
                bar.set_postfix_str(f"log p(x|z) {look[1]:.4g}, gap {gap:.2g}")
            optimiser.step()
            bar.update()
    except KeyboardInterrupt:
        why = f"it was interrupted after {bar.n} of {options.num_steps} steps"
    finally:
        bar.close()
    if diverged:
        model.load_state_dict(good)
        why += ". The parameters are those of the last good look. Take a smaller learning rate"
        warnings.warn(f"Learning diverged: {why}.", DivergedWarning, stacklevel=3)
    names = ("step", "log_likelihood", "gap", "acceptance", "step_size")
    columns = np.array(looks).reshape(-1, len(names)).T
    history: dict[str, np.ndarray] = dict(zip(names, columns, strict=True))
    return FittedLatents(history, lasting if model.encoder is None else None, diverged, why)


def _gap(model: LatentEnergyModel, latents: Tensor) -> float:
    """The mean energy of draws of the prior over that of latents."""
    negatives = model.prior.negatives
    with torch.no_grad():
        of_prior = (negatives.shares * model.energy(negatives.values).double()).sum()
        return float(of_prior - model.energy(latents.detach()).double().mean())
