"""Runs one measurement in a process of its own, under a time limit, with its clock outside."""

from __future__ import annotations

import json
import os
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


class Failure(Exception):
    """A measurement that could not be made; the message is for the table."""


class Outcome(NamedTuple):
    """``seconds`` by stage; ``until_draws`` from the start of the process to its draws in hand."""

    draws: np.ndarray
    seconds: Mapping[str, float]
    until_draws: float


def measure(
    module: str, options: Mapping[str, Any], *, time_limit: float, threads: int | None = 1
) -> Outcome:
    """Run ``python -m module`` and wait for its draws.

    :param time_limit: seconds after which the process is ended.
    :param threads: of each library in the process; None leaves them their own choice.
    :raises Failure: when there are no draws, with the reason in a few words.
    """
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
        if threads is not None:
            environment[name] = str(threads)
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/errors", "w+") as errors:
        command = [sys.executable, "-m", module]
        command.append(json.dumps({**options, "draws": f"{folder}/draws.npy"}))
        began = time.perf_counter()
        until_draws, told = 0.0, None
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            timer = threading.Timer(time_limit, process.kill)
            timer.start()
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    until_draws, told = time.perf_counter() - began, line
            timed_out = not timer.is_alive()
            timer.cancel()
        if told is None:
            errors.seek(0)
            raise Failure(_reason(errors.read(), time_limit if timed_out else None))
        return Outcome(np.load(f"{folder}/draws.npy"), json.loads(told), until_draws)


def _reason(errors: str, time_limit: float | None) -> str:
    if time_limit is not None:
        return f"no draws within {time_limit:.0f} s"
    lines = errors.strip().splitlines()
    last = lines[-1] if lines else "the process ended without a word"
    return last if len(last) <= 100 else last[:97] + "..."
