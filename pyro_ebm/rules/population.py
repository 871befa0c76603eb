"""Populations of weights, annealed from the prior down through temperatures, for many data sets.

At every step the inverse temperature rises as far as keeps a share of the particles' effective
number, in the data set that allows least; the mean weight of the step multiplies Z, particles are
resampled in proportion to their weights, and move. Every data set has a population and a Z of its
own. On the way down the particles stay at each wanted temperature for some sweeps, which are looked
at.

To temperature 0, of losses that count errors, the last step keeps the particles without error; it
is made once they are as many as a step has to keep. The way there may be along another loss.

Source: Hukushima, Iba (2003), Population annealing and its application to a spin glass; Del Moral,
Doucet, Jasra (2006), Sequential Monte Carlo samplers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from pyro_ebm.annealing.weights import effective_sample_sizes, systematic_resampling

_BISECTIONS = 40
_RATE = 1.0
_SMALLEST, _LARGEST = 1e-4, 1.0


@runtime_checkable
class Moves(Protocol):
    """How particles move, and what moves them is told."""

    target_acceptance: float

    def begin(self, weights: Tensor) -> Any:
        """The state of weights [D, n, N], with ``weights`` and ``energy``."""
        ...

    def take(self, state: Any, index: Tensor) -> Any:
        """The particles ``index`` [D, n]."""
        ...

    def sweep(
        self, state: Any, beta: float, scale: Tensor, generator: torch.Generator
    ) -> tuple[Any, Tensor]:
        """Moves that leave exp(-beta E) times the prior invariant, and their acceptance [D]."""
        ...


class Plan(NamedTuple):
    """``kept`` is the effective share of particles that a step keeps, ``sweeps`` the moves after
    it, ``looks`` those at a wanted temperature, of which the first fifth is not looked at.

    On the way to temperature 0 a data set without particles free of error at the inverse
    temperature ``coldest`` is one where none are reached: one error more weighs exp(-coldest) less.
    """

    kept: float
    sweeps: int
    looks: int
    coldest: float = 30.0


class Found(NamedTuple):
    """At every temperature [t] and of every data set [D]: log Z relative to the prior (NaN where it
    is not known), and the means of what was looked at; ``reached`` is False where particles without
    error were wanted and none was found. ``num_steps`` counts the steps of annealing, and
    ``variance`` [t, D] is what these add to the relative variance of Z."""

    log_z: Tensor
    variance: Tensor
    means: dict[str, Tensor]
    reached: Tensor
    num_steps: int


Look = Callable[[Any], dict[str, Tensor]]


def annealed(
    moves: Moves,
    weights: Tensor,
    temperatures: Sequence[float],
    plan: Plan,
    *,
    look: Look,
    generator: torch.Generator,
    last: Moves | None = None,
) -> Found:
    """Anneal draws of the prior.

    :param weights: [D, n, N], independent draws of the prior.
    :param temperatures: descending; 0 asks for no error at all.
    :param look: what is looked at, [D] each, as a function of a state of the moves.
    :param last: moves of the loss whose errors are counted at temperature 0, if others lead there.
    """
    state = moves.begin(weights)
    sets = len(weights)
    log_z, variance = torch.zeros(2, sets, dtype=torch.float64, device="cpu")
    reached = torch.ones(sets, dtype=torch.bool, device="cpu")
    scale = torch.full((sets,), 0.5, dtype=torch.float64, device="cpu")
    beta, num_steps = 0.0, 0
    rows: list[_Seen] = []
    for temperature in temperatures:
        goal = 1.0 / temperature if temperature > 0 else math.inf
        while beta < goal:
            counted = last.begin(state.weights) if last and math.isinf(goal) else state
            ahead = next_beta(state.energy, counted.energy, beta, goal, plan)
            if last and math.isinf(ahead):
                moves, state = last, counted
            weighing = increments(state.energy, beta, ahead)
            gain = weighing.logsumexp(1) - math.log(weighing.shape[1])
            reached = reached & gain.isfinite()
            log_z = log_z + gain
            variance = variance + 1.0 / effective_sample_sizes(weighing) - 1.0 / weighing.shape[1]
            state = moves.take(state, resampled(weighing, generator))
            beta = ahead
            num_steps += 1
            for _ in range(plan.sweeps):
                state, scale = _moved(moves, state, beta, scale, generator)
        state, scale, means = _looked_at(moves, state, beta, scale, plan, look, generator)
        rows.append(_Seen(log_z, variance, means, reached))
    return _stacked(rows, num_steps)


def settled(
    moves: Moves,
    weights: Tensor,
    temperatures: Sequence[float],
    plan: Plan,
    *,
    look: Look,
    generator: torch.Generator,
) -> Found:
    """Particles that begin at given weights [D, n, N] at every temperature, without weights: log Z
    is not known. Arguments are those of :func:`annealed`."""
    sets = len(weights)
    unknown = torch.full((sets,), math.nan, dtype=torch.float64, device="cpu")
    rows: list[_Seen] = []
    for temperature in temperatures:
        beta = 1.0 / temperature if temperature > 0 else math.inf
        scale = torch.full((sets,), 0.1, dtype=torch.float64, device="cpu")
        state = moves.begin(weights)
        state, _, means = _looked_at(moves, state, beta, scale, plan, look, generator)
        reached = torch.ones(sets, dtype=torch.bool, device="cpu")
        if temperature == 0:
            reached = (state.energy == 0).all(1).cpu()
        rows.append(_Seen(unknown, unknown, means, reached))
    return _stacked(rows, 0)


def increments(energy: Tensor, beta: float, ahead: float) -> Tensor:
    """Log weights [D, n] of a step in float64."""
    energy = energy.double().cpu()
    if math.isinf(ahead):
        return torch.where(energy == 0, 0.0, -math.inf)
    return -(ahead - beta) * energy


def next_beta(energy: Tensor, counted: Tensor, beta: float, goal: float, plan: Plan) -> float:
    """How far the inverse temperature may rise in one step, in all data sets.

    :param counted: energies of the loss whose errors are counted at temperature 0.
    :raises ValueError: energies that are no numbers.
    """
    kept = plan.kept
    energy = energy.double().cpu()
    if not bool(energy.isfinite().all()):
        wrong = int((~energy.isfinite()).sum())
        raise ValueError(
            f"expected finite losses, got NaN or infinity from {wrong} of {energy.numel()} vectors "
            "of weights. Look at the loss, at inputs and targets, and whether the prior allows "
            "weights too large for it."
        )
    if math.isinf(goal):
        without = (counted == 0).double().mean(1)
        if bool((without >= kept).all()) or beta >= plan.coldest:
            return goal
        goal = plan.coldest

    def share(ahead: float) -> float:
        ess = effective_sample_sizes(increments(energy, beta, ahead))
        return float(ess.min()) / energy.shape[1]

    if share(goal) >= kept:
        return goal
    low, high = beta, goal
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) >= kept else (low, middle)
    # Energies that differ without end allow no step; some way is gone all the same.
    return max(low, beta + 1e-9 * (goal - beta))


def resampled(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices [D, n] of particles drawn in proportion to their weights, data set by data set."""
    offsets = torch.rand(len(log_weights), generator=generator, device=generator.device).tolist()
    every = torch.arange(log_weights.shape[1], device=log_weights.device)
    return torch.stack(
        [
            systematic_resampling(row, offset) if bool(row.isfinite().any()) else every
            for row, offset in zip(log_weights, offsets, strict=True)
        ]
    )


