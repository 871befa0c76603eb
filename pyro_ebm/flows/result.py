"""What a fit of a flow gives back."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from .distribution import FlowDistribution


class FlowHistory(NamedTuple):
    """By epoch the nats a row costs, lower is better: those trained on, and those held out."""

    train: Float[Tensor, " epochs"]
    held_out: Float[Tensor, " epochs"]


class FittedFlow(NamedTuple):
    """A fitted flow. ``distribution`` has its best state, frozen.

    ``held_out`` is the mean of -log p over what was held out, in nats a row, in that state; as the
    state was chosen by it, it is a little too good: judge by rows of your own that no fit has seen.
    After :func:`fit_flow_to_target` it is the mean of log q - log p over fresh draws of the flow,
    the Kullback-Leibler divergence up to the target's log Z. ``best`` is the epoch it was found
    after, 0 for none; ``stopped`` says why training ended.
    """

    distribution: FlowDistribution
    history: FlowHistory
    held_out: float
    best: int
    stopped: str
