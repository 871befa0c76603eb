"""The picture of a calibration: how far the ranks of each quantity are from uniform."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_ebm.calibration import Calibration
from pyro_ebm.calibration.uniformity import band, counts_below
from pyro_ebm.figure import empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GOOD, _BAD, _BAND = "#1f5f8b", "#c8372d", "#c9cdd1"
_COLUMNS = 3
# Failing elements that a panel names.
_NAMED = 4


def plot_calibration(calibration: Calibration, *, names: Sequence[str] | None = None) -> Figure:
    """The ECDF difference of every quantity, with the band that all of them stay in together.

    A line is one element: the share of simulations whose rank lies below u, minus u. If the
    posteriors are right, every line stays in the band with the calibration's probability.

    :param names: quantities to show, one panel each; None means all.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: a quantity that was not tested.

    Source: Säilynoja, Bürkner, Vehtari (2022), Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison.
    """
    shown = list(calibration.ranks) if names is None else list(names)
    unknown = sorted(set(shown) - set(calibration.ranks))
    if unknown or not shown:
        raise ValueError(
            f"expected names among {list(calibration.ranks)}, got {unknown or 'none at all'}."
        )
    num_draws, count = calibration.num_draws, calibration.num_simulations
    limits = band(count, num_draws, probability=1 - calibration.level)
    tests = calibration.uniformity()
    columns = min(len(shown), _COLUMNS)
    rows = math.ceil(len(shown) / columns)
    figure = empty_figure(width=max(5.5, 3.6 * columns), height=2.7 * rows + 0.7)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    points = np.concatenate([[0.0], limits.points, [1.0]])
    for panel, name in zip(panels.flat, shown, strict=False):
        low = np.pad(limits.lower - limits.points, 1)
        high = np.pad(limits.upper - limits.points, 1)
        panel.fill_between(points, low, high, color=_BAND, alpha=0.6, linewidth=0)
        panel.axhline(0.0, color="white", linewidth=1.0)
        ranks = calibration.ranks[name].reshape(count, -1).cpu().numpy()
        p_values = tests[name].p_value
        failing = 0
        for element, index in enumerate(np.ndindex(p_values.shape)):
            share = counts_below(ranks[:, element], num_draws) / count
            difference = np.pad(share - limits.points, 1)
            failed = bool(p_values[index] <= calibration.level)
            failing += failed
            label = f"{list(index)}" if failed and index and failing <= _NAMED else None
            panel.plot(
                points,
                difference,
                color=_BAD if failed else _GOOD,
                linewidth=1.4,
                alpha=1.0 if failed else max(0.35, 1 / p_values.size),
                label=label,
                zorder=3 if failed else 2,
            )
        if failing and p_values.shape:
            panel.legend(fontsize=8, frameon=False, title="outside", title_fontsize=8)
        smallest = f"{'smallest ' if p_values.size > 1 else ''}p = {p_values.min():.2g}"
        panel.set_title(f"{name}   {smallest}", fontsize=10, color=_BAD if failing else "black")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < len(shown))
        panels[last, column].set_xlabel("rank of the truth, as a share")
        panels[last, column].tick_params(labelbottom=True)
    for panel in panels[:, 0]:
        panel.set_ylabel("ECDF minus uniform")
    verdict = "calibrated" if calibration.passed else "not calibrated"
    figure.suptitle(
        f"{verdict}: {count} simulations, band of {calibration.probability:.0%} for all lines",
        fontsize=11,
    )
    return figure
