"""Pictures of results: speeds and first seconds of sampling; errors of log Z against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STAGES = ("start and imports", "set-up and warm-up", "sampling")
_OURS, _OTHERS = "#2f6f9f", "#b9b9b9"
_OTHER_COLOURS, _OTHER_MARKERS = ("#c08a3e", "#6b8f5e", "#8a8a8a"), ("s", "^", "D")
_STAGE_COLOURS = ("#d8d8d8", "#8fb7d3", "#2f6f9f")


class Bar(NamedTuple):
    """A speed with its label; ours is drawn in colour."""

    label: str
    speed: float
    ours: bool


def draw(
    groups: Mapping[str, Sequence[Bar]],
    starts: Mapping[str, Sequence[float]],
    path: Path,
) -> None:
    """Speeds by target on the left, seconds by stage and library on the right."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=(1.2, 1))
    place, places, labels = 0.0, [], []
    for target, bars in groups.items():
        left.annotate(
            target,
            (0.0, place - 0.62),
            (3, 0),
            left.get_yaxis_transform(),
            "offset points",
            va="center",
            fontsize=8,
            style="italic",
        )
        for bar in bars:
            left.barh(place, bar.speed, color=_OURS if bar.ours else _OTHERS)
            left.annotate(f" {bar.speed:,.0f}", (bar.speed, place), va="center", fontsize=8)
            places.append(place)
            labels.append(bar.label)
            place += 1
        place += 1.0
    left.set_yticks(places, labels, fontsize=8)
    left.invert_yaxis()
    left.set_xscale("log")
    left.margins(x=0.15)
    left.set_xlabel("effective draws per second, worst parameter")
    left.set_title("after warm-up", fontsize=9)
    for row, seconds in enumerate(starts.values()):
        done = 0.0
        for stage, part, colour in zip(STAGES, seconds, _STAGE_COLOURS, strict=True):
            right.barh(row, part, left=done, color=colour, label=stage if row == 0 else None)
            done += part
        right.annotate(f" {done:.1f} s", (done, row), va="center", fontsize=8)
    right.set_yticks(range(len(starts)), list(starts), fontsize=8)
    right.invert_yaxis()
    right.margins(x=0.15)
    right.set_xlabel("seconds from process start to an ESS of 1000")
    right.set_title("eight schools", fontsize=9)
    right.legend(
        frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12)
    )
    _save(figure, path)


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
