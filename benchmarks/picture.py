"""Pictures of results: speeds and first seconds of samplers; errors of log Z against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

_OURS = "#2f6f9f"
_OTHER_COLOURS, _OTHER_MARKERS = ("#c08a3e", "#6b8f5e", "#8a8a8a"), ("s", "^", "D")
_MARKERS = ("o", "o", "s", "^", "v", "D", "d")


class Panel(NamedTuple):
    """``points`` by library and target: what stands on the axis called ``label``."""

    title: str
    label: str
    points: Mapping[str, Mapping[str, float]]


def draw(panels: Sequence[Panel], ours: str, path: Path) -> None:
    """A panel a question, a row a target, a marker a library; ours in colour, axes logarithmic."""
    targets = list(dict.fromkeys(t for p in panels for points in p.points.values() for t in points))
    libraries = list(dict.fromkeys(library for panel in panels for library in panel.points))
    height = 1.6 + 0.3 * max(1, len(targets))
    figure, grid = _pyplot().subplots(
        1, len(panels), figsize=(1.5 + 5 * len(panels), height), sharey=True, squeeze=False
    )
    markers, lines = dict(zip(libraries, cycle(_MARKERS), strict=False)), {}
    others = cycle(_OTHER_COLOURS)
    colours = {name: _OURS if name.startswith(ours) else next(others) for name in libraries}
    for axes, panel in zip(grid[0], panels, strict=True):
        for library, points in panel.points.items():
            lines[library] = axes.plot(
                list(points.values()),
                [targets.index(target) for target in points],
                markers[library],
                color=colours[library],
                fillstyle="none" if library.endswith("64") else "full",
                linestyle="none",
                label=library,
            )[0]
        axes.set_xscale("log")
        _mark_plainly(axes)
        axes.set_title(panel.title, fontsize=9)
        axes.set_xlabel(panel.label)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_axisbelow(True)
    grid[0][0].set_yticks(range(len(targets)), targets, fontsize=8)
    grid[0][0].invert_yaxis()
    _save(figure, path, legend=list(lines.values()))


def draw_errors(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], ours: str, path: Path
) -> None:
    """A panel a target: every library's (seconds, error), its settings joined by a line."""
    figure, grid = _pyplot().subplots(
        1, len(panels), figsize=(1.0 + 3.2 * len(panels), 3.6), squeeze=False
    )
    libraries = list(dict.fromkeys(library for curves in panels.values() for library in curves))
    others = iter(zip(_OTHER_COLOURS, _OTHER_MARKERS, strict=True))
    styles = {name: (_OURS, "o") if name == ours else next(others) for name in libraries}
    lines = {}
    for axes, (target, curves) in zip(grid[0], panels.items(), strict=True):
        for library, points in curves.items():
            colour, marker = styles[library]
            lines[library] = axes.plot(
                *zip(*points, strict=True), marker=marker, color=colour, linewidth=1, label=library
            )[0]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(0.12)
        axes.set_title(target, fontsize=9)
        axes.set_xlabel("seconds")
    grid[0][0].set_ylabel("rms error of log Z")
    _save(figure, path, legend=list(lines.values()))


def _mark_plainly(axes: Any) -> None:
    """Where a logarithmic axis spans little, its numbers are written as numbers."""
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    low, high = axes.get_xlim()
    if high < 100 * low:
        marks = [factor * 10.0**power for power in range(-3, 6) for factor in (1, 2, 3, 5, 7)]
        axes.xaxis.set_major_locator(FixedLocator([each for each in marks if low <= each <= high]))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path, legend: Sequence[Any] = ()) -> None:
    """Write the figure, with a legend of these lines below all panels."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(rect=(0, 0.07 if legend else 0, 1, 1))
    if legend:
        figure.legend(
            handles=legend, frameon=False, fontsize=8, ncols=len(legend), loc="lower center"
        )
    figure.savefig(path, dpi=150)
    _pyplot().close(figure)
