"""Options of a method in values that JSON keeps, to take a run up with and to compare it by.

Numbers and words stay what they are; a schedule or moves, NamedTuples of numbers, become their name
and numbers. Of other objects only the class is kept, and of draws a hash: they are given again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyro_ebm.mcmc.api import MCMC
from pyro_ebm.mcmc.api.identity import digest

from .draws_of_target import ExactDraws

# How a state is kept does not change what is computed.
_NO_SETTINGS = ("checkpoint_seconds",)


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in values that JSON keeps."""
    return {name: _plain(name, value) for name, value in options.items()}


def settings(plain_options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them that change what is computed; an object is a line."""
    return {
        name: " ".join(value.values()) if isinstance(value, Mapping) else value
        for name, value in plain_options.items()
        if name not in _NO_SETTINGS
    }


def completed(
    stored: Mapping[str, Any], given: Mapping[str, Any], strategies: tuple[type, ...]
) -> dict[str, Any]:
    """The options that are given, and the stored ones besides.

    :param strategies: the NamedTuples among them.
    :raises ValueError: an object is missing.
    """
    by_name = {strategy.__name__: strategy for strategy in strategies}
    found = {}
    for name, value in stored.items():
        if name in given:
            continue
        if isinstance(value, Mapping):
            raise ValueError(
                f"expected {name}=, which was a {value['object']} that no folder holds: give what "
                "the run was begun with."
            )
        found[name] = by_name[value[0]](*value[1:]) if isinstance(value, list) else value
    return {**found, **given}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "_fields"):
        return [type(value).__name__, *(_numbers(part) for part in value)]
    about = {"object": type(value).__name__}
    return {**about, "sha256": _of_draws(value)} if name == "reverse" else about


def _numbers(part: Any) -> Any:
    if hasattr(part, "tolist"):
        return part.tolist()
    return [float(number) for number in part] if isinstance(part, list | tuple) else part


def _of_draws(value: Any) -> str:
    """A hash of draws of the target, in whatever they are given."""
    inner = value.draws if isinstance(value, ExactDraws) else value
    return digest(inner.record.positions if isinstance(inner, MCMC) else inner)
