"""A check of any method along a path: draws of the target, annealed down to the base.

Particles that go up and draws that go down the same inverse temperatures come to the same log Z
where neither misses a region, and so has the method that is checked. The inverse temperatures are
those at which the weights of the particles are even enough to tell.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .bennett import bennett
from .laplace import laplace
from .log_z import Backward
from .moves import Mover, Tuning
from .passes import backward, forward
from .progress import Stages
from .schedule import equal_barriers
from .search import climb
from .start import Start
from .verdict import backward_problems, is_unreached, narrow_directions, unreached_regions
from .weights import log_mean_exp, standard_error

_PARTICLES, _MOST_DRAWS, _BASE_DRAWS = 512, 512, 4096
_TRANSITIONS = 30
_RELATIVE_VARIANCE, _MOST_TEMPERATURES, _FEWEST_TEMPERATURES = 0.2, 512, 16
_APART = 3.0


class CrossCheck(NamedTuple):
    """What the draws annealed backwards say, and what speaks against an estimate."""

    backward: Backward
    problems: list[str]


def enough_temperatures(
    barrier: float,
    relative_variance: float = _RELATIVE_VARIANCE,
    most: int = _MOST_TEMPERATURES,
) -> int:
    """How many steps bring weights of this relative variance, barrier^2 over their number."""
    wanted = math.ceil(barrier**2 / relative_variance) if math.isfinite(barrier) else most
    return min(most, max(_FEWEST_TEMPERATURES, wanted))


def moved_on(mover: Mover, tuning: Tuning, positions: Tensor, generator: torch.Generator) -> Tensor:
    """At most 512 of the particles of the target, each moved on by itself for 30 transitions."""
    order = torch.randperm(positions.shape[1], generator=generator, device=generator.device)
    positions = positions[:, order[:_MOST_DRAWS]].contiguous()
    step_size, factor = tuning.at(1.0)
    for _ in range(_TRANSITIONS):
        chain, _ = mover.enter(positions, 1.0, factor)
        positions = mover.move(chain, positions, 1.0, step_size, factor, generator).positions
    return positions


def cross_check(
    start: Start,
    tuning: Tuning,
    draws: Tensor,
    estimate: tuple[float, float],
    stages: Stages,
    *,
    exact: bool = False,
) -> CrossCheck:
    """Anneal particles up and ``draws`` [dim, m] of the target down.

    :param estimate: log Z and its standard error by the method that is checked.
    :param exact: whether the draws are exactly of the target.
    """
    mover, generator = start.pilot.mover, start.generator
    steps = start.pilot.learned.finished.steps
    betas = equal_barriers(steps.betas, steps.barrier, enough_temperatures(start.pilot.barrier))
    stages.begin("backwards")
    up = forward(mover, betas, tuning, _PARTICLES, generator, report=stages.report)

    def down(positions: Tensor) -> Tensor:
        passed = backward(mover, betas, tuning, positions, generator, report=stages.report)
        return passed.log_weights

    works = down(draws)
    upper, upper_error = -float(log_mean_exp(-works)), standard_error(-works)
    back = Backward(works, upper, upper_error, *bennett(up.log_weights, works), exact)
    problems = backward_problems(up.log_weights, back) + _apart(*estimate, back)
    problems += narrow_directions(mover.path.sample(_BASE_DRAWS, generator), draws)
    if start.dispersed is not None:
        last = start.dispersed.last
        finite = last[:, last.isfinite().all(0)].contiguous()
        if finite.shape[1] > 0:
            unreached = is_unreached(estimate[0], down(finite), _PARTICLES)
            modes = climb(start.target, finite[:, unreached]).T if bool(unreached.any()) else []
            masses = [laplace(start.target, mode)[0] for mode in modes]
            problems += unreached_regions(estimate[0], unreached, masses)
    return CrossCheck(back, problems)


def _apart(log_z: float, error: float, backward: Backward) -> list[str]:
    """Whether the estimate lies far from what the particles and the draws say together."""
    joint = math.hypot(error, backward.bennett_error)
    distance = abs(log_z - backward.bennett)
    if distance <= _APART * joint or not math.isfinite(joint):
        return []
    return [
        f"log Z is {log_z:.3f} ± {error:.2g}, and {backward.bennett:.3f} ± "
        f"{backward.bennett_error:.2g} from particles annealed up and draws annealed down: "
        f"{distance / joint:.1f} joint errors apart"
    ]
