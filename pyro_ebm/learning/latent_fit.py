"""Learning a latent-variable model: latents of a batch, and a step of everything by them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ebm.mcmc.api.arguments import check_whole

from .latent_watch import Kept, LatentLook, Spread, is_best, loss_of_all
from .optimizers import optimizer_of
from .posterior_chains import StepSize, move_latents
from .rows import batches
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

    :ivar history: by name an array [looks]: ``step``, 0 for the start; ``log_likelihood`` (the mean
        of log p(x|z) of a batch, z by its posterior), ``gap`` (the mean energy of draws of the
        prior over that of the latents of data: near zero where the two agree), ``acceptance`` and
        ``step_size`` of the chains over the latents (NaN with an encoder), and ``score``, the mean
        of log p(x|z) - log q(z|x) less the size of the gap, by which looks are compared.
    :ivar latents: where the chains of the latents of all rows are [n, d]; None with an encoder.
    :ivar diverged: whether what was gained was lost again, or the loss no number: the parameters
        are those of the best look.
    :ivar why: a sentence on how it ended.
    """

    history: dict[str, np.ndarray]
    latents: Tensor | None
    diverged: bool
    why: str

    def __repr__(self) -> str:
        return f"FittedLatents({self.why})"


class _Inferred(NamedTuple):
    """Latents of a batch, log q(z|x) of each with its gradient, and how their chains went."""

    latents: Tensor
    log_q: Tensor
    acceptance: float
    step_size: StepSize


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
    learned: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    optimiser = optimizer_of(optimizer, learned, ())
    device, last = rows.device, options.num_steps
    generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
    shape = (len(rows), model.latent_dim)
    lasting = torch.randn(shape, generator=generator, dtype=rows.dtype, device=device)
    source = batches(torch.arange(len(rows), device=device), options.batch_size, generator)
    step_size, spread = StepSize(), Spread(0.0, 0.0)
    looks: list[LatentLook] = []
    best = Kept.of(0, model, lasting)
    why, lost, made = f"all {last} steps were made", None, 0
    bar: Any = tqdm(total=last, disable=True if disable_progbar else None, leave=False)
    # Numbers that run away are told in one sentence at the end; rows have been checked before.
    with bar, pyro.validation_enabled(False):
        try:
            for step in range(last + 1):
                which = next(source)
                steps = options.posterior_steps
                found = _infer(
                    model, rows[which], lasting[which], step_size, steps, generator=generator
                )
                optimiser.zero_grad(set_to_none=True)
                log_likelihood = _followed(model, rows[which], found)
                if log_likelihood is None or not _finite(p.grad for p in learned):
                    lost = "the loss or its gradient was no number"
                    break
                lasting[which], step_size = found.latents.detach(), found.step_size
                if step % max(1, last // _LOOKS) == 0 or step == last:
                    looks.append(_look(model, step, log_likelihood, found))
                    if step == 0:
                        spread = Spread.of(log_likelihood - found.log_q)
                    lost = loss_of_all(looks, spread)
                    if lost is not None:
                        break
                    if is_best(looks):
                        best = Kept.of(step, model, lasting)
                    bar.set_postfix_str(
                        f"log p(x|z) {looks[-1].log_likelihood:.4g}, gap {looks[-1].gap:.2g}"
                    )
                if step < last:
                    optimiser.step()
                    made += 1
                    bar.update()
                    if not _finite(learned):
                        lost = "a parameter was no number"
                        break
        except KeyboardInterrupt:
            why = f"it was interrupted after {made} of {last} steps"
    if lost is not None:
        best.put_back(model)
        lasting = best.latents
        why = (
            f"learning diverged at step {made}: {lost}. The parameters are those of "
            f"{f'step {best.step}' if best.step else 'the start'}, the best. Take a learning rate "
            "ten times smaller"
        )
        warnings.warn(f"{why[0].upper()}{why[1:]}.", DivergedWarning, stacklevel=3)
    columns = np.array(looks).reshape(-1, len(LatentLook._fields)).T
    history: dict[str, np.ndarray] = dict(zip(LatentLook._fields, columns, strict=True))
    latents = lasting if model.encoder is None else None
    return FittedLatents(history, latents, lost is not None, why)


def _infer(
    model: LatentEnergyModel,
    batch: Tensor,
    lasting: Tensor,
    step_size: StepSize,
    transitions: int,
    *,
    generator: torch.Generator,
) -> _Inferred:
    """Latents of a batch, by the encoder or where their chains are after so many transitions."""
    if model.encoder is None:
        moved = move_latents(
            lambda z: model.log_joint(batch, z),
            lasting,
            step_size,
            transitions=transitions,
            generator=generator,
        )
        none = batch.new_zeros(len(batch))
        return _Inferred(moved.latents, none, moved.acceptance, moved.step_size)
    proposal = model.encoded(batch)
    noise = torch.randn(
        lasting.shape, generator=generator, dtype=lasting.dtype, device=lasting.device
    )
    z = proposal.base_dist.loc + proposal.base_dist.scale * noise
    return _Inferred(z, proposal.log_prob(z), math.nan, StepSize(math.nan))


def _followed(model: LatentEnergyModel, batch: Tensor, found: _Inferred) -> Tensor | None:
    """log p(x|z) of each row of a batch, once the gradient of the loss is there; None where the
    loss is no number."""
    if not _finite([found.latents]):
        return None
    log_likelihood = model.log_likelihood(batch, found.latents)
    log_prior = model.prior.log_prob(found.latents)
    loss = (found.log_q - log_likelihood - log_prior).mean()
    if not _finite([loss]):
        return None
    loss.backward()
    return log_likelihood.detach()


def _look(
    model: LatentEnergyModel, step: int, log_likelihood: Tensor, found: _Inferred
) -> LatentLook:
    negatives = model.prior.negatives
    with torch.no_grad():
        of_prior = (negatives.shares * model.energy(negatives.values).double()).sum()
        gap = float(of_prior - model.energy(found.latents).double().mean())
        score = float((log_likelihood - found.log_q).double().mean()) - abs(gap)
    mean = float(log_likelihood.double().mean())
    return LatentLook(step, mean, gap, found.acceptance, found.step_size.size, score)


def _finite(tensors: Iterable[Tensor | None]) -> bool:
    return all(bool(each.isfinite().all()) for each in tensors if each is not None)
