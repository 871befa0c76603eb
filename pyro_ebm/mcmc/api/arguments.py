"""Arguments of MCMC that can be judged by themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least ``least``.

    :raises ValueError: naming the argument.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def check_share(name: str, value: Any) -> None:
    """Refuse what is no number within (0, 1).

    :raises ValueError: naming the argument.
    """
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie in (0, 1), got {value}.")


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is no time of 0 or more seconds.

    :raises TypeError: it is no number.
    :raises ValueError: it is less, or NaN.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, got {value!r}.")
    if not value >= 0:
        raise ValueError(f"{name} must be a time of 0 or more seconds, got {value}.")


def folder_of(name: str, value: Any) -> Path:
    """The absolute path of a folder, which stays the same when the working directory changes; ``~``
    is the home of the user.

    :raises TypeError: it is no path.
    :raises ValueError: it is empty, or below a file.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a folder, got {value!r}.")
    if not os.fspath(value):
        raise ValueError(f'{name} must be the path of a folder ("run.zarr"), got an empty one.')
    path = Path(value).expanduser().absolute()
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"{name}={str(path)!r} cannot be a folder: {above} is a file.")
    return path
