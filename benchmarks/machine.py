"""What results are to be read with: the machine, its load, and the versions of the libraries."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any


def attributes(libraries: Sequence[str], began: float) -> dict[str, Any]:
    """The attributes of a benchmark that began at that reading of ``time.perf_counter``."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load before the end": os.getloadavg(),
        "minutes": (time.perf_counter() - began) / 60,
        "versions": {library: _version(library) for library in libraries},
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except ModuleNotFoundError:
        return "not installed"
