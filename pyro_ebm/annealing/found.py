"""What a method has found, and the result that is made of it: with all that speaks against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from pyro_ebm.diagnostics import pareto_khat

from .backwards import Checked
from .learn import Learned
from .log_z import LogZ
from .passes import Steps
from .start import Start
from .verdict import sentence, weight_problems
from .weights import effective_sample_size, log_mean_exp

STOPPED = "the run was interrupted"
UNCHECKED = f"{STOPPED} before it was checked backwards"


class Found(NamedTuple):
    """log Z and its standard error, with draws [dim, n] of the target and their log weights [n].

    ``problems`` speak against it, ``path`` and ``details`` are those of :class:`LogZ`; ``ess`` is
    that of draws of chains, and None of independent particles, which are judged by their weights.
    ``unbiased`` tells whether exp(log Z) has the mean Z exactly.
    """

    log_z: float
    std_error: float
    positions: Tensor
    log_weights: Tensor
    problems: list[str]
    path: Mapping[str, list[float]]
    details: Mapping[str, Any]
    ess: float | None = None
    unbiased: bool = False


def is_complete(estimate: LogZ) -> bool:
    """Whether the run has come to its end."""
    return bool(estimate.details.get("complete", True))


def judged(begun: Start, method: str, found: Found, checked: Checked | None) -> LogZ:
    """The result; reliable when nothing speaks against it and it was checked backwards."""
    weights, ess, khat = found.log_weights, found.ess, math.nan
    problems = begun.problems + found.problems
    complete = not any(problem.startswith(STOPPED) for problem in found.problems)
    if ess is None:
        ess, khat = effective_sample_size(weights), pareto_khat(weights)
        problems += weight_problems(weights, khat)
    if checked is not None:
        problems += checked.problems
    return LogZ(
        found.log_z,
        found.std_error,
        method,
        reliable=not problems and checked is not None,
        why=sentence(problems, checked_backwards=checked is not None),
        ess=ess,
        khat=khat,
        num_particles=len(weights),
        log_weights=weights,
        positions=found.positions,
        target=begun.target,
        backward=None if checked is None else checked.backward,
        path=found.path,
        details={**begun.details, **found.details, "complete": complete},
        unbiased=found.unbiased,
    )


def interrupted(begun: Start, method: str, learned: Learned | None = None) -> LogZ:
    """What a learning pass has made of log Z, where a run got no further; the pilot's unless given.

    As many particles count as independent as there are families.
    """
    last = begun.pilot.learned if learned is None else learned
    weights, n = last.finished.log_weights, len(last.finished.log_weights)
    mean = float(log_mean_exp(weights))
    alive = math.isfinite(mean)
    if alive:
        weights = weights + ((last.finished.log_z or 0.0) - mean)
    error = math.sqrt(max(1 / last.num_families - 1 / n, 0.0)) if alive else math.inf
    steps = last.finished.steps
    found = Found(
        float(log_mean_exp(weights)),
        error,
        last.finished.positions,
        weights,
        [f"{STOPPED}: this is what a round that still adapts had made of it"],
        path_of(steps),
        {"num_temperatures": len(steps.betas) - 1},
    )
    return judged(begun, method, found, None)


def nothing_yet(method: str) -> LogZ:
    """What a run has that was interrupted before it had a base."""
    why = f"{STOPPED.capitalize()} before a base was found: nothing can be said of log Z."
    return LogZ(math.nan, math.inf, method, False, why, details={"complete": False})


def path_of(steps: Steps) -> dict[str, list[float]]:
    """What was met at each inverse temperature, by name."""
    return {
        "beta": steps.betas,
        "barrier": steps.barrier,
        "acceptance": steps.acceptance,
        "mean_slope": steps.mean_slope,
        "ess": steps.ess,
    }
