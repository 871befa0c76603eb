"""The loop that trains flows: epochs of steps, a look at what is held out, the best state kept."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pyro_ebm.learning.run import DivergedWarning

INTERRUPTED = "it was interrupted"
NOT_FINITE = "the loss is not finite any more; a smaller learning rate may help"
NO_BETTER = (
    "no epoch was better than the start, which is given back; take a learning rate ten times "
    "smaller, unless the flow was a fitted one"
)
# Nats a row by which what is held out ends worse than at the start where steps were too large; an
# epoch of small ones may miss it too, by next to nothing.
_WORSE = 1.0

# Of parameters a torch optimiser: torch.optim.Adam, or functools.partial of it with settings.
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Plan(NamedTuple):
    """How long to train: ``patience`` epochs without a better state are the end."""

    epochs: int
    patience: int

    def checked(self) -> Plan:
        """The same.

        :raises ValueError: numbers that are not positive.
        """
        for name, value in self._asdict().items():
            check_count(name, value)
        return self


class Trained(NamedTuple):
    """What training leaves: its module holds the best state."""

    train: Tensor
    held_out: Tensor
    value: float
    best: int
    stopped: str


def check_count(name: str, value: Any) -> None:
    """Refuse what is no positive whole number.

    :raises ValueError: so it is.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected {name} to be a positive whole number, got {value!r}.")


def optimizer_of(flow: nn.Module, make: Any) -> torch.optim.Optimizer:
    """The optimiser of a flow: Adam with a learning rate of 0.001 unless another is made.

    :raises TypeError: what makes none, or one that has to evaluate the loss itself.
    """
    parameters = list(flow.parameters())
    if make is None:
        return torch.optim.Adam(parameters, lr=1e-3)
    made = make(parameters) if callable(make) else None
    if not isinstance(made, torch.optim.Optimizer):
        told = ", which holds the parameters of something else: the flow given is copied"
        raise TypeError(
            "expected optimizer to make one from a list of parameters, such as lambda p: "
            f"torch.optim.Adam(p, lr=1e-3), got {type(make).__name__}"
            f"{told if isinstance(make, torch.optim.Optimizer) else ''}."
        )
    if isinstance(made, torch.optim.LBFGS):
        raise TypeError(
            "expected an optimiser that steps along a gradient, got LBFGS, which evaluates the "
            "loss again and again within a step, and every batch has another. Take torch.optim."
            "Adam or torch.optim.SGD."
        )
    return made


def train(
    flow: nn.Module,
    plan: Plan,
    *,
    losses: Callable[[], Iterable[Tensor]],
    judge: Callable[[], float],
    optimizer: torch.optim.Optimizer,
    disable_progbar: bool,
) -> Trained:
    """Train a module until its plan ends, and put its best state back.

    :param losses: one epoch: gives a loss for every step, of which the gradient is followed.
    :param judge: what the module is judged by after an epoch, in nats, lower is better.
    """
    best, value = 0, judge()
    state = copy.deepcopy(flow.state_dict())
    history: list[tuple[float, float]] = []
    stopped = f"all {plan.epochs} epochs are done"
    # tqdm's None means: disabled unless the output is a terminal.
    bar: Any = tqdm(total=plan.epochs, disable=True if disable_progbar else None, unit="epoch")
    # Flows are registered with Pyro under one name, in a store of their own.
    with bar, pyro.get_param_store().scope():
        try:
            for epoch in range(1, plan.epochs + 1):
                flow.train()
                mean = _one_epoch(losses(), optimizer)
                flow.eval()
                now = judge()
                history.append((mean, now))
                if now < value or not math.isfinite(value):
                    best, value, state = epoch, now, copy.deepcopy(flow.state_dict())
                bar.set_postfix_str(f"train {mean:.3f}, held out {now:.3f}, best {value:.3f}")
                bar.update()
                if not math.isfinite(mean):
                    stopped = NOT_FINITE
                    break
                if epoch - best >= plan.patience:
                    stopped = f"{plan.patience} epochs brought nothing better"
                    break
        except KeyboardInterrupt:
            stopped = INTERRUPTED
    flow.load_state_dict(state)
    if best == 0 and history and stopped != INTERRUPTED:
        stopped = f"{stopped}: {NO_BETTER}"
        if not history[-1][1] < value + _WORSE:
            warnings.warn(f"{stopped[0].upper()}{stopped[1:]}.", DivergedWarning, stacklevel=3)
    columns = torch.tensor(history, dtype=torch.float64).reshape(-1, 2)
    return Trained(columns[:, 0], columns[:, 1], value, best, stopped)


def _one_epoch(losses: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> float:
    """The mean loss of the steps of an epoch; a loss that is not finite ends it."""
    values = []
    for loss in losses:
        values.append(float(loss.detach()))
        if not math.isfinite(values[-1]):
            return math.nan
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sum(values) / len(values)
