"""What is wrong with a run and what to do about it, in sentences.

Each check looks at one thing that is known to spoil estimates and says, when it is found, what was
seen and what helps. A run without findings is told so, with its worst figures. Silence is no proof:
a mode that no chain has met leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from pyro_ebm.diagnostics import NESTED_FROM_CHAINS, RELIABLE_DRAWS, bfmi, ess_is_reliable

from . import figures
from .figures import Coordinates, Rhat, Worst
from .inputs import as_array
from .record import RunRecord

ENOUGH_ESS = 400
LOW_BFMI = 0.3
# Rarer than this, divergences and the deepest trees are mentioned and not complained of.
_RARE = 1e-3
_SLOW = 3.0
_COARSE = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing seen in a run. A ``problem`` spoils the estimates, a ``note`` is good to know."""

    severity: Literal["problem", "note"]
    name: str
    sentence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}".strip()


def diagnose(record: RunRecord) -> str:
    """What is wrong with a run and what to do, or that all is well with the worst figures."""
    if record.num_draws == 0:
        return str(_no_draws())
    seen = _look(record)
    found = tuple(_checks(record, seen))
    problems = [finding for finding in found if finding.severity == "problem"]
    notes = [finding for finding in found if finding.severity == "note"]
    lines = []
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        lines = [f"This run has {count}.", *(f"- {finding}" for finding in problems)]
    if not any(finding.name == "runaway" for finding in problems):
        lines.append(_figures_in_words(record, seen, well=not problems))
    lines += [f"Note: {finding}" for finding in notes]
    return "\n".join(lines)


def findings(record: RunRecord) -> tuple[Finding, ...]:
    """All that a run is to be told, problems first."""
    if record.num_draws == 0:
        return (_no_draws(),)
    found = tuple(_checks(record, _look(record)))
    return tuple(sorted(found, key=lambda finding: finding.severity == "note"))


class _Seen(NamedTuple):
    """The figures that several sentences need."""

    at: Coordinates
    rhat: Rhat
    effective: tuple[Worst, Worst] | None
    bfmi: np.ndarray
    deep: float


def _look(record: RunRecord) -> _Seen:
    at = figures.coordinates(record)
    return _Seen(
        at,
        figures.rhat(record, at),
        figures.effective(at),
        bfmi(as_array(record.statistics["energy"])),
        _rate(record, "reached_max_treedepth"),
    )


def _checks(record: RunRecord, seen: _Seen) -> Iterator[Finding]:
    at, rhat = seen.at, seen.rhat
    away = figures.runaway_chains(at, suspicious=not rhat.agrees or seen.deep > 0.1)
    stuck = np.setdiff1d(figures.stuck_chains(at), away)
    sizes, apart = figures.groups(at, np.union1d(stuck, away))
    if not record.complete:
        yield _partial(record)
    if len(away):
        # Everything else that could be said follows from this.
        yield _runaway(record, away)
        return
    if len(stuck):
        yield _stuck(record, stuck)
    if len(sizes) > 1:
        yield _modes(sizes, apart)
    elif not rhat.agrees:
        yield _disagreement(record, rhat)
    if len(sizes) == 1 and not len(stuck):
        yield from _effective(record, seen)
    yield from _divergences(record)
    yield from _depth(record, seen.deep)
    yield from _energy(record, seen.bfmi)
    yield from _slow(record)
    yield from _coarse(record)


def _no_draws() -> Finding:
    return Finding(
        "problem",
        "no draws",
        "The run holds no draws.",
        "It was interrupted before every chain had made its first: run it longer.",
    )


def _partial(record: RunRecord) -> Finding:
    return Finding(
        "problem",
        "partial",
        f"The run is partial: it ended when every chain had {record.num_draws} draws.",
        "What is there can be used as a shorter run.",
    )


def _runaway(record: RunRecord, away: np.ndarray) -> Finding:
    reach = float(np.abs(as_array(record.positions)[away]).max())
    return Finding(
        "problem",
        "runaway",
        f"{_chains(away, record)} away: unconstrained values reach {reach:.2g} and their spread "
        "does not settle. The energy is likely not normalisable.",
        "Nothing estimated from this run means anything until that is mended: confine the energy "
        "(a base density with Tilted, a quadratic term), or give flat priors a proper one.",
    )


def _stuck(record: RunRecord, stuck: np.ndarray) -> Finding:
    return Finding(
        "problem",
        "stuck",
        f"{_chains(stuck, record, verb='do')} not move. Their draws are one point again and again, "
        "and they stay among the draws.",
        "Look at the log density there (a wall of NaN or infinity, a very narrow funnel), use "
        "float64, or start elsewhere with init_strategy= or initial_params=.",
    )


def _modes(sizes: Sequence[int], apart: Sequence[str]) -> Finding:
    where = ", ".join(apart[:3]) + (f" and {len(apart) - 3} more" if len(apart) > 3 else "")
    shown = ", ".join(map(str, sizes[:8])) + (", ..." if len(sizes) > 8 else "")
    return Finding(
        "problem",
        "separate groups",
        f"The chains lie in {len(sizes)} separate groups of {shown} chains, apart in {where}: "
        "modes between which no chain has gone. Their weights are not estimated: how many chains a "
        "mode holds is decided by the starts.",
        "If the modes are copies of one another (labels that can be exchanged), order the labels "
        "in the model; else remove the barrier by a reparametrisation, or use a method that weighs "
        "modes (tempering, annealed importance sampling).",
    )


