"""One pass of particles along the path, forwards from the base or backwards from the target.

Forwards, a particle begins as a draw of the base and moves at every inverse temperature in turn;
between moves it is reweighted by exp((beta' - beta) U). The mean of its weight is Z, exactly,
however badly the moves mix. Backwards, a particle that begins as a draw of the target goes the same
way in reverse, and the mean of exp(-work) is 1/Z.

Source: Neal (2001), Annealed importance sampling; Jarzynski (1997), Crooks (1999).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .loop import Loop, Runner, plainly
from .moves import Mover, Tuning
from .weights import effective_sample_size, local_barrier


class Steps(NamedTuple):
    """What a pass met at each inverse temperature; lists of equal length, in its own order.

    ``barrier`` is the local barrier of the step that ends here; ``mean_slope`` is weighted;
    ``acceptance`` is the mean rate of the move made here.
    """

    betas: list[float]
    barrier: list[float]
    mean_slope: list[float]
    acceptance: list[float]
    ess: list[float]

    @property
    def number(self) -> int:
        """How many steps there were."""
        return len(self.betas) - 1

    def moved(self, acceptance: float) -> Steps:
        """With the mean acceptance rate of one more move."""
        return self._replace(acceptance=[*self.acceptance, acceptance])


class Pass(NamedTuple):
    """A finished pass: positions [dim, n], log weights [n] (float64), and how it went.

    ``log_weights`` of a backward pass are the works: minus the logarithm of what is averaged to
    1/Z. ``log_z`` of a pass that resampled is the product of its mean weights.
    """

    positions: Tensor
    log_weights: Tensor
    steps: Steps
    log_z: float | None = None


def forward(
    mover: Mover,
    betas: Sequence[float],
    tuning: Tuning,
    num_particles: int,
    generator: torch.Generator,
    *,
    run: Runner = plainly,
) -> Pass:
    """Anneal fresh particles from the base to the target, with everything fixed beforehand.

    :param betas: from 0 to 1, ascending.
    :param run: what runs the pass.
    """

    def begin() -> Tensor:
        return mover.path.sample(num_particles, generator)

    return _through(mover, betas, tuning, begin, generator, run)


def backward(
    mover: Mover,
    betas: Sequence[float],
    tuning: Tuning,
    positions: Tensor,
    generator: torch.Generator,
    *,
    run: Runner = plainly,
) -> Pass:
    """Anneal draws of the target [dim, n] down to the base; ``betas`` ascend, as forwards."""
    return _through(mover, betas[::-1], tuning, lambda: positions, generator, run)


class _Going(NamedTuple):
    """A pass on its way."""

    positions: Tensor
    log_weights: Tensor
    steps: Steps


def _through(
    mover: Mover,
    betas: Sequence[float],
    tuning: Tuning,
    begin: Callable[[], Tensor],
    generator: torch.Generator,
    run: Runner,
) -> Pass:
    def first() -> _Going:
        positions = begin()
        log_weights = positions.new_zeros(positions.shape[1], dtype=torch.float64)
        return _Going(positions, log_weights, Steps([betas[0]], [], [], [], []))

    def step(state: _Going) -> _Going:
        positions, log_weights, steps = state
        i = steps.number + 1
        before, beta = betas[i - 1], betas[i]
        step_size, factor = tuning.at(beta)
        chain, slope = mover.enter(positions, beta, factor)
        increments = (beta - before) * slope
        steps = noted(steps, log_weights, increments, slope, beta)
        log_weights = log_weights + increments
        if i < len(betas) - 1:
            moved = mover.move(chain, positions, beta, step_size, factor, generator)
            positions = moved.positions
            steps = steps.moved(mean_acceptance(moved.acceptance, log_weights))
        return _Going(positions, log_weights, steps)

    last = len(betas) - 1
    positions, log_weights, steps = run(
        Loop(
            _Going,
            generator,
            first,
            step,
            finished=lambda state: state.steps.number == last,
            number=lambda state: state.steps.number,
            total=last,
        )
    )
    return Pass(positions, log_weights if betas[-1] > betas[0] else -log_weights, steps)


def noted(steps: Steps, before: Tensor, increments: Tensor, slope: Tensor, beta: float) -> Steps:
    """The steps with one more, before which log weights were ``before``."""
    alive = before.softmax(0)
    return Steps(
        [*steps.betas, beta],
        [*steps.barrier, local_barrier(before, increments)],
        [*steps.mean_slope, float((alive * slope.nan_to_num(0.0, 0.0, 0.0)).sum())],
        steps.acceptance,
        [*steps.ess, effective_sample_size(before + increments)],
    )


def together(parts: Sequence[Steps], sizes: Sequence[int]) -> Steps:
    """What parts of these sizes met on the same temperatures: means by size, and the sum of ESS."""
    shares = np.asarray(sizes) / sum(sizes)
    mean = Steps(*((shares @ np.asarray(column)).tolist() for column in zip(*parts, strict=True)))
    ess = np.asarray([part.ess for part in parts]).sum(0).tolist()
    return mean._replace(betas=parts[0].betas, ess=ess)


def mean_acceptance(acceptance: Tensor, log_weights: Tensor) -> float:
    """The mean acceptance rate of the particles that weigh anything."""
    alive = log_weights > -torch.inf
    return float(acceptance[alive].mean()) if bool(alive.any()) else 0.0
