"""How weights are sampled: where particles start, and how they move."""

from __future__ import annotations

from typing import NamedTuple

from pyro_ebm.annealing import HMCMoves
from pyro_ebm.annealing.start import check_whole
from pyro_ebm.energies import ExampleLoss, FieldNetwork, Perceptron, PerceptronLoss, ZeroOne

from .kernels import hmc_moves, slice_moves
from .population import Moves, Plan
from .problem import Problem
from .single_weights import SingleWeights

# Of an example by which a perceptron errs, so many times less than by chance.
_COLDEST = 1000.0


class Annealed(NamedTuple):
    """Start from draws of the prior and cool down, weighted and resampled on the way: log Z, and
    with it entropy and free energy, come from the weights.

    ``kept`` is the effective share of particles that a step of annealing keeps, ``num_sweeps`` the
    moves after it.
    """

    kept: float = 0.8
    num_sweeps: int = 2


class Planted(NamedTuple):
    """Start at the teacher. Of a realisable rule without noise, whose teachers are drawn from the
    student's prior, the teacher is itself a draw at temperature 0. Elsewhere it is a start from the
    good side, where annealing comes from the bad: where the two agree, they have arrived; where
    they do not, one of them is stuck. There is no log Z."""


class SingleWeightMoves(NamedTuple):
    """Metropolis sweeps, one weight after the other: of a `Perceptron` or a `CommitteeMachine` with
    independent normal or binary weights (:mod:`.single_weights`)."""


class SliceMoves(NamedTuple):
    """Elliptical slice sampling: of any network with a Gaussian prior, without gradients."""


WeightMoves = SingleWeightMoves | SliceMoves | HMCMoves


def plan_of(start: object, num_sweeps: int) -> Plan:
    """The plan of a start.

    :raises TypeError: no start.
    :raises ValueError: numbers out of range.
    """
    check_whole("num_sweeps", num_sweeps, 1)
    if isinstance(start, Planted):
        return Plan(1.0, 0, num_sweeps)
    if not isinstance(start, Annealed):
        raise TypeError(f"expected start to be Annealed() or Planted(), got {start!r}.")
    if not 0.0 < start.kept < 1.0 or start.num_sweeps < 1:
        raise ValueError(
            f"expected kept between 0 and 1 and at least one sweep a step, got {start}."
        )
    return Plan(start.kept, start.num_sweeps, num_sweeps)


def moves_of(problem: Problem, wanted: object) -> Moves:
    """The moves that are wanted, or for "auto" those that fit the network, loss and prior.

    :raises TypeError: no moves.
    :raises ValueError: moves that do not fit.
    """
    network = problem.flat.network
    field = isinstance(network, FieldNetwork) and isinstance(problem.loss, ExampleLoss)
    if wanted == "auto":
        smooth = getattr(network, "differentiable", True) and getattr(
            problem.loss, "differentiable", True
        )
        if problem.binary or (field and not smooth and problem.independent_normal):
            wanted = SingleWeightMoves()
        else:
            wanted = HMCMoves(num_steps=8) if smooth else SliceMoves()
    if isinstance(wanted, SingleWeightMoves):
        if not field or not (problem.binary or problem.independent_normal):
            raise ValueError(
                "expected a Perceptron or a CommitteeMachine, one of the losses of this package, "
                "and independent normal or binary weights, for moves of single weights (binary "
                f"weights have no others); got {type(network).__name__} with {problem.loss} and "
                f"{problem.prior}."
            )
        return SingleWeights(problem)
    if not isinstance(wanted, WeightMoves):
        raise TypeError(
            'expected moves to be "auto", SingleWeightMoves(), SliceMoves() or HMCMoves(), got '
            f"{wanted!r}."
        )
    if problem.binary:
        raise ValueError("Binary weights move by SingleWeightMoves() alone.")
    if isinstance(wanted, HMCMoves):
        return hmc_moves(problem, num_steps=wanted.num_steps)
    return slice_moves(problem)


class WayToZero(NamedTuple):
    """Moves on the way to temperature 0, their plan, and moves there."""

    moves: Moves
    plan: Plan
    last: Moves


def to_zero(problem: Problem, plan: Plan, wanted: object) -> WayToZero:
    """The way to temperature 0: errors of a perceptron are weighed by how large they are. That ends
    at the weights without any, along densities that are smooth, and of real weights log-concave,
    where counted errors make many valleys. A margin of exactly 0 costs nothing on the way; there it
    counts as the error that it is."""
    network = problem.flat.network
    if not isinstance(network, Perceptron) or not (problem.binary or problem.independent_normal):
        moves = moves_of(problem, wanted)
        return WayToZero(moves, plan, moves)
    coldest = _COLDEST * problem.inputs.shape[1]
    way = moves_of(problem._replace(loss=PerceptronLoss()), SingleWeightMoves())
    last = moves_of(problem, SingleWeightMoves())
    return WayToZero(way, plan._replace(coldest=coldest), last)


def check_zero(problem: Problem, temperatures: list[float], wanted: object) -> None:
    """Refuse temperature 0 where it cannot be had.

    :raises ValueError: a loss that does not count errors; moves along a gradient.
    """
    if temperatures[-1] > 0.0:
        return
    if not isinstance(problem.loss, ZeroOne):
        raise ValueError(
            "expected ZeroOne() for temperature 0, where weights are those without an error, got "
            f"{problem.loss}. Give a small temperature, or look for the minimum: "
            "minimize(TrainingEnergy(...))."
        )
    if isinstance(wanted, HMCMoves):
        raise ValueError('HMCMoves() need a gradient, and ZeroOne() has none: leave moves="auto".')
