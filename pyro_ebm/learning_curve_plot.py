"""The picture of a run of learning: is it done, does it overfit, do its chains keep up?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_ebm.figure import empty_figure
from pyro_ebm.learning import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE = "#1f5f8b", "#e07b39"
# By panel: its title, and the curves in it with their names.
_PANELS = (
    ("nats a row, held out", (("log_likelihood", "log likelihood"),)),
    ("loss", (("loss", "a batch"), ("held_out", "held out"))),
    ("energy over that of the data", (("gap", "chains or noise"), ("held_out_gap", "held out"))),
    ("norm of the gradient", (("gradient_norm", ""),)),
    ("acceptance of the chains", (("acceptance", ""),)),
)
_COLUMNS = 2


def _tells(name: str, values: np.ndarray) -> bool:
    """Whether there is something to see: numbers, and rates of moves that can be refused."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and not (name == "acceptance" and bool((known == 1.0).all()))


def plot_learning(trained: Trained) -> Figure:
    """What a run has recorded at its looks, a panel for each thing that it could record.

    :param trained: what :func:`pyro_ebm.fit` gives.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: a run without looks.
    """
    history = trained.history
    steps = history["step"]
    if not len(steps):
        raise ValueError("expected a run with at least one look, got one that ended before.")
    found = [
        (title, kept)
        for title, curves in _PANELS
        if (kept := [c for c in curves if _tells(c[0], history[c[0]])])
    ]
    columns = min(len(found), _COLUMNS)
    rows = -(-len(found) // columns)
    figure = empty_figure(width=4.4 * columns, height=2.5 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for panel, (title, curves) in zip(panels.flat, found, strict=False):
        for (name, label), color in zip(curves, (_BLUE, _ORANGE), strict=False):
            values = np.where(np.isfinite(history[name]), history[name], np.nan)
            panel.plot(steps, values, color=color, lw=1.3, label=label or None)
        if title.startswith("norm"):
            panel.set_yscale("log")
        if title.startswith("energy"):
            panel.axhline(0.0, color="#8a8f94", lw=0.8, zorder=0)
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if any(label for _, label in curves) and len(curves) > 1:
            panel.legend(frameon=False, fontsize=8)
        if title.startswith("acceptance"):
            panel.set_ylim(0.0, 1.03)
    for panel in panels.flat[len(found) :]:
        panel.set_visible(False)
    for number, panel in enumerate(panels.flat[: len(found)]):
        if number + columns >= len(found):
            panel.set_xlabel("step")
            panel.tick_params(labelbottom=True)
    return figure
