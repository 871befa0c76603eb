"""One run of learning: steps, looks, what is remembered of them, and how it ends."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ebm.energies import Energy

from .chains import ChainState
from .kept import Folder, Kept
from .objective import Bound, Judged
from .rows import Split
from .trained import Trained
from .watch import Look, advice, divergence, doubt, ran_away

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
    patience: int | None = None


class LearningRun:
    """One run: parameters, optimiser and state, which move together."""

    def __init__(
        self,
        energy: Energy,
        bound: Bound,
        split: Split,
        options: Options,
        generator: torch.Generator,
        parameters: list[Tensor],
        about: dict[str, str],
    ) -> None:
        self.about = about
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
                    if doubt(self.looks, self.energy.event_shape.numel()) is None:
                        self._remember(self.looks[-1].held_out)
                    if self._stale():
                        why = f"the held-out loss was best at {self.best:.4g}, and got no better"
                        if folder is not None:
                            folder.write(self.saved(seed))
                        break
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

    def _stale(self) -> bool:
        """Whether the loss of the rows held out has not got better for as many looks as it may."""
        patience = self.options.patience
        if patience is None or not math.isfinite(self.best):
            return False
        return len(self.looks) > patience and all(
            look.held_out > self.best for look in self.looks[-patience:]
        )

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
        best = self.options.patience is not None and math.isfinite(self.best)
        if best and not diverged:
            _put(self.parameters, self.good[0])
        dim = self.energy.event_shape.numel()
        told = [] if diverged else advice(self.looks, self.energies, dim, best=best)
        # Of parameters that have been put back, or averaged, only the energy itself knows log Z.
        moved = diverged or best or self.average is not None
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
            about=self.about,
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

        :raises ValueError: the state of the objective has another form.
        """
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