def _moved(
    moves: Moves, state: Any, beta: float, scale: Tensor, generator: torch.Generator
) -> tuple[Any, Tensor]:
    """One sweep, and the scales that it teaches."""
    state, rate = moves.sweep(state, beta, scale, generator)
    error = rate.double().cpu() - moves.target_acceptance
    return state, (scale.log() + _RATE * error).exp().clamp(_SMALLEST, _LARGEST)


def _looked_at(
    moves: Moves,
    state: Any,
    beta: float,
    scale: Tensor,
    plan: Plan,
    look: Look,
    generator: torch.Generator,
) -> tuple[Any, Tensor, dict[str, Tensor]]:
    """Sweeps at one temperature: the first fifth tunes, in the others nothing is tuned any more."""
    before = plan.looks // 5
    state = moves.begin(state.weights)
    for _ in range(before):
        state, scale = _moved(moves, state, beta, scale, generator)
    total: dict[str, Tensor] = {}
    for _ in range(plan.looks - before):
        state, _ = moves.sweep(state, beta, scale, generator)
        for name, value in look(state).items():
            total[name] = total.get(name, torch.zeros_like(scale)) + value.double().cpu()
    return state, scale, {name: value / (plan.looks - before) for name, value in total.items()}


class _Seen(NamedTuple):
    """What was found at one temperature."""

    log_z: Tensor
    variance: Tensor
    means: dict[str, Tensor]
    reached: Tensor


def _stacked(rows: list[_Seen], num_steps: int) -> Found:
    log_z, variance, means, reached = zip(*rows, strict=True)
    together = torch.stack(reached)
    return Found(
        torch.where(together, torch.stack(log_z), math.nan),
        torch.stack(variance),
        {
            name: torch.where(together, torch.stack([row[name] for row in means]), math.nan)
            for name in means[0]
        },
        together,
        num_steps,
    )


def joined(first: Found, second: Found) -> Found:
    """What was found at the temperatures of two runs of the same data sets."""
    names = first.means
    return Found(
        torch.cat([first.log_z, second.log_z]),
        torch.cat([first.variance, second.variance]),
        {name: torch.cat([first.means[name], second.means[name]]) for name in names},
        torch.cat([first.reached, second.reached]),
        first.num_steps + second.num_steps,
    )
