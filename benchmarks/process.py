"""Runs one measurement in a process of its own, under a time limit, with its clock outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parent.parent
# Where libraries keep what they have compiled: every one below a folder of its own.
_CACHES = {
    "XDG_CACHE_HOME": "{}",
    "TORCHINDUCTOR_CACHE_DIR": "{}/inductor",
    "TRITON_CACHE_DIR": "{}/triton",
    "JAX_COMPILATION_CACHE_DIR": "{}/jax",
    "NUMBA_CACHE_DIR": "{}/numba",
    "PYTENSOR_FLAGS": "base_compiledir={}/pytensor",
}
# JAX keeps only what took long to compile, unless it is told to keep everything.
_KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}

_ERROR = re.compile(r"[\w.]*(Error|Exception|Interrupt): ")


class Failure(Exception):
    """A measurement that could not be made; the message is for the table."""


class Outcome(NamedTuple):
    """``seconds`` by stage; ``until_draws`` from the start of the process to its draws in hand.

    ``facts`` is everything else that the process has told.
    """

    draws: np.ndarray
    seconds: Mapping[str, float]
    until_draws: float
    facts: Mapping[str, Any]


def measure(
    module: str,
    options: Mapping[str, Any],
    *,
    time_limit: float,
    threads: int | None = 1,
    caches: Path | None = None,
) -> Outcome:
    """Run ``python -m module`` and wait for its draws.

    :param time_limit: seconds after which the process is ended; draws handed over before count.
    :param threads: of each library in the process; None leaves them their own choice.
    :param caches: the folder in which libraries keep what they compile; None leaves them theirs.
    :raises Failure: when there are no draws, with the reason in a few words.
    """
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/errors", "w+") as errors:
        command = [sys.executable, "-m", module]
        command.append(json.dumps({**options, "draws": f"{folder}/draws.npy"}))
        began = time.perf_counter()
        until_draws, told = 0.0, {}
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(threads, caches),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            timer = threading.Timer(time_limit, process.kill)
            timer.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("{"):
                        until_draws = until_draws or time.perf_counter() - began
                        told |= json.loads(line)
                timed_out = not timer.is_alive()
            finally:
                timer.cancel()
                process.kill()
        if not told:
            errors.seek(0)
            raise Failure(_reason(errors.read(), time_limit if timed_out else None))
        seconds = told.pop("seconds")
        return Outcome(np.load(f"{folder}/draws.npy"), seconds, until_draws, told)


def _environment(threads: int | None, caches: Path | None) -> dict[str, str]:
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
        if threads is not None:
            environment[name] = str(threads)
    if caches is not None:
        environment |= {name: folder.format(caches) for name, folder in _CACHES.items()}
        environment |= _KEEP_ALL
    return environment


def _reason(errors: str, time_limit: float | None) -> str:
    if time_limit is not None:
        return f"no draws within {time_limit:.0f} s"
    lines = errors.strip().splitlines() or ["the process ended without a word"]
    # Some libraries go on for lines after the error itself.
    named = [line for line in lines if _ERROR.match(line)]
    last = (named or lines)[-1]
    return last if len(last) <= 100 else last[:97] + "..."
