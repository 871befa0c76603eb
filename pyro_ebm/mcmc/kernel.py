"""What every kernel is: a pure ``init`` and a pure ``step`` over NamedTuples of tensors.

One step is one gradient evaluation for every chain. Chains are **desynchronised**: a chain that
ends its transition at one step starts the next at the following one, and waits for nobody. All
arrays carry the chains on their last axis; positions are [dim, chains].

Kernels work in whitened momenta: with M^-1 = L L^T the inverse mass, velocities are L p, forces
L^T grad, and p is standard normal. Nothing but the metric knows what M is.

Kernels over the states of discrete sites (:mod:`.discrete`) have the same ``init`` and ``step``;
what they take and report as a gradient are the changes of the log density.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .metric import Metric

LogDensityAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


class Settings(NamedTuple):
    """What adaptation publishes; a chain takes it up at the start of its next transition.

    ``step_size`` is one number or one a chain; ``metric`` holds one or two versions, and
    ``version`` says which of them a transition that starts now shall use. ``max_tree_depth`` bounds
    the trees of transitions to at most 2^max_tree_depth - 1 steps, which keeps the first, badly
    scaled ones short. ``trajectory_length`` is the learned length in time, None for kernels that
    learn none.
    """

    step_size: Tensor
    metric: Metric
    version: Tensor
    max_tree_depth: Tensor
    trajectory_length: Tensor | None = None


class Noise(NamedTuple):
    """Random numbers of one step: ``normal`` [dim, chains] and ``uniform`` [uses, chains]."""

    normal: Tensor
    uniform: Tensor


class Proposal(NamedTuple):
    """The two ends of a trajectory and the whitened momentum at the latter, each [dim, chains]."""

    start: Tensor
    end: Tensor
    momentum: Tensor


class Transition(NamedTuple):
    """What a step reports of every chain; meaningful where ``done``, the end of a transition.

    ``position``, ``gradient`` [dim, chains] and ``log_density`` are the draw; ``energy`` is the
    Hamiltonian of the draw and ``energy_error`` its difference to the start of the transition.
    ``proposal`` is given by kernels whose trajectory length is learned from it.
    """

    done: Tensor
    position: Tensor
    gradient: Tensor
    log_density: Tensor
    acceptance_rate: Tensor
    energy: Tensor
    energy_error: Tensor
    tree_depth: Tensor
    n_steps: Tensor
    diverging: Tensor
    reached_max_treedepth: Tensor
    step_size: Tensor
    proposal: Proposal | None = None


class Kernel(NamedTuple):
    """A sampler.

    ``init(position, log_density, gradient, settings) -> state`` and
    ``step(log_density_and_gradient, state, noise, settings) -> (state, Transition)``;
    ``uniforms`` is how many uniform numbers a step of one chain uses.
    ``make_room(state, num_steps) -> state`` is called between blocks of steps, and may change the
    size of arrays in which a state remembers; a step must not depend on that size.
    ``normals`` says whether a step takes normal numbers; else ``Noise.normal`` is a key, one
    integer, from which it makes its own. ``block`` is the most steps between two looks.
    ``keep_block(log_density_and_gradient, state, noise, settings, keeping) -> (state, position)``
    is there where a kernel makes a whole block of steps, on noise with a leading axis for them, and
    does itself what ``keeping`` says; ``position`` [dim, chains] are the latest draws.
    """

    init: Callable[[Tensor, Tensor, Tensor, Settings], Any]
    step: Callable[[LogDensityAndGradient, Any, Noise, Settings], tuple[Any, Transition]]
    uniforms: int
    make_room: Callable[[Any, int], Any] = lambda state, num_steps: state
    normals: bool = True
    block: int = 16
    keep_block: Callable[..., tuple[Any, Tensor]] | None = None


# A trajectory whose energy rises by more than this has left the region where it can be followed.
MAX_ENERGY_ERROR = 1000.0


def choose(condition: Tensor, new: Any, old: Any) -> Any:
    """Per chain one of two NamedTuples of the same kind."""
    return type(old)(*(torch.where(condition, a, b) for a, b in zip(new, old, strict=True)))
