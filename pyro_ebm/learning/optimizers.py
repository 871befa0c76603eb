"""Optimisers and schedules of learning rates: made, or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def check_like(name: str, now: Any, kept: Any) -> None:
    """Refuse to go on with an optimiser or a scheduler of another kind.

    :raises ValueError: their states have other parts.
    """

    def parts(state: Any) -> Any:
        groups = (state or {}).get("param_groups", [])
        return None if state is None else [sorted(state), *(sorted(group) for group in groups)]

    if parts(now) != parts(kept):
        which = "none" if now is None else "another"
        raise ValueError(
            f"expected the {name} that the run was begun with, got {which}. Give {name}= as it was "
            "given to fit."
        )


def optimizer_of(given: Any, parameters: list[Tensor], own: Sequence[Tensor]) -> Any:
    """The optimiser of the energy's parameters and of the objective's own.

    These are no weights: a decay that pulls log Z to zero would make it wrong.
    """
    if given is None:
        made: Any = torch.optim.Adam(parameters, lr=1e-3)
    elif isinstance(given, torch.optim.Optimizer):
        made = given
    else:
        made = given(list(parameters)) if callable(given) else None
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(
            "expected optimizer to be a torch optimizer, or to make one from a list of parameters, "
            f"such as lambda p: torch.optim.Adam(p, lr=1e-3); got {type(given).__name__}."
        )
    if isinstance(made, torch.optim.LBFGS):
        raise TypeError(
            "expected an optimizer that steps by one gradient of a batch, such as Adam, got LBFGS, "
            "which evaluates a loss many times."
        )
    held = {id(p) for group in made.param_groups for p in group["params"]}
    if not any(id(p) in held for p in parameters):
        raise ValueError(
            "expected an optimizer of parameters of the energy, got one that holds none of them."
        )
    decay = {"weight_decay": 0.0} if "weight_decay" in made.defaults else {}
    missing = [p for p in own if id(p) not in held]
    if missing:
        made.add_param_group({"params": missing, **decay})
    return made


def scheduler_of(make: Callable[[torch.optim.Optimizer], Any] | None, optimizer: Any) -> Any:
    """The schedule of learning rates; None without one.

    :raises TypeError: one that wants a loss at each step.
    """
    made = None if make is None else make(optimizer)
    if isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise TypeError(
            "expected a scheduler that steps by itself, such as CosineAnnealingLR, got "
            "ReduceLROnPlateau, which wants a loss. Use patience= to stop in time."
        )
    return made
