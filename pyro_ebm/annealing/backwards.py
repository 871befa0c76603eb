"""What a forward estimate cannot see of itself: draws of the target, annealed backwards."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .bennett import bennett
from .draws_of_target import ExactDraws, positions_of
from .laplace import laplace
from .log_z import Backward
from .passes import Pass, backward
from .pilot import Pilot
from .rounds import LearnedRounds, Look
from .search import Dispersed, climb
from .verdict import backward_problems, is_unreached, narrow_directions, unreached_regions
from .weights import log_mean_exp, standard_error

_MOST_DRAWS = 256
# Transitions that particles of an earlier round make at the target before they count as its draws.
_TRANSITIONS = 20
_BASE_DRAWS = 4096


class Checked(NamedTuple):
    """The backward estimates, and what speaks against the forward one."""

    backward: Backward
    problems: list[str]


def check_backwards(
    look: Look,
    chosen: Pilot,
    rounds: LearnedRounds,
    result: Pass,
    *,
    reverse: Any,
    dispersed: Dispersed | None,
) -> Checked:
    """Anneal draws of the target, and chains from dispersed starts, down to the base.

    :param reverse: True for draws made by MCMC from the particles of an earlier round, or draws.
    """
    weights = result.log_weights
    exact = isinstance(reverse, ExactDraws)
    if reverse is True:
        draws = _by_mcmc(look, chosen, rounds)
    else:
        draws = positions_of(look.target, reverse.draws if exact else reverse)
    works = _down(look, chosen, rounds, draws)
    joint, joint_error = bennett(weights, works)
    found = Backward(
        works, -float(log_mean_exp(-works)), standard_error(-works), joint, joint_error, exact
    )
    problems = backward_problems(weights, found)
    sample = chosen.mover.path.sample(_BASE_DRAWS, look.generator)
    problems += narrow_directions(sample, draws)
    if dispersed is not None:
        problems += _unreached(look, chosen, rounds, weights, dispersed.last)
    return Checked(found, problems)


def _by_mcmc(look: Look, chosen: Pilot, rounds: LearnedRounds) -> Tensor:
    """Draws of the target [dim, m]: particles of the last learning round, moved on."""
    particles = Pilot(chosen.mover, rounds.learned).particles(look.generator)
    order = torch.randperm(
        particles.shape[1], generator=look.generator, device=look.generator.device
    )
    positions = particles[:, order[:_MOST_DRAWS]]
    step_size, factor = rounds.learned.tuning.at(1.0)
    mover = chosen.mover
    for _ in range(_TRANSITIONS):
        chain, _ = mover.enter(positions, 1.0, factor)
        moved = mover.move(chain, positions, 1.0, step_size, factor, look.generator)
        positions = moved.positions
    return positions


def _down(look: Look, chosen: Pilot, rounds: LearnedRounds, draws: Tensor) -> Tensor:
    return backward(
        chosen.mover,
        rounds.betas,
        rounds.learned.tuning,
        draws,
        look.generator,
        report=look.stages.report,
    ).log_weights


def _unreached(
    look: Look, chosen: Pilot, rounds: LearnedRounds, weights: Tensor, last: Tensor
) -> list[str]:
    """Whether chains from dispersed starts have found what the particles have not."""
    finite = last[:, last.isfinite().all(0)].contiguous()
    if finite.shape[1] == 0:
        return []
    log_z = float(log_mean_exp(weights))
    unreached = is_unreached(log_z, _down(look, chosen, rounds, finite), len(weights))
    masses = []
    if bool(unreached.any()):
        modes = climb(look.target, finite[:, unreached])
        masses = [laplace(look.target, mode)[0] for mode in modes.T]
    return unreached_regions(log_z, unreached, masses)
