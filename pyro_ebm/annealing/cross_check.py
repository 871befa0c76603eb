"""A check of any method along a path: draws of the target, annealed down to the base.

Particles that go up and draws that go down the same inverse temperatures come to the same log Z
where neither misses a region, and so has the method that is checked. The inverse temperatures are
those at which the weights of the particles are even enough to tell.
"""

from __future__ import annotations

import math

from .backwards import Checked, check_backwards
from .families import Draws
from .log_z import Backward
from .moves import Tuning
from .passes import forward
from .progress import Stages
from .schedule import equal_barriers
from .start import Start

_PARTICLES = 512
_RELATIVE_VARIANCE, _MOST_TEMPERATURES, _FEWEST_TEMPERATURES = 0.2, 512, 16
_APART = 3.0
# What rounding does to log Z, in units of it.
_ROUNDING = 1e-6


def enough_temperatures(
    barrier: float,
    relative_variance: float = _RELATIVE_VARIANCE,
    most: int = _MOST_TEMPERATURES,
) -> int:
    """How many steps bring weights of this relative variance, barrier^2 over their number."""
    wanted = math.ceil(barrier**2 / relative_variance) if math.isfinite(barrier) else most
    return min(most, max(_FEWEST_TEMPERATURES, wanted))


def cross_check(
    start: Start,
    tuning: Tuning,
    draws: Draws,
    estimate: tuple[float, float],
    stages: Stages,
    *,
    exact: bool = False,
) -> Checked:
    """Anneal particles up and draws of the target down.

    :param estimate: log Z and its standard error by the method that is checked.
    :param exact: whether the draws are exactly of the target.
    """
    mover, generator = start.pilot.mover, start.generator
    steps = start.pilot.learned.finished.steps
    betas = equal_barriers(steps.betas, steps.barrier, enough_temperatures(start.pilot.barrier))
    stages.begin("forwards")
    up = forward(mover, betas, tuning, _PARTICLES, generator, run=stages.run)
    checked = check_backwards(start, betas, tuning, up.log_weights, draws, stages, exact=exact)
    problems = checked.problems + _apart(*estimate, checked.backward)
    return checked._replace(problems=problems)


def _apart(log_z: float, error: float, backward: Backward) -> list[str]:
    """Whether the estimate lies far from what the particles and the draws say together."""
    # Where all weights are equal both errors are nought, and what is left is rounding.
    joint = math.hypot(error, backward.bennett_error, _ROUNDING * max(1.0, abs(log_z)))
    distance = abs(log_z - backward.bennett)
    if distance <= _APART * joint or not math.isfinite(joint):
        return []
    return [
        f"log Z is {log_z:.3f} ± {error:.2g}, and {backward.bennett:.3f} ± "
        f"{backward.bennett_error:.2g} from particles annealed up and draws annealed down: "
        f"{distance / joint:.1f} joint errors apart"
    ]
