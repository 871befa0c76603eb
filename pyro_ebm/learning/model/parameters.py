"""Parameters of :class:`.EnergyModel` that can be judged before anything is fitted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pyro_ebm.mcmc.api.arguments import check_whole

from .mixture_base import MOST_ROWS, ROWS_A_COMPONENT


def check_parameters(model: Any) -> None:
    """Refuse parameters outside of their range.

    :raises ValueError: naming the parameter.
    """
    check_whole("num_steps", model.num_steps, 0)
    check_whole("batch_size", model.batch_size, 1)
    if model.patience is not None:
        check_whole("patience", model.patience, 1)
    margins, temperature, jitter = model.margins, model.temperature, model.jitter
    if margins not in ("auto", "plain", "normal"):
        raise ValueError(f'expected margins to be "auto", "plain" or "normal", got {margins!r}.')
    if temperature not in ("auto", "calibrated") and not _is_positive(temperature):
        raise ValueError(
            'expected temperature to be "auto", "calibrated" or a positive number, got '
            f"{temperature!r}."
        )
    if jitter != "auto" and not (_is_number(jitter) and 0.0 <= jitter < math.inf):
        raise ValueError(f'expected jitter to be "auto" or at least 0, got {jitter!r}.')
    if not _is_positive(model.learning_rate):
        raise ValueError(
            f"expected learning_rate to be a positive number, got {model.learning_rate!r}. Give "
            "one such as 2e-3."
        )
    share = model.held_out
    if share is not None and not (_is_number(share) and 0.0 <= share < 1.0):
        raise ValueError(
            f"expected held_out to be a share of the rows in [0, 1), or None, got {share!r}."
        )
    if not _are_widths(model.hidden):
        raise ValueError(
            "expected hidden to be the widths of hidden layers, whole numbers of at least 1, got "
            f"{model.hidden!r}. Give (64,) for one layer, (128, 128) for two."
        )
    choices = model.components
    if isinstance(choices, str) and choices == "auto":
        return
    if not _is_whole(choices) and not _are_widths(choices):
        raise ValueError(
            'expected components to be "auto", a whole number of at least 1, or a list of such, '
            f"got {choices!r}."
        )


def check_enough_rows(components: Any, number: int) -> None:
    """Refuse components of a mixture of which none can be fitted to so many rows.

    :raises ValueError: saying how many can.
    """
    if isinstance(components, str):
        return
    fewest = components if isinstance(components, int) else min(components)
    most = max(min(number, MOST_ROWS) // ROWS_A_COMPONENT, 1)
    if fewest > most:
        raise ValueError(
            f"expected components to be at most {most} with {number} rows, as each takes at least "
            f"{ROWS_A_COMPONENT}"
            f"{f' and {MOST_ROWS} rows are looked at' if number > MOST_ROWS else ''}, got "
            f"{components!r}. Take fewer components, or more rows."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.number) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0.0 < value < math.inf


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_widths(values: Any) -> bool:
    """Whether these are several whole numbers of at least 1."""
    if (
        not isinstance(values, Iterable)
        or isinstance(values, str)
        or not hasattr(values, "__len__")
    ):
        return False
    return len(values) > 0 and all(  # type: ignore[arg-type]
        _is_whole(int(each) if isinstance(each, np.integer) else each) for each in values
    )
