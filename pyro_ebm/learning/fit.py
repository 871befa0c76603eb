"""Learning an energy from data: the loop, watched, stopped in time, and kept on disk.

Every step draws a batch, asks the objective, and lets the optimiser move the parameters in place.
At every look, a hundred of them in a run, held-out rows are scored, chains are looked at, and what
is good is remembered: a run that diverges ends there, with a sentence, and with the parameters of
the last good look.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_share, check_whole

from .chains import ChainState
from .exact_likelihood import ExactLikelihood, knows_log_z
from .kept import Folder, Kept
from .objective import Bound, Judged, Objective, energy_for
from .persistent_contrastive_divergence import PersistentContrastiveDivergence
from .rows import Split, batches, split_rows
from .trained import Trained
from .watch import Look, advice, divergence, ran_away

OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]

_LOOKS = 100
# Chains that are kept at the last looks, and looks of which they are.
_KEPT_CHAINS, _KEPT_LOOKS = 64, 100
# Rows of the data whose energies are compared with those held out.
_COMPARED = 2_000
_NAN = math.nan


class DivergedWarning(UserWarning):
    """Learning diverged, and the parameters are those of the last good look."""


class Options(NamedTuple):
    """How to learn; see :func:`fit`."""

    num_steps: int
    batch_size: int
    look_every: int
    energy_penalty: float
    gradient_clip: float | None
    ema: float | None


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
        num_steps, batch_size, look_every, energy_penalty, gradient_clip=gradient_clip, ema=ema
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
    every = look_every or max(1, num_steps // _LOOKS)
    return Options(num_steps, batch_size, every, float(energy_penalty), gradient_clip, ema)


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
        split = split_rows(data, held_out, splitting)
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
        if first.device != device or first.dtype != parameters[0].dtype:
            raise ValueError(
                f"expected data on {device} in {parameters[0].dtype}, as the parameters are, got "
                f"{first.dtype} on {first.device}. Write data.to(device, dtype)."
            )
        bound = _objective(objective, taken).bind(taken)
        generator = torch.Generator(device).manual_seed(seed)
        run = _Run(taken, bound, split, options, generator, parameters)
        run.begin(first, optimizer, scheduler)
        if kept is not None:
            run.restore(kept)
            if not isinstance(split.training, DataLoader):
                # One for every step, the first of which was drawn above.
                for _ in range(kept.step - 1):
                    next(source)
        return run.go(source, first, folder, seed, disable_progbar=disable_progbar)


def _objective(objective: Any, energy: Energy) -> Objective:
    if isinstance(objective, Objective):
        return objective
    if objective == "auto":
        return ExactLikelihood() if knows_log_z(energy) else PersistentContrastiveDivergence()
    raise TypeError(
        "expected an objective such as PersistentContrastiveDivergence() or "
        f'DenoisingScoreMatching(noise_scale=0.1), or "auto", got {objective!r}.'
    )


class _Run:
    """One run: parameters, optimiser and state, which move together."""

    def __init__(
        self,
        energy: Energy,
        bound: Bound,
        split: Split,
        options: Options,
        generator: torch.Generator,
        parameters: list[Tensor],
    ) -> None:
        self.energy, self.bound, self.split, self.options = energy, bound, split, options
        self.generator, self.parameters = generator, parameters
        self.step, self.looks = 0, list[Look]()
        self.more = list[tuple[float, float]]()
        self.energies, self.kept_negatives = list[Tensor](), list[Tensor]()
        self.good: list[list[Tensor]] = []
        self.best = math.inf
        self.average: list[Tensor] | None = None

    def begin(self, batch: Tensor, optimizer: Any, scheduler: Any) -> None:
        """The state before the first step."""
        self.state = self.bound.begin(batch, self.generator)
        own = self.bound.parameters(self.state)
        self.optimizer = _optimizer(optimizer, self.parameters, own)
        self.scheduler = None if scheduler is None else scheduler(self.optimizer)
        if self.options.ema is not None:
            self.average = _copied(self.parameters)
        self._remember(math.nan)

    def go(
        self,
        source: Iterator[Tensor],
        first: Tensor,
        folder: Folder | None,
        seed: int,
        *,
        disable_progbar: bool,
    ) -> Trained:
        """Learn until the end, a divergence or Ctrl-C."""
        why, diverged = f"all {self.options.num_steps} steps were made", False
        batch: Tensor | None = first if self.step == 0 else None
        bar: Any = tqdm(
            total=self.options.num_steps,
            initial=self.step,
            disable=True if disable_progbar else None,
            unit="step",
            leave=False,
        )
        try:
            while self.step < self.options.num_steps:
                batch = next(source) if batch is None else batch
                judged, norm = self._step(batch)
                finite = math.isfinite(norm)
                if not finite or self.step % self.options.look_every == 0 or self._last:
                    self._look(batch, judged, norm)
                    reason = divergence(self.looks, self.energy.event_shape.numel())
                    reason = reason or self._away()
                    if reason is not None:
                        diverged, why = True, f"learning diverged at step {self.step}: {reason}"
                        break
                    self._remember(self.looks[-1].held_out)
                    bar.set_postfix_str(_told(self.looks[-1]))
                if folder is not None and (folder.due() or self._last):
                    folder.write(self.saved(seed))
                batch = None
                bar.update()
        except KeyboardInterrupt:
            why = f"it was interrupted after {self.step} of {self.options.num_steps} steps"
            if folder is not None:
                folder.write(self.saved(seed))
        finally:
            bar.close()
        return self._finished(why, diverged)

    @property
    def _last(self) -> bool:
        return self.step >= self.options.num_steps

    def _step(self, batch: Tensor) -> tuple[Judged, float]:
        """One step of the optimiser; none where the gradient is not finite."""
        judged = self.bound.judge(batch, self.state, self.generator)
        loss = judged.loss
        if self.options.energy_penalty:
            data_energy = judged.data_energy
            if data_energy is None:
                data_energy = self.energy(batch)
            squares = data_energy.square().mean()
            if judged.negative_energy is not None:
                squares = squares + judged.negative_energy.square().mean()
            loss = loss + self.options.energy_penalty * squares
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        groups = self.optimizer.param_groups
        learned = [p for group in groups for p in group["params"] if p.grad is not None]
        clip = math.inf if self.options.gradient_clip is None else self.options.gradient_clip
        norm = float(torch.nn.utils.clip_grad_norm_(learned, clip))
        self.state = judged.state
        self.step += 1
        if math.isfinite(norm) and math.isfinite(float(loss.detach())):
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            if self.average is not None and self.options.ema is not None:
                for mean, now in zip(self.average, self.parameters, strict=True):
                    mean.lerp_(now.detach(), 1.0 - self.options.ema)
            return judged, norm
        return judged, math.nan

    def _look(self, batch: Tensor, judged: Judged, norm: float) -> None:
        with torch.no_grad():
            energy = judged.data_energy
            energy = (self.energy(batch) if energy is None else energy.detach()).double()
            gap = _NAN
            if judged.negative_energy is not None:
                gap = float(judged.negative_energy.detach().double().mean() - energy.mean())
            spread = float(energy.std()) if len(energy) > 1 else 0.0
        acceptance = judged.report.get("acceptance", _NAN)
        loss = float(judged.loss.detach())
        held_out, difference, nats = self._scored()
        self.looks.append(
            Look(self.step, loss, norm, float(energy.mean()), gap, spread, held_out, acceptance)
        )
        self.more.append((difference, nats))
        negatives = self.bound.negatives(self.state)
        if negatives is not None:
            few = negatives[:_KEPT_CHAINS].detach()
            self.kept_negatives = [*self.kept_negatives[1 - _KEPT_LOOKS :], few]
            with torch.no_grad():
                self.energies = [*self.energies[1 - _KEPT_LOOKS :], self.energy(few)]

    def _scored(self) -> tuple[float, float, float]:
        """Of the rows held out: the loss, how far their energy is above the others', and nats."""
        rows = self.split.held_out
        if rows is None:
            return _NAN, _NAN, _NAN
        same = torch.Generator(rows.device).manual_seed(0)
        found = self.bound.held_out(rows, self.state, same)
        with torch.no_grad():
            mean, difference = float(self.energy(rows).double().mean()), _NAN
            if isinstance(self.split.training, Tensor):
                compared = self.split.training[:_COMPARED]
                difference = mean - float(self.energy(compared).double().mean())
            log_z = self._log_z()
        nats = _NAN if log_z is None else -mean - log_z[0]
        return _NAN if found is None else found, difference, nats

    def _log_z(self) -> tuple[float, float] | None:
        known = self.energy.log_normalizer(1.0)
        if known is not None:
            return float(known), 0.0
        return self.bound.log_z(self.state)

    def _away(self) -> str | None:
        chains = self.state
        chains = getattr(chains, "chains", chains)
        if not isinstance(chains, ChainState):
            return None
        if ran_away(chains.positions, chains.center, chains.scale):
            return (
                "chains ran away, a thousand widths beyond the data: this energy cannot be "
                "normalised there. Give it a base (Tilted) or a confining term"
            )
        return None

    def _remember(self, held_out: float) -> None:
        """Keep the parameters of the best look by the held-out loss, else of the last but one."""
        if math.isnan(held_out):
            self.good = [*self.good[-1:], _copied(self.parameters)]
        elif held_out < self.best:
            self.best, self.good = held_out, [_copied(self.parameters)]

    def _finished(self, why: str, diverged: bool) -> Trained:
        if diverged:
            _put(self.parameters, self.good[0])
            why += (
                ". The parameters are those of the last good look. Take a learning rate ten times "
                "smaller; gradient_clip=1.0 and energy_penalty=0.01 help too"
            )
            warnings.warn(why[0].upper() + why[1:] + ".", DivergedWarning, stacklevel=5)
        elif self.average is not None:
            _put(self.parameters, self.average)
        told = (
            [] if diverged else advice(self.looks, self.energies, self.energy.event_shape.numel())
        )
        # Of parameters that have been put back, or averaged, only the energy itself knows log Z.
        moved = diverged or self.average is not None
        with torch.no_grad():
            known = self.energy.log_normalizer(1.0)
            log_z = None if moved else self._log_z()
        if known is not None:
            log_z = (float(known), 0.0)
        return Trained(
            self.energy,
            self._history(),
            None if log_z is None else log_z[0],
            None if log_z is None else log_z[1],
            diverged,
            why,
            tuple(told),
            None if diverged else self.bound.negatives(self.state),
            torch.stack(self.kept_negatives) if self.kept_negatives and not diverged else None,
        )

    def _history(self) -> dict[str, np.ndarray]:
        history = {
            name: np.array([getattr(look, name) for look in self.looks]) for name in Look._fields
        }
        history["step"] = history["step"].astype(np.int64)
        for place, name in enumerate(("held_out_gap", "log_likelihood")):
            history[name] = np.array([pair[place] for pair in self.more])
        return history

    def saved(self, seed: int) -> Kept:
        """All that the run could go on from."""
        return Kept(
            step=self.step,
            seed=seed,
            options=self.options._asdict(),
            parameters=_copied(self.parameters),
            optimizer=self.optimizer.state_dict(),
            scheduler=None if self.scheduler is None else self.scheduler.state_dict(),
            state=self.state,
            generator=self.generator.get_state(),
            average=self.average,
            good=self.good,
            best=self.best,
            looks=[tuple(look) for look in self.looks],
            more=self.more,
            energies=self.energies,
            kept_negatives=self.kept_negatives,
        )

    def restore(self, kept: Kept) -> None:
        """Take up an earlier state of the same run.

        :raises ValueError: it is that of another energy or objective.
        """
        shapes = [tuple(p.shape) for p in self.parameters]
        found = [tuple(p.shape) for p in kept.parameters]
        if shapes != found:
            raise ValueError(
                f"expected the energy that the run was begun with, whose parameters have shapes "
                f"{found}, got {shapes}."
            )
        learned = list(self.bound.parameters(self.state))
        self.state = kept.filled(self.state)
        with torch.no_grad():
            # The optimiser holds these tensors: they take the values, and the state takes them.
            for old, new in zip(learned, self.bound.parameters(self.state), strict=True):
                old.copy_(new)
        self.state = kept.with_learned(self.state, self.bound.parameters(self.state), learned)
        _put(self.parameters, kept.parameters)
        self.optimizer.load_state_dict(kept.optimizer)
        if self.scheduler is not None and kept.scheduler is not None:
            self.scheduler.load_state_dict(kept.scheduler)
        self.generator.set_state(kept.generator)
        self.step, self.average, self.good, self.best = (
            kept.step,
            kept.average,
            kept.good,
            kept.best,
        )
        self.looks = [Look(int(look[0]), *look[1:]) for look in kept.looks]
        self.more = [(a, b) for a, b in kept.more]
        self.energies, self.kept_negatives = kept.energies, kept.kept_negatives


