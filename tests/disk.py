"""Deaths of a run at any moment at which something is done to the disk."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest


class Killed(BaseException):
    """What nobody catches: the process is gone."""


def events(
    monkeypatch: pytest.MonkeyPatch, at: int | None, *, more: Sequence[tuple[Any, str]] = ()
) -> Iterator[int]:
    """Count whatever is done to the disk, and die before the event of this number.

    :param more: owners and names of further functions that write.
    """
    count = 0

    def watched(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return function(*args, **kwargs)

        return call

    for owner, name in ((os, "replace"), (os, "fsync"), (np, "savez"), *more):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    while True:
        yield count
