"""Samples beside data: histograms, points, pairs of columns, or sheets of images.

matplotlib is an extra and is imported when a picture is drawn; every function gives a matplotlib
Figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_ebm.figure import empty_figure
from pyro_ebm.learning.evaluation.rows import Rows, as_tensor, check_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE = "#1f5f8b", "#e07b39"
# Samples are shown so far beyond the data, in units of the range of these.
_BEYOND = 0.2
# Whole numbers are shown as such where a column has at most so many different ones.
_MOST_STATES = 25


def plot_samples(
    data: Rows,
    samples: Rows,
    *,
    names: Sequence[str] | None = None,
    num_columns: int = 4,
    num_points: int = 2000,
    num_images: int = 36,
) -> Figure:
    """Samples beside data, in the same units.

    Numbers are drawn as histograms, pairs of numbers as points side by side. Of longer rows the
    first columns are drawn in pairs, the data below the diagonal and the samples above it, with
    histograms of both on it. Rows of shape [height, width], [1 or 3, height, width] or
    [height, width, 3] are images, and are laid out on two sheets.

    :param data: rows [n, *event].
    :param samples: rows [m, *event].
    :param names: of the columns, for rows of numbers; x1, x2, ... unless given.
    :param num_columns: how many columns are drawn in pairs; give rows of those that matter.
    :param num_points: rows drawn as points, evenly spaced among all.
    :param num_images: images on a sheet, evenly spaced among all.
    :raises ImportError: matplotlib is missing.
    :raises TypeError: no rows of real numbers.
    :raises ValueError: rows of different shapes, or neither of numbers nor images.
    """
    for name, value, least in (
        ("num_columns", num_columns, 2),
        ("num_points", num_points, 1),
        ("num_images", num_images, 1),
    ):
        check_count(name, value, least=least)
    both = [as_tensor("data", data), as_tensor("samples", samples)]
    if both[0].shape[1:] != both[1].shape[1:]:
        shapes = [tuple(each.shape[1:]) for each in both]
        raise ValueError(
            f"expected rows of one event shape, got {shapes[0]} of data, {shapes[1]} of samples."
        )
    event = both[0].shape[1:]
    left, right = (each.double().cpu().numpy() for each in both)
    if len(event) > 1:
        if names is not None:
            raise ValueError("expected names for rows of numbers alone, got images with names.")
        return _sheets(_as_images(left), _as_images(right), num_images)
    left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
    width = left.shape[1]
    labels = [f"x{i + 1}" for i in range(width)] if names is None else list(names)
    if len(labels) != width:
        raise ValueError(f"expected {width} names, one a column, got {len(labels)}.")
    if width == 1:
        return _one_column(left[:, 0], right[:, 0], labels[0])
    if width == 2:
        return _two_columns(left, right, labels, num_points)
    shown = min(num_columns, width)
    return _pairs(left[:, :shown], right[:, :shown], labels[:shown], width, num_points)


def spread_over(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, evenly spaced among all."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def paleness(number: int) -> float:
    """Points are the paler the more there are."""
    return float(np.clip(12 / math.sqrt(number), 0.2, 0.9))


class _Column:
    """Where a column of both groups is drawn: its ends, its bins, and whether it is of states."""

    def __init__(self, data: np.ndarray, samples: np.ndarray) -> None:
        low, high = data.min(), data.max()
        room = _BEYOND * (high - low) or 0.5
        low, high = (
            min(low, max(samples.min(), low - room)),
            max(high, min(samples.max(), high + room)),
        )
        both = np.unique(np.concatenate([data, samples]))
        self.states = len(both) <= _MOST_STATES and bool((both == both.round()).all())
        if self.states:
            low, high = math.ceil(low), math.floor(high)
        margin = 0.5 if self.states else 0.03 * (high - low) or 0.5
        self.low, self.high = low - margin, high + margin
        usual = round(2.5 * len(data) ** (1 / 3))
        bins = round(self.high - self.low) if self.states else min(max(usual, 10), 60)
        self.edges = np.linspace(self.low, self.high, bins + 1)

    def shaken(self, values: np.ndarray, seed: int) -> np.ndarray:
        """States a little apart, so that points do not hide one another."""
        noise = np.random.default_rng(seed).uniform(-0.3, 0.3, len(values))
        return values + noise if self.states else values

    def draw(self, panel: Any, data: np.ndarray, samples: np.ndarray) -> None:
        for values, colour, name in ((data, _BLUE, "data"), (samples, _ORANGE, "samples")):
            counts, _ = np.histogram(values, bins=self.edges)
            heights = counts / (len(values) * np.diff(self.edges))
            beyond = len(values) - int(counts.sum())
            label = f"{len(values)} {name}" + (f", {beyond} beyond" if beyond else "")
            panel.stairs(heights, self.edges, fill=True, alpha=0.35, color=colour)
            panel.stairs(heights, self.edges, color=colour, linewidth=1.2, label=label)
        panel.set_xlim(self.low, self.high)
        panel.set_ylim(bottom=0)
        panel.xaxis.get_major_locator().set_params(integer=self.states)
        panel.spines[["top", "right"]].set_visible(False)


def _one_column(data: np.ndarray, samples: np.ndarray, name: str) -> Figure:
    figure = empty_figure(width=6.4, height=3.6)
    panel = figure.subplots()
    _Column(data, samples).draw(panel, data, samples)
    panel.set_xlabel(name)
    panel.set_ylabel("density")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _two_columns(
    data: np.ndarray, samples: np.ndarray, names: Sequence[str], num_points: int
) -> Figure:
    columns = [_Column(data[:, i], samples[:, i]) for i in range(2)]
    figure = empty_figure(width=8.0, height=4.2)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, rows, colour, kind in zip(
        panels, (data, samples), (_BLUE, _ORANGE), ("data", "samples"), strict=True
    ):
        _scatter(panel, columns[0], columns[1], rows, num_points, colour)
        inside = [(c.low <= rows[:, i]) & (rows[:, i] <= c.high) for i, c in enumerate(columns)]
        beyond = int((~(inside[0] & inside[1])).sum())
        away = f", {beyond} beyond" if beyond else ""
        panel.set_title(f"{len(rows)} {kind}{away}", fontsize=10)
        panel.set_xlabel(names[0])
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(names[1])
    return figure


def _pairs(
    data: np.ndarray, samples: np.ndarray, names: Sequence[str], width: int, num_points: int
) -> Figure:
    number = len(names)
    columns = [_Column(data[:, i], samples[:, i]) for i in range(number)]
    side = 1.9 * number
    figure = empty_figure(width=side + 0.4, height=side + 0.6)
    panels = figure.subplots(number, number, squeeze=False)
    for i in range(number):
        for j in range(number):
            panel = panels[i, j]
            if i == j:
                columns[i].draw(panel, data[:, i], samples[:, i])
                panel.set_yticks([])
                panel.spines["left"].set_visible(False)
            else:
                rows, colour = (data, _BLUE) if i > j else (samples, _ORANGE)
                _scatter(panel, columns[j], columns[i], rows[:, [j, i]], num_points, colour)
            panel.tick_params(labelsize=7, labelbottom=i == number - 1, labelleft=j == 0 != i)
            if i == number - 1:
                panel.set_xlabel(names[j], fontsize=9)
            if j == 0:
                panel.set_ylabel(names[i], fontsize=9)
    some = f", {number} of {width} columns" if number < width else ""
    figure.suptitle(
        f"{len(data)} data (below) and {len(samples)} samples (above the diagonal){some}",
        fontsize=10,
    )
    return figure


def _scatter(
    panel: Any, first: _Column, second: _Column, rows: np.ndarray, most: int, colour: str
) -> None:
    shown = spread_over(rows, most)
    x, y = first.shaken(shown[:, 0], 0), second.shaken(shown[:, 1], 1)
    panel.plot(x, y, ".", color=colour, markersize=2.5, alpha=paleness(len(shown)))
    panel.set_xlim(first.low, first.high)
    panel.set_ylim(second.low, second.high)
    for axis, column in ((panel.xaxis, first), (panel.yaxis, second)):
        axis.get_major_locator().set_params(integer=column.states)


def _as_images(rows: np.ndarray) -> np.ndarray:
    """Images [n, height, width] or [n, height, width, 3].

    :raises ValueError: rows of another shape.
    """
    shape = rows.shape[1:]
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] == 3):
        return rows
    if len(shape) == 3 and shape[0] in (1, 3):
        return rows[:, 0] if shape[0] == 1 else np.moveaxis(rows, 1, -1)
    raise ValueError(
        "expected rows of numbers, or images [height, width], [1 or 3, height, width] or "
        f"[height, width, 3], got event shape {shape}. Reshape them."
    )


def _sheets(data: np.ndarray, samples: np.ndarray, most: int) -> Figure:
    columns = math.ceil(math.sqrt(min(most, max(len(data), len(samples)))))
    # A value beyond the data's is the brightest or the darkest there is.
    low, high = data.min(), data.max()
    figure = empty_figure(width=8.0, height=4.4)
    panels = figure.subplots(1, 2)
    for panel, rows, kind in zip(panels, (data, samples), ("data", "samples"), strict=True):
        shown = (spread_over(rows, most) - low) / (high - low or 1.0)
        panel.imshow(_sheet(shown.clip(0.0, 1.0), columns), cmap="gray", vmin=0.0, vmax=1.0)
        panel.set_axis_off()
        panel.set_anchor("N")
        some = f"{len(shown)} of " if len(shown) < len(rows) else ""
        panel.set_title(f"{some}{len(rows)} {kind}", fontsize=10)
    return figure


def _sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Images in rows, with white lines between them."""
    height, width, *colours = images.shape[1:]
    lines = math.ceil(len(images) / columns)
    gap = max(1, round(0.06 * max(height, width)))
    sheet = np.ones((lines * (height + gap) - gap, columns * (width + gap) - gap, *colours))
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