def _optimizer(given: Any, parameters: list[Tensor], own: Sequence[Tensor]) -> Any:
    """The optimiser of the energy's parameters and of the objective's own.

    These are no weights: a decay that pulls log Z to zero would make it wrong.
    """
    if given is None:
        made: Any = torch.optim.Adam(parameters, lr=1e-3)
    elif isinstance(given, torch.optim.Optimizer):
        made = given
    else:
        made = given(list(parameters)) if callable(given) else None
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(
            "expected optimizer to be a torch optimizer, or to make one from a list of parameters, "
            f"such as lambda p: torch.optim.Adam(p, lr=1e-3); got {type(given).__name__}."
        )
    held = {id(p) for group in made.param_groups for p in group["params"]}
    decay = {"weight_decay": 0.0} if "weight_decay" in made.defaults else {}
    for tensors, options in ((parameters, {}), (own, decay)):
        missing = [p for p in tensors if id(p) not in held]
        if missing:
            made.add_param_group({"params": missing, **options})
    return made


def _told(look: Look) -> str:
    """What a progress bar says."""
    parts = [f"loss {look.loss:.4g}", f"|grad| {look.gradient_norm:.2g}"]
    if not math.isnan(look.gap):
        parts.append(f"gap {look.gap:.3g}")
    if not math.isnan(look.acceptance):
        parts.append(f"acc {look.acceptance:.2f}")
    if not math.isnan(look.held_out):
        parts.append(f"held out {look.held_out:.4g}")
    return ", ".join(parts)


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _put(tensors: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)
