"""One run of learning: steps, looks, what is remembered of them, and how it ends."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ebm.energies import Energy

from .chains import ChainState
from .interrupts import uninterrupted
from .kept import Folder, Kept
from .objective import Bound, Judged
from .optimizers import check_like, optimizer_of, scheduler_of
from .rows import Split
from .trained import Trained
from .watch import Look, advice, divergence, doubt, ended_worse, ran_away

# Chains that are kept at the last looks, and looks of which they are.
_KEPT_CHAINS, _KEPT_LOOKS = 64, 100
# Rows of the data whose energies are compared with those held out, and rows that are watched.
_COMPARED = 2_000
_WATCHED = 10_000
# Rows by which an energy is known again.
_PROBED = 8
_NAN = math.nan


class DivergedWarning(UserWarning):
    """Learning diverged, and the parameters are the last good ones."""


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
        # By these rows learning is judged: those held out, or else some of those learned from.
        rows = self.split.held_out
        if rows is None and isinstance(self.split.training, Tensor):
            rows = self.split.training
        self.watched = (batch if rows is None else rows)[:_WATCHED]
        self.start = self._watched_loss()
        own = self.bound.parameters(self.state)
        self.optimizer = optimizer_of(optimizer, self.parameters, own)
        self.scheduler = scheduler_of(scheduler, self.optimizer)
        if self.options.ema is not None:
            self.average = _copied(self.parameters)
        self._remember(self.start)

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
                judged, norm = self._gradient(batch)
                with uninterrupted():
                    self._move(judged, norm)
                    looked = norm != norm or self.step % self.options.look_every == 0 or self._last
                    if looked:
                        self._look(batch, judged, norm)
                        reason = self._divergence()
                        if reason is not None:
                            diverged, why = True, f"learning diverged at step {self.step}: {reason}"
                            break
                        if doubt(self.looks, self.start, self._dim) is None:
                            self._remember(self.looks[-1].watched)
                        bar.set_postfix_str(_told(self.looks[-1]))
                    stale = looked and self._stale()
                    if folder is not None and (folder.due() or self._last or stale):
                        folder.write(self.saved(seed))
                    bar.update()
                if stale:
                    why = f"the held-out loss was best at {self.best:.4g}, and got no better"
                    break
                batch = None
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

    @property
    def _dim(self) -> int:
        return self.energy.event_shape.numel()

    def _divergence(self) -> str | None:
        patient = self.options.patience is not None
        reason = divergence(self.looks, self.start, self._dim, patient=patient) or self._away()
        # A penalty is meant to cost some of the loss, and patience puts back what was best.
        if reason is None and self._last and not (patient or self.options.energy_penalty):
            reason = ended_worse(self.looks, self.start)
        return reason

    def _gradient(self, batch: Tensor) -> tuple[Judged, float]:
        """What the objective says of a batch, and the norm of the gradient, NaN where it or the
        loss is not finite; an interruption leaves all as it was before."""
        before = self.generator.get_state()
        try:
            judged = self.bound.judge(batch, self.state, self.generator)
            norm = self._backward(batch, judged)
        except KeyboardInterrupt:
            self.generator.set_state(before)
            raise
        return judged, norm

    def _backward(self, batch: Tensor, judged: Judged) -> float:
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
        return norm if math.isfinite(norm) and math.isfinite(float(loss.detach())) else _NAN

    def _move(self, judged: Judged, norm: float) -> None:
        """One step of the optimiser; none where the gradient is not finite."""
        self.state = judged.state
        self.step += 1
        if math.isnan(norm):
            return
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        if self.average is not None and self.options.ema is not None:
            for mean, now in zip(self.average, self.parameters, strict=True):
                mean.lerp_(now.detach(), 1.0 - self.options.ema)

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
        watched = self._watched_loss()
        held_out, difference, nats = self._scored()
        self.looks.append(
            Look(
                self.step,
                loss,
                norm,
                float(energy.mean()),
                gap,
                spread,
                held_out,
                acceptance,
                watched,
            )
        )
        self.more.append((difference, nats))
        negatives = self.bound.negatives(self.state)
        if negatives is not None:
            few = negatives[:_KEPT_CHAINS].detach()
            self.kept_negatives = [*self.kept_negatives[1 - _KEPT_LOOKS :], few]
            with torch.no_grad():
                self.energies = [*self.energies[1 - _KEPT_LOOKS :], self.energy(few)]

    def _watched_loss(self) -> float:
        """The loss of the rows that learning is watched by; NaN where the objective has none."""
        same = torch.Generator(self.watched.device).manual_seed(0)
        found = self.bound.watched(self.watched, self.state, same)
        return _NAN if found is None else found

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

    def _remember(self, watched: float) -> None:
        """Keep the parameters that are best by the loss they are watched by; without one, those of
        the last look but one."""
        if math.isnan(self.start):
            self.good = [*self.good[-1:], _copied(self.parameters)]
        elif watched < self.best:
            self.best, self.good = watched, [_copied(self.parameters)]

    def _stale(self) -> bool:
        """Whether the loss of the rows held out has not got better for as many looks as it may."""
        patience = self.options.patience
        if patience is None or not math.isfinite(self.best):
            return False
        return len(self.looks) > patience and all(
            not look.watched <= self.best for look in self.looks[-patience:]
        )

    def _finished(self, why: str, diverged: bool) -> Trained:
        if diverged:
            _put(self.parameters, self.good[0])
            why += (
                ". The parameters are the last good ones. Take a learning rate ten times "
                "smaller; gradient_clip=1.0 and energy_penalty=0.01 help too"
            )
            warnings.warn(why[0].upper() + why[1:] + ".", DivergedWarning, stacklevel=5)
        elif self.average is not None:
            _put(self.parameters, self.average)
        best = self.options.patience is not None and math.isfinite(self.best)
        if best and not diverged:
            _put(self.parameters, self.good[0])
        dim = self.energy.event_shape.numel()
        told = advice(self.looks, self.start, self.energies, dim=dim, best=best or diverged)
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
            probed=self._probed(),
        )

    def _probed(self) -> Tensor:
        """Energies of some rows, by which the energy is known again."""
        with torch.no_grad():
            return self.energy(self.watched[:_PROBED]).double().cpu()

    def restore(self, kept: Kept) -> None:
        """Take up an earlier state of the same run.

        :raises ValueError: the state of the objective has another form; another optimiser, or
            another energy.
        """
        schedule = None if self.scheduler is None else self.scheduler.state_dict()
        check_like("scheduler", schedule, kept.scheduler)
        check_like("optimizer", self.optimizer.state_dict(), kept.optimizer)
        learned = list(self.bound.parameters(self.state))
        self.state = kept.filled(self.state)
        with torch.no_grad():
            # The optimiser holds these tensors: they take the values, and the state takes them.
            for old, new in zip(learned, self.bound.parameters(self.state), strict=True):
                old.copy_(new)
        self.state = kept.with_learned(self.state, self.bound.parameters(self.state), learned)
        _put(self.parameters, kept.parameters)
        if not torch.allclose(self._probed(), kept.probed, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise ValueError(
                "expected the energy that the run was begun with, got one that gives other "
                "energies with the same parameters: its base or another constant differs."
            )
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
