"""Do the peers' models have the same posterior as ours?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .contestants import NUMPYRO, NUTPIE
from .process import Failure, measure
from .targets import SUITE

# Of the greatest difference between two points: log densities of tables reach a million.
TOLERANCE = 1e-8
_SECONDS = 600.0


def check(libraries: Sequence[str], targets: Sequence[str]) -> dict[tuple[str, str], str]:
    """By library and target why a model is another than ours; those that agree are left out.

    Pyro runs the very models of ours.
    """
    found = {}
    names = [target for target in targets if target in SUITE]
    for library in (NUTPIE, NUMPYRO):
        if library not in libraries or not names:
            continue
        try:
            options = {"library": library, "targets": names}
            pairs = measure("benchmarks.peers.densities", options, time_limit=_SECONDS).draws
        except Failure as failure:
            found |= {(library, name): f"its model was not checked: {failure}" for name in names}
            continue
        for name, (ours, theirs) in zip(names, pairs, strict=True):
            why = differing(ours, theirs)
            if why:
                found[library, name] = why
    return found


def differing(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The difference of two log densities [point] in words; both are 0 at the first point."""
    apart = float(np.abs(theirs - ours).max())
    if apart <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        return ""
    return f"its log density differs from ours by {apart:.3g}"
