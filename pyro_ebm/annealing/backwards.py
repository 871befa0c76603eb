"""What a forward estimate cannot see of itself: draws of the target, annealed backwards.

Particles that go up and draws that go down the same inverse temperatures come to the same log Z
where neither misses a region. Chains from dispersed starts go down as well, and tell of regions
where hardly a particle ends.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.target import Target

from .bennett import bennett
from .dispersed import climb
from .dispersed_states import log_mass_around
from .families import Draws, Grouping
from .laplace import laplace
from .log_z import Backward
from .loop import Loop, Runner, plainly
from .moves import Mover, Tuning
from .passes import backward
from .progress import Stages
from .start import Start
from .verdict import (
    backward_problems,
    border_problems,
    is_unreached,
    narrow_directions,
    unreached_regions,
)
from .weights import log_mean_exp, standard_error

# Draws that are annealed backwards, and how many transitions particles make before they count so.
_MOST_DRAWS, _TRANSITIONS = 256, 20
_BASE_DRAWS = 4096
# How far a position is moved, in every coordinate, to see whether its values follow.
_MOVE = 0.5


class Checked(NamedTuple):
    """What the draws annealed backwards say, and what speaks against the forward weights."""

    backward: Backward
    problems: list[str]


class _Moving(NamedTuple):
    """Particles on their way, after so many transitions."""

    draws: Draws
    transitions: int


def moved_on(
    mover: Mover,
    tuning: Tuning,
    particles: Draws,
    generator: torch.Generator,
    *,
    run: Runner = plainly,
) -> Draws:
    """At most 256 particles of the target, each moved on by itself for 20 transitions.

    :param run: what runs the transitions.
    """
    step_size, factor = tuning.at(1.0)

    def begin() -> _Moving:
        number = particles.positions.shape[1]
        order = torch.randperm(number, generator=generator, device=generator.device)[:_MOST_DRAWS]
        chosen = Draws(particles.positions[:, order].contiguous(), particles.families[order])
        return _Moving(chosen, 0)

    def step(state: _Moving) -> _Moving:
        positions = state.draws.positions
        chain, _ = mover.enter(positions, 1.0, factor)
        moved = mover.move(chain, positions, 1.0, step_size, factor, generator)
        return _Moving(state.draws._replace(positions=moved.positions), state.transitions + 1)

    return run(
        Loop(
            _Moving,
            generator,
            begin,
            step,
            finished=lambda state: state.transitions == _TRANSITIONS,
            number=lambda state: state.transitions,
            total=_TRANSITIONS,
        )
    ).draws


def _independent(weights: Tensor, works: Tensor, grouping: Grouping) -> float:
    """How many independent draws the works [m] are worth: those of a family may go together."""
    share = torch.sigmoid(log_mean_exp(weights) - works)
    apart = (share - share.mean())[None]
    alone, together = float(apart.square().sum()), float(grouping.square_of_sums(apart))
    return len(works) / max(1.0, together / alone) if alone > 0 else float(len(works))


def _at_border(target: Target, positions: Tensor) -> float:
    """The share of positions [dim, m] some of whose values a move leaves as they are, since they
    are those of a border already."""
    at_border = torch.zeros(positions.shape[1], dtype=torch.bool, device=positions.device)
    values = target.evaluate(positions.T).latents
    for move in (_MOVE, -_MOVE):
        moved = target.evaluate((positions + move).T).latents
        for name, value in values.items():
            # What is the same in all draws, as the zeros of a triangle, is not a border.
            varies = (value != value[:1]).any(0)
            stays = (moved[name] == value) & varies
            at_border |= stays.reshape(len(value), -1).any(1)
    return float(at_border.double().mean())


def check_backwards(
    start: Start,
    betas: list[float],
    tuning: Tuning,
    weights: Tensor,
    draws: Draws,
    stages: Stages,
    *,
    exact: bool,
) -> Checked:
    """Anneal draws of the target, and the dispersed chains, down to the base.

    :param betas: at which the particles with log ``weights`` [n] went up.
    :param exact: whether the draws are exactly of the target.
    """
    mover, generator = start.pilot.mover, start.generator
    stages.begin("backwards")

    def down(positions: Tensor) -> Tensor:
        passed = backward(mover, betas, tuning, positions, generator, run=stages.run)
        return passed.log_weights

    works = down(draws.positions)
    grouping = Grouping(draws.families)
    independent = _independent(weights, works, grouping)
    upper = -float(log_mean_exp(-works))
    upper_error = standard_error(-works) * math.sqrt(len(works) / independent)
    both = bennett(weights, works, num_backward_independent=independent)
    back = Backward(works, upper, upper_error, *both, exact)
    problems = backward_problems(weights, back, independent)
    if start.target.num_states is None:  # States have no width and no border.
        from_base = mover.path.sample(_BASE_DRAWS, generator)
        problems += narrow_directions(from_base, draws.positions, grouping.number)
        problems += border_problems(_at_border(start.target, draws.positions))
    if start.dispersed is None:
        return Checked(back, problems)
    last = start.dispersed.last
    finite = last[:, last.isfinite().all(0)].contiguous()
    if finite.shape[1] > 0:
        log_z = float(log_mean_exp(weights))
        unreached = is_unreached(log_z, down(finite), len(weights))
        masses = _log_masses(start, tuning, finite[:, unreached])
        problems += unreached_regions(log_z, unreached, masses)
    return Checked(back, problems)


def _log_masses(start: Start, tuning: Tuning, positions: Tensor) -> list[float]:
    """log of what the target weighs around each of the positions [dim, n]."""
    target = start.target
    if positions.shape[1] == 0:
        return []
    if target.num_states is None:
        return [laplace(target, mode)[0] for mode in climb(target, positions).T]
    mover, generator = start.pilot.mover, start.generator
    return [log_mass_around(target, mover, tuning, position, generator) for position in positions.T]