def _disagreement(record: RunRecord, rhat: Rhat) -> Finding:
    if np.isnan(rhat.worst.value):
        return Finding(
            "problem",
            "too short",
            f"With {record.num_draws} draws a chain, R-hat cannot be computed.",
            f"Ask for num_samples of at least {RELIABLE_DRAWS}.",
        )
    advice = "Run longer (num_samples and warmup_steps)"
    if rhat.worst.value > 1.1:
        advice = "Look at a trace of it; a reparametrisation often helps more than running longer"
    return Finding(
        "problem",
        "R-hat",
        f"The chains do not agree yet: {rhat.kind} is {rhat.worst.value:.3f} for "
        f"{rhat.worst.name}, where {rhat.threshold:.3f} is the limit.",
        f"{advice}.",
    )


def _effective(record: RunRecord, seen: _Seen) -> Iterator[Finding]:
    worst = seen.effective
    draws, chains = record.num_draws, record.num_chains
    if worst is None:
        nested = record.superchain_ids is not None and chains >= NESTED_FROM_CHAINS
        fewer = f", with fewer chains than {chains} if time is short" if 8 < chains < 128 else ""
        yield Finding(
            "note" if nested else "problem",
            "short chains",
            f"Chains of {draws} draws are too short to measure effective sample sizes, which count "
            f"from {RELIABLE_DRAWS} draws a chain on: errors of the estimates are not known.",
            f"Ask for num_samples={RELIABLE_DRAWS} or more{fewer}.",
        )
        return
    for name, figure in zip(("bulk", "tail"), worst, strict=True):
        if figure.value < ENOUGH_ESS:
            needed = int(np.ceil(draws * ENOUGH_ESS / max(figure.value, 1.0) / 10) * 10)
            yield Finding(
                "problem",
                f"{name} ESS",
                f"The {name} effective sample size of {figure.name} is {figure.value:.0f}, and "
                f"{ENOUGH_ESS} are wanted.",
                f"Ask for num_samples={needed}, or for more chains.",
            )
            return


def _divergences(record: RunRecord) -> Iterator[Finding]:
    rate = _rate(record, "diverging")
    if rate > 0:
        count = int(record.statistics["diverging"].sum())
        yield Finding(
            "problem" if rate >= _RARE else "note",
            "divergences",
            f"{count} of {record.num_chains * record.num_draws} transitions diverged "
            f"({100 * rate:.3g} %): the chains meet regions that their step size cannot follow.",
            "Raise target_accept_prob (0.95), or reparametrise (non-centred hierarchies)."
            if rate >= _RARE
            else "So few seldom matter.",
        )


def _depth(record: RunRecord, rate: float) -> Iterator[Finding]:
    if rate > 0:
        yield Finding(
            "problem" if rate >= 0.01 else "note",
            "tree depth",
            f"{100 * rate:.3g} % of the transitions were cut off at the greatest tree depth, "
            f"{record.max_tree_depth}: slow, not wrong.",
            "Scales or correlations are large: use full_mass=True, rescale the model, or raise "
            "max_tree_depth.",
        )


def _energy(record: RunRecord, values: np.ndarray) -> Iterator[Finding]:
    if not ess_is_reliable(record.num_draws):
        return
    low = values < LOW_BFMI
    if low.mean() > 0.1:
        yield Finding(
            "problem",
            "BFMI",
            f"The Bayesian fraction of missing information is {np.nanmin(values):.2f} at its "
            f"lowest and below {LOW_BFMI} in {int(low.sum())} of {len(low)} chains: momenta carry "
            "the chains too slowly over the energies of the tails.",
            "Reparametrise (non-centred hierarchies), or give heavy-tailed sites lighter tails.",
        )


def _slow(record: RunRecord) -> Iterator[Finding]:
    steps = as_array(record.statistics["n_steps"]).sum(1)
    middle = float(np.median(steps))
    slowest = int(steps.argmax())
    if record.num_chains > 1 and steps[slowest] > _SLOW * middle:
        yield Finding(
            "note",
            "slow chain",
            f"Chain {slowest} holds the others up: it took {steps[slowest] / max(middle, 1.0):.1f} "
            "times as many gradient steps as the middle chain.",
            "It may be in a narrower region than the others: look at its draws.",
        )


def _coarse(record: RunRecord) -> Iterator[Finding]:
    lp = record.statistics["lp"]
    step = torch.finfo(lp.dtype).eps * float(lp.abs().median())
    if step > _COARSE:
        yield Finding(
            "problem",
            "precision",
            f"The log density is about {float(lp.median()):.3g}, which {lp.dtype} resolves only to "
            f"{step:.2g}: acceptance decisions are partly rounding.",
            "Use torch.set_default_dtype(torch.float64) and data in float64.",
        )


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
    count = int(record.statistics["diverging"].sum())
    said.append(f"{count} transition{'' if count == 1 else 's'} diverged")
    if well:
        return f"All is well with {shape} draws, as far as the chains can tell: {'; '.join(said)}."
    return f"Of {shape} draws: {'; '.join(said)}."


def _rate(record: RunRecord, name: str) -> float:
    return float(record.statistics[name].double().mean())


def _chains(which: np.ndarray, record: RunRecord, *, verb: str = "run") -> str:
    one, many = {"run": ("runs", "run"), "do": ("does", "do")}[verb]
    if len(which) == 1:
        return f"Chain {which[0]} of {record.num_chains} {one}"
    shown = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
    return f"{len(which)} of {record.num_chains} chains ({shown}) {many}"
