"""What the measured processes share: their options, a stopwatch, and how they hand over draws.

Nothing heavy is imported here, as the time from the start of a process is measured too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any


class Stopwatch:
    """Seconds by name of the stage that a lap ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap, or the start, to this stage."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def options() -> dict[str, Any]:
    """The options of this process, from its command line."""
    return json.loads(sys.argv[1])


def hand_over(draws: Any, watch: Stopwatch) -> None:
    """Write the draws where the options say, then tell on one line that they are there.

    With the seconds goes the greatest memory that the process has held so far, in MB.
    """
    import numpy as np

    np.save(options()["draws"], np.asarray(draws))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell(seconds=watch.seconds, memory=memory)


def tell(**facts: Any) -> None:
    """Tell more of a run whose draws are handed over: it costs the run no time."""
    print(json.dumps(facts), flush=True)
