"""What a run is told: for each thing that can be wrong, what was seen and what helps.

Troubles hang together: divergences or a low BFMI also spoil R-hat and the effective sample sizes.
So the advice on what follows from another trouble points to that one, and one number of draws is
asked for at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pyro_ebm.diagnostics import NESTED_FROM_CHAINS, RELIABLE_DRAWS

from ..adaptation import SETTLE
from .figures import Rhat, Worst
from .forces import Flat
from .inputs import as_array
from .merging import number_of
from .record import RunRecord

ENOUGH_ESS = 400
LOW_BFMI = 0.3
# Rarer than this, divergences are mentioned and not complained of.
RARE_DIVERGENCES = 1e-3
RARE_DEEPEST = 0.01
# Standard deviations by which a posterior mean may be off for want of exact auxiliary data.
BIASED_MEAN = 0.1

_MEND_FIRST = {
    "warm-up": "The short warm-up is the cause: mend it first.",
    "stuck": "Chains that do not move spoil it: mend that first.",
    "divergences": "The divergences are the likely cause: mend them first, as running longer "
    "does not.",
    "BFMI": "The low BFMI is the likely cause: mend it first, as running longer helps little.",
    "tree depth": "Trees that are cut off are the likely cause: mend that first.",
}
_CONFINE = (
    "Nothing estimated from this run means anything until that is mended: confine the energy "
    "(a base density with Tilted, a quadratic term), or give flat priors a proper one."
)


@dataclass(frozen=True)
class Finding:
    """One thing seen in a run. A ``problem`` spoils the estimates, a ``note`` is good to know."""

    severity: Literal["problem", "note"]
    name: str
    sentence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}".strip()


def no_draws() -> Finding:
    """Nothing was kept."""
    return Finding(
        "problem",
        "no draws",
        "The run holds no draws.",
        "It ended before every chain had made its first: run it longer.",
    )


def moving(record: RunRecord, name: str, size: float) -> Finding:
    """All chains are still on their way."""
    steps = record.attrs.get("warmup_steps", 0)
    return Finding(
        "problem",
        "moving",
        f"The chains are still on their way, all together: from the first half of the draws to the "
        f"second their mean of {name} moves by {size:.2g} standard deviations.",
        f"Raise warmup_steps (it was {steps}), and keep none of these draws.",
    )


def partial(record: RunRecord) -> Finding:
    """The run was interrupted."""
    missing = number_of(record.attrs.get("missing_shards", 0))
    if missing:
        # Of merged runs not all need be in shards.
        of = f" of its {record.attrs['num_shards']}" if "num_shards" in record.attrs else ""
        return Finding(
            "problem",
            "partial",
            f"The run is partial: {missing}{of} shards did not end.",
            "What is there can be used as a run of fewer chains.",
        )
    return Finding(
        "problem",
        "partial",
        f"The run is partial: it ended when every chain had {record.num_draws} draws.",
        "What is there can be used as a shorter run.",
    )


def runaway(record: RunRecord, away: np.ndarray) -> Finding:
    """Chains go off to infinity."""
    reach = float(np.abs(as_array(record.positions)[away]).max())
    return Finding(
        "problem",
        "runaway",
        f"{_chains(away, record)} away: unconstrained values reach {reach:.2g} and their spread "
        "does not settle. The energy is likely not normalisable.",
        _CONFINE,
    )


def flat(found: Flat) -> Finding:
    """Nothing pulls the chains back along a direction."""
    one = found.together or len(found.names) == 1
    where = f"of {_list(found.names)}{' together' if found.together else ''}"
    return Finding(
        "problem",
        "flat direction",
        f"The chains drift along {'a flat direction' if one else 'flat directions'} {where}: the "
        f"log density does not fall where they have gone, {found.reach:.2g} from their middle in "
        "unconstrained values. It is likely not normalisable, or else far wider than that.",
        _CONFINE,
    )


def short_warmup(record: RunRecord, share: float) -> Finding:
    """Nothing could be adapted, and it shows."""
    return Finding(
        "problem",
        "warm-up",
        f"{100 * share:.3g} % of the transitions diverged, were rejected or were cut off: "
        f"warmup_steps={record.attrs['warmup_steps']} is too short to adapt step size and metric, "
        f"which takes more than {SETTLE}.",
        "Give warmup_steps=200, or more with few chains; or warmup_from= a run that has adapted.",
    )


def stuck(record: RunRecord, which: np.ndarray, *, divergences: bool) -> Finding:
    """Chains stand still."""
    narrow = (
        "Transitions diverge too, so it is likely a region that is too narrow for the common step "
        "size: write hierarchies in the non-centred form, and raise target_accept_prob (0.95). "
        "If that does not help, look"
    )
    return Finding(
        "problem",
        "stuck",
        f"{_chains(which, record, verb='do')} not move. Their draws are one point again and again, "
        "and they stay among the draws.",
        f"{narrow if divergences else 'Look'} at the log density there (a wall of NaN or infinity, "
        "a very narrow funnel), use float64, or start elsewhere with init_strategy= or "
        "initial_params=.",
    )


def modes(sizes: Sequence[int], apart: Sequence[str], record: RunRecord, deep: float) -> Finding:
    """Chains lie apart in groups."""
    shown = ", ".join(map(str, sizes[:8])) + (", ..." if len(sizes) > 8 else "")
    slow = (
        f", or one mode too long for trees of depth {record.max_tree_depth} to cross: "
        f"{100 * deep:.3g} % of them were cut off"
    )
    return Finding(
        "problem",
        "separate groups",
        f"The chains lie in {len(sizes)} separate groups of {shown} chains, apart in "
        f"{_list(apart)}: modes between which no chain has gone"
        f"{slow if deep >= RARE_DEEPEST else ''}. Their weights are not estimated: how many chains "
        "a mode holds is decided by the starts.",
        "If the modes are copies of one another (labels that can be exchanged), order the labels "
        "in the model; else remove the barrier by a reparametrisation, or use a method that weighs "
        "modes (tempering, annealed importance sampling).",
    )


def disagreement(record: RunRecord, rhat: Rhat, draws: int | None, cause: str | None) -> Finding:
    """R-hat is above its limit.

    :param draws: a chain's draws that are enough, where shortness alone explains it.
    """
    seen = f"{rhat.kind} is {rhat.worst.value:.3f} for {rhat.worst.name}"
    if np.isnan(rhat.worst.value):
        return Finding(
            "problem",
            "too short",
            f"With {record.num_draws} draws a chain, R-hat cannot be computed.",
            f"Ask for num_samples of at least {RELIABLE_DRAWS}.",
        )
    if draws is not None:
        return Finding(
            "problem",
            "short for R-hat",
            f"{record.num_draws} draws a chain are too short for an R-hat of "
            f"{rhat.threshold:.2f}: {seen}, as in chains of this length that agree.",
            f"About num_samples={draws} would do.",
        )
    advice = "Run longer (num_samples and warmup_steps)."
    if rhat.worst.value > 1.1:
        advice = "Look at a trace of it; a reparametrisation often helps more than running longer."
    return Finding(
        "problem",
        "R-hat",
        f"The chains do not agree yet: {seen}, where {rhat.threshold:.3f} is the limit.",
        _MEND_FIRST.get(cause or "", advice),
    )


def short_chains(record: RunRecord, draws: int) -> Finding:
    """Too few draws a chain to know errors."""
    chains = record.num_chains
    nested = record.superchain_ids is not None and chains >= NESTED_FROM_CHAINS
    fewer = f", with fewer chains than {chains} if time is short" if 8 < chains < 128 else ""
    return Finding(
        "note" if nested else "problem",
        "short chains",
        f"Chains of {record.num_draws} draws are too short to measure effective sample sizes, "
        f"which count from {RELIABLE_DRAWS} draws a chain on: errors of the estimates are not "
        "known.",
        f"Ask for num_samples={draws} or more{fewer}.",
    )


def low_ess(kind: str, figure: Worst, draws: int, *, agrees: bool, cause: str | None) -> Finding:
    """An effective sample size is small.

    :param agrees: R-hat is below its limit, or above it by shortness alone.
    """
    advice = f"Ask for num_samples={draws}, or for more chains."
    if not agrees:
        advice = "How many draws are needed shows once the chains agree."
    return Finding(
        "problem",
        f"{kind} ESS",
        f"The {kind} effective sample size of {figure.name} is {figure.value:.0f}, and "
        f"{ENOUGH_ESS} are wanted.",
        _MEND_FIRST.get(cause or "", advice),
    )


def divergences(record: RunRecord, rate: float) -> Finding:
    """Transitions diverged."""
    common = rate >= RARE_DIVERGENCES
    return Finding(
        "problem" if common else "note",
        "divergences",
        f"{int(record.statistics['diverging'].sum())} of {record.num_chains * record.num_draws} "
        f"transitions diverged ({100 * rate:.3g} %): the chains meet regions that their step size "
        "cannot follow.",
        "Raise target_accept_prob (0.95), or reparametrise (non-centred hierarchies)."
        if common
        else "So few seldom matter.",
    )


def tree_depth(record: RunRecord, rate: float, *, agrees: bool) -> Finding:
    """Trees were cut off."""
    harm = "slow, not wrong" if agrees else "too short to cross the distribution in one"
    return Finding(
        "problem" if rate >= RARE_DEEPEST else "note",
        "tree depth",
        f"{100 * rate:.3g} % of the transitions were cut off at the greatest tree depth, "
        f"{record.max_tree_depth}: {harm}.",
        "Scales or correlations are large: use full_mass=True, rescale the model, or raise "
        "max_tree_depth.",
    )


def low_bfmi(values: np.ndarray) -> Finding:
    """Momenta carry the chains too slowly over the energies."""
    return Finding(
        "problem",
        "BFMI",
        f"The Bayesian fraction of missing information is {np.nanmin(values):.2f} at its "
        f"lowest and below {LOW_BFMI} in {int((values < LOW_BFMI).sum())} of {len(values)} chains: "
        "momenta carry the chains too slowly over the energies of the tails.",
        "Reparametrise (non-centred hierarchies), or give heavy-tailed sites lighter tails.",
    )


def auxiliary(record: RunRecord) -> Finding:
    """Auxiliary data stood in for log Z that were no exact draws."""
    attrs = record.attrs
    sweeps = attrs["auxiliary_sweeps"]
    seen = (
        f"Auxiliary data are not exact draws but ends of chains of {sweeps} "
        f"sweep{'s' if sweeps > 1 else ''} from the observed data."
    )
    shift, error = attrs["auxiliary_shift"], attrs["auxiliary_shift_error"]
    measured = f"the mean of {attrs['auxiliary_shift_site']} is off by {shift:.2f} +- {error:.2f} "
    said = f"{seen} By chains four times as long, {measured}posterior standard deviations"
    if _is_off(shift, error):
        return Finding(
            "problem", "auxiliary", said + ".", "Raise sweeps= of Exchange, until it stays."
        )
    if _is_small(shift, error):
        return Finding("note", "auxiliary", said + ", which is the most.", "")
    return Finding(
        "problem",
        "auxiliary",
        said + ", too uncertain to tell whether that matters.",
        "More chains or draws tell it; so does raising sweeps= of Exchange.",
    )


def auxiliary_starts(record: RunRecord) -> Finding:
    """Whether auxiliary data depend on where their chains began."""
    attrs = record.attrs
    shift, error = attrs["auxiliary_start_shift"], attrs["auxiliary_start_error"]
    said = (
        f"Auxiliary chains four times as long that begin at {attrs['auxiliary_start']} give other "
        f"data than those from the observed ones, worth {shift:.2f} +- {error:.2f} posterior "
        f"standard deviations of {attrs['auxiliary_start_site']}"
    )
    if _is_off(shift, error):
        return Finding(
            "problem",
            "auxiliary starts",
            f"{said}: at some draws the model has several kinds of data, and what is sampled is "
            "the posterior among models of the kind that was observed.",
            "Give log_normalizer= (log_normalizer_surface weighs the kinds), raise sweeps=, or "
            "take a prior that keeps away.",
        )
    return Finding("note", "auxiliary starts", f"{said}, which is the most.", "")


def _is_off(shift: float, error: float) -> bool:
    return abs(shift) > max(BIASED_MEAN, 3.0 * error)


def _is_small(shift: float, error: float) -> bool:
    return abs(shift) + 2.0 * error <= 2.0 * BIASED_MEAN


def slow_chain(chain: int, times: float) -> Finding:
    """One chain takes most of the steps."""
    return Finding(
        "note",
        "slow chain",
        f"Chain {chain} holds the others up: it took {times:.1f} times as many gradient steps as "
        "the middle chain.",
        "It may be in a narrower region than the others: look at its draws.",
    )


def coarse(record: RunRecord, step: float) -> Finding:
    """The log density is too large for its floating-point type."""
    lp = record.statistics["lp"]
    return Finding(
        "problem",
        "precision",
        f"The log density is about {float(lp.median()):.3g}, which {lp.dtype} resolves only to "
        f"{step:.2g}: acceptance decisions are partly rounding.",
        "Use torch.set_default_dtype(torch.float64) and data in float64.",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _chains(which: np.ndarray, record: RunRecord, *, verb: str = "run") -> str:
    one, many = {"run": ("runs", "run"), "do": ("does", "do")}[verb]
    if len(which) == 1:
        return f"Chain {which[0]} of {record.num_chains} {one}"
    shown = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
    return f"{len(which)} of {record.num_chains} chains ({shown}) {many}"
