"""What is wrong with a run and what to do about it, in sentences.

Each check looks at one thing that is known to spoil estimates and says, when it is found, what was
seen and what helps. A run without findings is told so, with its worst figures. Silence is no proof:
a mode that no chain has met leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from pyro_ebm.diagnostics import RELIABLE_DRAWS, bfmi, ess_is_reliable
from pyro_ebm.target import Target

from ..adaptation import SETTLE
from . import figures, sentences
from .figures import Coordinates, Rhat, Worst
from .forces import flat_directions
from .inputs import as_array
from .record import RunRecord
from .sentences import Finding

_SLOW = 3.0
_COARSE = 0.05
# A transition with a lower acceptance rate is as good as rejected.
_REJECTED = 0.1
# A share of trees cut off that asks whether the density has a normaliser.
_OFTEN_DEEPEST = 0.1


def diagnose(record: RunRecord) -> str:
    """What is wrong with a run and what to do, or that all is well with the worst figures."""
    if record.num_draws == 0:
        return str(sentences.no_draws())
    seen = _look(record)
    found = tuple(_checks(record, seen))
    problems = [finding for finding in found if finding.severity == "problem"]
    notes = [finding for finding in found if finding.severity == "note"]
    lines = []
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        lines = [f"This run has {count}.", *(f"- {finding}" for finding in problems)]
    if not any(finding.name in ("runaway", "flat direction") for finding in problems):
        lines.append(_figures_in_words(record, seen, well=not problems))
    lines += [f"Note: {finding}" for finding in notes]
    return "\n".join(lines)


def findings(record: RunRecord) -> tuple[Finding, ...]:
    """All that a run is to be told, problems first."""
    if record.num_draws == 0:
        return (sentences.no_draws(),)
    found = tuple(_checks(record, _look(record)))
    return tuple(sorted(found, key=lambda finding: finding.severity == "note"))


class _Seen(NamedTuple):
    """The figures that several sentences need; ``draws`` would be enough for split R-hat."""

    at: Coordinates
    rhat: Rhat
    draws: int | None
    effective: tuple[Worst, Worst] | None
    bfmi: np.ndarray
    diverging: float
    deep: float

    @property
    def low_bfmi(self) -> bool:
        """Whether more than a tenth of the chains, long enough to tell, have a low BFMI."""
        enough = ess_is_reliable(self.at.draws.shape[1])
        return enough and bool((self.bfmi < sentences.LOW_BFMI).mean() > 0.1)


def _look(record: RunRecord) -> _Seen:
    at = figures.coordinates(record)
    rhat = figures.rhat(record, at)
    return _Seen(
        at,
        rhat,
        figures.draws_for_agreement(at, rhat),
        figures.effective(at),
        _bfmi(record),
        _rate(record, "diverging"),
        _rate(record, "reached_max_treedepth"),
    )


def _checks(record: RunRecord, seen: _Seen) -> Iterator[Finding]:
    at, rhat = seen.at, seen.rhat
    if not record.complete:
        yield sentences.partial(record)
    # Everything else that could be said follows from the first three.
    suspicious = not rhat.agrees or seen.deep > _OFTEN_DEEPEST
    moving = figures.continuous(at, record)
    if moving.names:
        away = figures.runaway_chains(moving, suspicious=suspicious)
        if len(away):
            yield sentences.runaway(record, away)
            return
        whole = isinstance(record.target, Target) and not record.lacks_log_z
        if whole and suspicious and (flat := flat_directions(record, moving)) is not None:
            yield sentences.flat(flat)
            return
    spoiled = _spoiled(record)
    if record.attrs.get("warmup_steps", SETTLE + 1) <= SETTLE and spoiled > 0.5:
        yield sentences.short_warmup(record, spoiled)
        return
    stuck = figures.stuck_chains(at)
    sizes, apart = figures.groups(at, stuck)
    cause = _cause(seen, stuck)
    if len(stuck):
        common = seen.diverging >= sentences.RARE_DIVERGENCES
        yield sentences.stuck(record, stuck, divergences=common)
    if seen.diverging > 0:
        yield sentences.divergences(record, seen.diverging)
    if seen.low_bfmi:
        yield sentences.low_bfmi(seen.bfmi)
    if seen.deep > 0:
        agrees = len(sizes) == 1 and rhat.agrees
        yield sentences.tree_depth(record, seen.deep, agrees=agrees)
    if len(sizes) > 1:
        yield sentences.modes(sizes, apart, record, seen.deep)
    else:
        if (moving := figures.moving(at)) is not None:
            yield sentences.moving(record, *moving)
        yield from _length(record, seen, cause, measurable=not len(stuck))
    if record.attrs.get("auxiliary_exact") == 0:
        yield sentences.auxiliary(record)
        if "auxiliary_start" in record.attrs:
            yield sentences.auxiliary_starts(record)
    yield from _slow(record)
    yield from _coarse(record)


def _cause(seen: _Seen, stuck: np.ndarray) -> str | None:
    """What, among the findings, is likely behind a bad R-hat or a small ESS."""
    if len(stuck):
        return "stuck"
    if seen.diverging >= sentences.RARE_DIVERGENCES:
        return "divergences"
    if seen.low_bfmi:
        return "BFMI"
    return "tree depth" if seen.deep >= sentences.RARE_DEEPEST else None


def _length(
    record: RunRecord, seen: _Seen, cause: str | None, *, measurable: bool
) -> Iterator[Finding]:
    """R-hat and effective sample sizes, which ask for one number of draws together."""
    # Shortness is an excuse only where nothing else is to blame.
    enough = seen.draws if cause is None else None
    agrees = seen.rhat.agrees or enough is not None
    kind, figure = _low_ess(seen)
    wanted = max(
        0 if enough is None else enough,
        0 if figure is None else figures.draws_for_ess(seen.at, figure, sentences.ENOUGH_ESS),
        RELIABLE_DRAWS,
    )
    if not seen.rhat.agrees:
        enough = None if enough is None else wanted
        yield sentences.disagreement(record, seen.rhat, enough, cause)
    if measurable and seen.effective is None:
        yield sentences.short_chains(record, wanted)
    elif measurable and figure is not None:
        yield sentences.low_ess(kind, figure, wanted, agrees=agrees, cause=cause)


def _low_ess(seen: _Seen) -> tuple[str, Worst | None]:
    for kind, figure in zip(("bulk", "tail"), seen.effective or (), strict=False):
        if figure.value < sentences.ENOUGH_ESS:
            return kind, figure
    return "", None


def _bfmi(record: RunRecord) -> np.ndarray:
    """By chain; of kernels without momenta there is none."""
    if record.target.continuous_dim == 0 or record.lacks_log_z:
        return np.full(record.num_chains, np.nan)
    return bfmi(as_array(record.statistics["energy"]))


def _spoiled(record: RunRecord) -> float:
    """The share of transitions that diverged, were as good as rejected, or were cut off."""
    seen = record.statistics
    rejected = seen["acceptance_rate"] < _REJECTED
    spoiled = rejected | seen["diverging"].bool() | seen["reached_max_treedepth"].bool()
    return float(spoiled.double().mean())


def _slow(record: RunRecord) -> Iterator[Finding]:
    steps = as_array(record.statistics["n_steps"]).sum(1)
    middle = float(np.median(steps))
    slowest = int(steps.argmax())
    if record.num_chains > 1 and steps[slowest] > _SLOW * middle:
        yield sentences.slow_chain(slowest, float(steps[slowest]) / max(middle, 1.0))


def _coarse(record: RunRecord) -> Iterator[Finding]:
    lp = record.statistics["lp"]
    step = torch.finfo(lp.dtype).eps * float(lp.abs().median())
    if step > _COARSE:
        yield sentences.coarse(record, step)


def _figures_in_words(record: RunRecord, seen: _Seen, *, well: bool) -> str:
    rhat, effective = seen.rhat, seen.effective
    shape = f"{record.num_chains} chain{'s' if record.num_chains > 1 else ''} of {record.num_draws}"
    said = []
    if not np.isnan(rhat.worst.value):
        limit = f"limit {rhat.threshold:.3f}"
        said.append(f"the worst {rhat.kind} is {rhat.worst.value:.3f} ({rhat.worst.name}; {limit})")
    if effective is not None and not np.isnan(effective[0].value):
        bulk, tail = effective
        said.append(
            f"the smallest effective sample sizes are {bulk.value:.0f} in the bulk ({bulk.name}) "
            f"and {tail.value:.0f} in the tails ({tail.name})"
        )
    if ess_is_reliable(record.num_draws) and not np.isnan(seen.bfmi).all():
        said.append(f"the lowest BFMI is {np.nanmin(seen.bfmi):.2f}")
    if record.target.continuous_dim > 0 and not record.lacks_log_z:
        count = int(record.statistics["diverging"].sum())
        said.append(f"{count} transition{'' if count == 1 else 's'} diverged")
    if well:
        return f"All is well with {shape} draws, as far as the chains can tell: {'; '.join(said)}."
    return f"Of {shape} draws: {'; '.join(said)}."


def _rate(record: RunRecord, name: str) -> float:
    return float(record.statistics[name].double().mean())
