"""Learning an energy from data: the loop, watched, stopped in time, and kept on disk.

Every step draws a batch, asks the objective, and lets the optimiser move the parameters in place.
At every look, a hundred of them in a run, held-out rows are scored, chains are looked at, and what
is good is remembered: a run that diverges ends there, with a sentence, and with the parameters of
the last good look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_share, check_whole

from .exact_likelihood import ExactLikelihood, knows_log_z
from .kept import Folder, Kept
from .objective import Objective, energy_for
from .persistent_contrastive_divergence import PersistentContrastiveDivergence
from .rows import Split, batches, split_rows
from .run import LearningRun, Options
from .trained import Trained

_LOOKS = 100


def fit(
    energy: Any,
    data: Any,
    objective: Objective | str = "auto",
    *,
    num_steps: int = 2000,
    batch_size: int = 128,
    optimizer: Any = None,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    held_out: Any = 0.1,
    energy_penalty: float = 0.0,
    gradient_clip: float | None = None,
    ema: float | None = None,
    patience: int | None = None,
    look_every: int | None = None,
    store: str | PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    disable_progbar: bool = False,
) -> Trained:
    """Learn the parameters of an energy, in place.

    :param energy: an Energy or an nn.Module, with parameters that require a gradient. A net is
        called on batches [n, *event]; give it a base (:class:`pyro_ebm.Tilted`) or a confining
        term, so that it can be normalised.
    :param data: rows [n, *event], a tensor, an array, a TensorDataset or a DataLoader.
    :param objective: :class:`.PersistentContrastiveDivergence`, :class:`.ContrastiveDivergence`,
        :class:`.AnnealedLikelihood`, :class:`.ExactLikelihood`, :class:`.ScoreMatching`,
        :class:`.SlicedScoreMatching`, :class:`.DenoisingScoreMatching`, :class:`.NoiseContrastive`
        or :class:`.PseudoLikelihood`. "auto" is the exact likelihood where the energy knows log Z,
        and else persistent contrastive divergence.
    :param num_steps: steps of the optimiser.
    :param batch_size: rows of a batch; a DataLoader has its own.
    :param optimizer: makes the optimiser from a list of parameters, such as
        ``lambda p: torch.optim.SGD(p, lr=0.1)``, or is one; Adam at 1e-3 unless given.
    :param scheduler: makes a schedule of learning rates from the optimiser; it steps with it.
    :param held_out: the share of rows held out, or such rows; None for none.
    :param energy_penalty: adds this times the mean square of the energies of data and chains, which
        keeps them small (Du, Mordatch 2019).
    :param gradient_clip: the largest norm of a gradient; larger ones are scaled down.
    :param ema: a decay such as 0.999: the energy ends with the exponential moving average of its
        parameters.
    :param patience: learning ends when so many looks in a row have not bettered the loss of the
        rows held out, with the parameters of the best look, as it does after all steps. Contrastive
        divergence has no such loss, and takes pseudo-likelihood (states) or denoising (real
        numbers) in its place. Not with ``ema``.
    :param look_every: steps between two looks; a hundredth of the run unless given.
    :param store: a folder, which must not be there yet: the run goes there while it goes on, and
        :func:`resume_fit` takes it up again after any stop.
    :param checkpoint_seconds: with ``store``, the time between two states.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :returns: also after Ctrl-C, and when learning diverged: with the last good parameters then, and
        a :class:`DivergedWarning`.
    :raises TypeError, ValueError: data that are no configurations of the energy, an energy without
        parameters to learn, and options outside of their range.
    """
    options = _checked(
        num_steps,
        batch_size,
        look_every,
        energy_penalty,
        gradient_clip=gradient_clip,
        ema=ema,
        patience=patience,
    )
    folder = None if store is None else Folder.new(store, checkpoint_seconds)
    # One number of torch's global stream seeds all, so that pyro.set_rng_seed repeats a run.
    seed = int(torch.randint(2**62, ()))
    return _learned(
        energy,
        data,
        objective,
        optimizer,
        scheduler=scheduler,
        held_out=held_out,
        options=options,
        folder=folder,
        seed=seed,
        disable_progbar=disable_progbar,
    )


def resume_fit(
    store: str | PathLike[str],
    energy: Any,
    data: Any,
    objective: Objective | str = "auto",
    *,
    num_steps: int | None = None,
    optimizer: Any = None,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    held_out: Any = 0.1,
    checkpoint_seconds: float = 60.0,
    disable_progbar: bool = False,
) -> Trained:
    """Go on with learning that was kept in a folder, from its last state on.

    With data in a tensor the run ends with the numbers of one that was never stopped; a DataLoader
    starts an epoch anew.

    :param store: the folder.
    :param energy, data, objective, optimizer, scheduler, held_out: as they were given to
        :func:`fit`; the values of the parameters do not matter.
    :param num_steps: of the whole run; as many as it was begun with unless given.
    :raises FileNotFoundError: no run is kept there.
    :raises ValueError: the energy, the data or the objective are others.
    """
    folder, kept = Folder.opened(store, checkpoint_seconds)
    options = Options(**kept.options)
    if num_steps is not None:
        check_whole("num_steps", num_steps, kept.step)
        options = options._replace(num_steps=num_steps)
    return _learned(
        energy,
        data,
        objective,
        optimizer,
        scheduler=scheduler,
        held_out=held_out,
        options=options,
        folder=folder,
        seed=kept.seed,
        disable_progbar=disable_progbar,
        kept=kept,
    )


def _checked(
    num_steps: int,
    batch_size: int,
    look_every: int | None,
    energy_penalty: float,
    *,
    gradient_clip: float | None,
    ema: float | None,
    patience: int | None,
) -> Options:
    check_whole("num_steps", num_steps, 1)
    check_whole("batch_size", batch_size, 1)
    if look_every is not None:
        check_whole("look_every", look_every, 1)
    if not 0.0 <= energy_penalty < math.inf:
        raise ValueError(f"energy_penalty must be at least 0, got {energy_penalty}.")
    if gradient_clip is not None and not gradient_clip > 0.0:
        raise ValueError(f"gradient_clip must be positive, got {gradient_clip}.")
    if ema is not None:
        check_share("ema", ema)
    if patience is not None:
        check_whole("patience", patience, 1)
        if ema is not None:
            raise ValueError(
                f"expected patience or ema, got patience={patience} and ema={ema}: the parameters "
                "are those of the best look, or an average. Leave one of them out."
            )
    every = look_every or max(1, num_steps // _LOOKS)
    return Options(
        num_steps, batch_size, every, float(energy_penalty), gradient_clip, ema, patience
    )


def _learned(
    energy: Any,
    data: Any,
    objective: Objective | str,
    optimizer: Any,
    *,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None,
    held_out: Any,
    options: Options,
    folder: Folder | None,
    seed: int,
    disable_progbar: bool,
    kept: Kept | None = None,
) -> Trained:
    with torch.enable_grad():
        splitting = torch.Generator().manual_seed(seed)
        split = _cast(split_rows(data, held_out, splitting), data, energy)
        source = batches(split.training, options.batch_size, splitting)
        first = next(source)
        taken = energy_for(energy, first)
        parameters: list[Tensor] = [p for p in taken.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(
                f"expected an energy with parameters that require a gradient, got "
                f"{type(taken).__name__} with none. Wrap its constants in torch.nn.Parameter."
            )
        device = parameters[0].device
        for rows in (first, split.training, split.held_out):
            if not isinstance(rows, Tensor):
                continue
            if rows.device != device or rows.dtype != parameters[0].dtype:
                raise ValueError(
                    f"expected data on {device} in {parameters[0].dtype}, as the parameters are, "
                    f"got {rows.dtype} on {rows.device}. Write data.to(device, dtype)."
                )
            energy_for(taken, rows)
        if isinstance(split.training, DataLoader):
            source = _inside(source, taken)
        if options.patience is not None and split.held_out is None:
            raise ValueError(
                f"expected rows held out, by which patience={options.patience} says when to stop, "
                "got none. Give held_out=, a share or rows (rows, of a DataLoader)."
            )
        chosen = _objective(objective, taken)
        about = _about(taken, chosen, split)
        if kept is not None:
            kept.check(about)
        bound = chosen.bind(taken)
        generator = torch.Generator(device).manual_seed(seed)
        run = LearningRun(taken, bound, split, options, generator, parameters, about)
        run.begin(first, optimizer, scheduler)
        if kept is not None:
            run.restore(kept)
            if not isinstance(split.training, DataLoader):
                # One for every step, the first of which was drawn above.
                for _ in range(kept.step - 1):
                    next(source)
        return run.go(source, first, folder, seed, disable_progbar=disable_progbar)


def _cast(split: Split, data: Any, energy: Any) -> Split:
    """Rows in the numbers of the energy, where they did not come as tensors: NumPy's have 64 bits
    unless somebody wished otherwise."""
    like = next(iter(energy.parameters()), None) if isinstance(energy, nn.Module) else None
    if like is None or isinstance(data, Tensor | TensorDataset | DataLoader):
        return split
    return Split(*(None if rows is None else rows.to(like) for rows in split))


def _inside(source: Iterator[Tensor], energy: Energy) -> Iterator[Tensor]:
    """Batches, each of which is looked at before it is learned from."""
    for batch in source:
        energy_for(energy, batch)
        yield batch


def _objective(objective: Any, energy: Energy) -> Objective:
    if isinstance(objective, Objective):
        return objective
    if objective == "auto":
        return ExactLikelihood() if knows_log_z(energy) else PersistentContrastiveDivergence()
    raise TypeError(
        "expected an objective such as PersistentContrastiveDivergence() or "
        f'DenoisingScoreMatching(noise_scale=0.1), or "auto", got {objective!r}.'
    )


def _about(energy: Energy, objective: Objective, split: Split) -> dict[str, str]:
    """By what a run is known again."""
    shapes = [tuple(p.shape) for p in energy.parameters() if p.requires_grad]
    # Samplers and noise say nothing of themselves but where they lie in memory.
    plainly = int | float | str | Tensor | None
    options = {k: v for k, v in vars(objective).items() if isinstance(v, plainly)}
    plain = ", ".join(f"{name}={value}" for name, value in options.items())
    data = "a DataLoader"
    if isinstance(split.training, Tensor):
        rows = split.training
        data = f"{len(rows)} rows that add up to {float(rows.double().sum()):.12g}"
    return {
        "energy": f"parameters of shapes {shapes}",
        "objective": f"{type(objective).__name__}({plain})",
        "data": data,
    }
