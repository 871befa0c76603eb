"""A plain no-U-turn sampler of one chain, to hold the desynchronised one against.

It keeps every point of the trajectory in a list, in order of time, and looks at each balanced
subtree anew, so that nothing has to be remembered cleverly. NumPy in float64, with gradients
written by hand; the random numbers come from outside, indexed by leapfrog step and use.

Source: Betancourt (2017), A conceptual introduction to Hamiltonian Monte Carlo, appendix A; the
checks across the middle of a tree as in Stan since 2.21.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# Position to log density and gradient.
Density = Callable[[Vector], tuple[float, Vector]]

MAX_ENERGY_ERROR = 1000.0


class Uses(NamedTuple):
    """The random numbers of one leapfrog step: a momentum, and three uniform numbers."""

    momentum: Vector
    direction: float
    choice_of_leaf: float
    choice_of_half: float


class Point(NamedTuple):
    """A point of a trajectory; ``momentum`` is whitened: standard normal at first."""

    position: Vector
    momentum: Vector
    log_density: float
    gradient: Vector

    @property
    def energy(self) -> float:
        return 0.5 * float(self.momentum @ self.momentum) - self.log_density


class Transition(NamedTuple):
    """Where one transition went, and how its tree grew."""

    draw: Point
    depth: int
    num_steps: int
    acceptance_rate: float
    diverging: bool


def leap(density: Density, point: Point, step: float, root: Vector) -> Point:
    """A leapfrog step in the metric with inverse mass matrix root root^T."""
    momentum = point.momentum + 0.5 * step * root.T @ point.gradient
    position = point.position + step * root @ momentum
    log_density, gradient = density(position)
    return Point(position, momentum + 0.5 * step * root.T @ gradient, log_density, gradient)


def turns(momenta: list[Vector]) -> bool:
    """Whether a stretch of a trajectory has made a U-turn between its ends."""
    first, last = momenta[0], momenta[-1]
    along = np.sum(momenta, axis=0) - 0.5 * (first + last)
    return bool(along @ first <= 0 or along @ last <= 0)


def subtree_turns(momenta: list[Vector], middle: int) -> bool:
    """A U-turn from end to end, or from either end to the first point beyond the middle."""
    return turns(momenta) or turns(momenta[: middle + 1]) or turns(momenta[middle - 1 :])


def closing_sizes(num_leaves: int) -> list[int]:
    """The sizes of the balanced subtrees that the last of so many leaves completes."""
    return [2**k for k in range(1, num_leaves.bit_length()) if num_leaves % 2**k == 0]


def is_lost(momenta: list[Vector]) -> bool:
    """Whether the last of these leaves shows that the half which they begin holds a U-turn.

    It completes a balanced subtree that turns; or it is the first leaf of the right half of one
    that turns on the way to it, so that nothing that follows can mend that subtree.
    """
    leaf = len(momenta) - 1
    lowest = leaf & -leaf
    return any(
        subtree_turns(momenta[-size:], size // 2) for size in closing_sizes(len(momenta))
    ) or (leaf % 2 == 0 and leaf > 0 and turns(momenta[-lowest - 1 :]))


@np.errstate(all="ignore")  # an energy may overflow; the transition then diverges
def transition(
    density: Density,
    start: Point,
    noise: Iterator[Uses],
    *,
    step_size: float,
    root: Vector,
    max_depth: int,
) -> Transition:
    """One transition of NUTS from the position of ``start``, in the metric root root^T."""
    uses = next(noise)
    start = start._replace(momentum=uses.momentum)
    trajectory = [start]
    chosen, log_weight = start, 0.0
    acceptance, num_steps = 0.0, 0
    for depth in range(max_depth):
        if depth > 0:
            uses = next(noise)
        forward = uses.direction < 0.5
        end = trajectory[-1 if forward else 0]
        half: list[Point] = []
        half_choice, half_log_weight = end, -np.inf
        while len(half) < 2**depth:
            if half:
                uses = next(noise)
            num_steps += 1
            end = leap(density, end, step_size if forward else -step_size, root)
            half.append(end)
            rise = end.energy - start.energy
            rise = np.inf if np.isnan(rise) else rise
            acceptance += min(1.0, np.exp(-rise))
            half_log_weight = np.logaddexp(half_log_weight, -rise)
            if np.log(uses.choice_of_leaf) < -rise - half_log_weight:
                half_choice = end
            momenta = [point.momentum for point in half]
            diverging = rise > MAX_ENERGY_ERROR
            if diverging or is_lost(momenta):
                rate = acceptance / num_steps
                return Transition(chosen, depth + 1, num_steps, rate, diverging)
        if np.log(uses.choice_of_half) < half_log_weight - log_weight:
            chosen = half_choice
        log_weight = np.logaddexp(log_weight, half_log_weight)
        old = [point.momentum for point in trajectory]
        new = [point.momentum for point in half]
        trajectory = trajectory + half if forward else half[::-1] + trajectory
        if subtree_turns(old + new if forward else new[::-1] + old, len(old)):
            break
    return Transition(chosen, depth + 1, num_steps, acceptance / num_steps, False)
