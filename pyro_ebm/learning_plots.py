"""What to look at after an energy was learned: its landscape, and how low it puts what.

matplotlib is an extra and is imported when a picture is drawn; every function gives a matplotlib
Figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.energies import Energy, as_energy, as_temperature, evaluate_rows
from pyro_ebm.figure import empty_figure
from pyro_ebm.learning.evaluation.rows import Rows, check_count, configurations
from pyro_ebm.samples_plot import paleness, spread_over

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY, _PALE = "#1f5f8b", "#e07b39", "#8a8f94", "#f4f4f4"
# Energies are shown so far beyond those of the data, in units of the range of these.
_ROOM = 3.0
_NEARLY_ALL = (0.002, 0.998)
_CHUNK = 4096


def plot_landscape(
    energy: object,
    data: Rows | None = None,
    *,
    temperature: float | Tensor = 1.0,
    limits: Sequence[Sequence[float | int]] | None = None,
    highest: float = 12.0,
    resolution: int = 200,
    num_points: int = 2000,
) -> Figure:
    """E/T of a two-dimensional energy in shades, above its lowest value in the picture.

    What is pale has no mass to speak of: exp(-12) of the density at the lowest point, as far as
    ``highest`` goes. Rows of data are drawn as points.

    :param energy: an energy of two numbers; or a net, or a function of two numbers in a tensor.
    :param data: rows [n, 2].
    :param temperature: T, one number.
    :param limits: ((low, high), (low, high)) of the two numbers; around the data, or else around
        draws of an energy that gives exact ones, unless given.
    :param highest: in nats, above which all is pale.
    :param resolution: points of the grid along either side.
    :param num_points: rows of data drawn, evenly spaced among all.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: an energy of something else than two continuous numbers, or that is no
        number anywhere in the picture; no limits, where there is nothing to tell them from.
    """
    check_count("resolution", resolution, least=2)
    check_count("num_points", num_points, least=1)
    if not 0.0 < highest < math.inf:
        raise ValueError(f"expected a positive, finite highest, got {highest}.")
    known = energy if isinstance(energy, Energy) else as_energy(energy, event_shape=(2,))
    if known.event_shape != (2,) or known.support.is_discrete:
        raise ValueError(
            f"expected an energy of two continuous numbers, got {type(known).__name__} with event "
            f"shape {tuple(known.event_shape)} on {known.support}. Hold the others with "
            "clamp(energy, ...)."
        )
    level = _one_temperature(temperature)
    points = None if data is None else configurations("data", known, data)[1]
    if limits is None:
        around = points if points is not None else known.exact_sample((1000,), temperature=level)
        if around is None:
            raise ValueError(
                "expected data or limits=((low, high), (low, high)), as nothing is known of where "
                f"the mass of {type(known).__name__} lies."
            )
        low, high = (end(0).values.double().cpu().numpy() for end in (around.min, around.max))
        margin = 0.2 * np.where(high > low, high - low, 1.0)
        sides = np.stack([low - margin, high + margin], 1)
    else:
        sides = np.asarray(limits, dtype=float)
        if sides.shape != (2, 2) or not (sides[:, 0] < sides[:, 1]).all():
            raise ValueError(f"expected limits ((low, high), (low, high)), got {limits}.")
    axes = [np.linspace(low, high, resolution) for low, high in sides]
    grid = torch.as_tensor(np.stack(np.meshgrid(*axes), -1).reshape(-1, 2))
    values = _on_grid(known, grid, points) / level
    if not np.isfinite(values).any():
        raise ValueError(
            f"expected an energy that is a number somewhere within {sides.tolist()}, got none."
        )
    values = (values - np.nanmin(values)).reshape(resolution, resolution)
    figure = empty_figure(width=5.6, height=4.6)
    panel = figure.subplots()
    panel.set_facecolor(_PALE)
    levels = np.linspace(0.0, highest, 25)
    colours = _shades()
    shades = panel.contourf(*axes, values, levels=levels, cmap=colours, extend="max")
    panel.contour(*axes, values, levels=levels[2::4], colors="white", linewidths=0.5, alpha=0.7)
    if points is not None:
        shown = spread_over(points.double().cpu().numpy(), num_points)
        panel.plot(*shown.T, ".", color=_ORANGE, markersize=2.5, alpha=paleness(len(shown)))
        panel.set_title(f"{len(points)} rows of data", fontsize=10, color=_ORANGE)
    panel.set_xlim(*sides[0])
    panel.set_ylim(*sides[1])
    panel.set_xlabel("x1")
    panel.set_ylabel("x2")
    ticks = np.linspace(0.0, highest, 5)
    figure.colorbar(shades, ax=panel, label="E/T above its lowest value (nats)", ticks=ticks)
    return figure


def plot_energies(
    energy: object,
    data: Rows,
    samples: Rows,
    noise: Rows | None = None,
    *,
    temperature: float | Tensor = 1.0,
    num_bins: int = 50,
) -> Figure:
    """Histograms of E/T at rows of data, at samples, and at noise.

    Of a good energy the first two agree: where data lie lower, samples have not come down yet or
    the energy has learned the data by heart; where samples lie lower, there are wells without data
    in them. Noise should lie above both.

    :param energy: an Energy; or a net or a function of the event that a row is.
    :param data: rows [n, *event].
    :param samples: rows [m, *event].
    :param noise: rows [l, *event], if any.
    :param temperature: T, one number.
    :param num_bins: of each histogram.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: rows that the energy does not take, or whose energies are no numbers.
    """
    check_count("num_bins", num_bins, least=2)
    level = _one_temperature(temperature)
    kinds = [("data", data, _BLUE), ("samples", samples, _ORANGE)]
    if noise is not None:
        kinds.append(("noise", noise, _GREY))
    values = [_energies(*configurations(name, energy, rows)) / level for name, rows, _ in kinds]
    finite = [each[np.isfinite(each)] for each in values]
    for (name, _, _), kept in zip(kinds, finite, strict=True):
        if not len(kept):
            raise ValueError(f"expected energies that are numbers, got none at the {name}.")
    first, last = np.quantile(finite[0], _NEARLY_ALL)
    room = _ROOM * (last - first) or 1.0
    # What lies far off is counted and not shown: the data would be a line beside it.
    ends = np.quantile(np.concatenate(finite[1:]), _NEARLY_ALL)
    low, high = min(first, max(ends[0], first - room)), max(last, min(ends[1], last + room))
    margin = 0.03 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, num_bins + 1)
    figure = empty_figure(width=7.2, height=3.8)
    panel = figure.subplots()
    for (name, _, colour), all_values, kept in zip(kinds, values, finite, strict=True):
        counts, _ = np.histogram(kept, bins=edges)
        heights = counts / (len(all_values) * np.diff(edges))
        below = int((all_values < edges[0]).sum())
        above = len(all_values) - below - int(counts.sum())
        away = "".join(f", {n} {side}" for n, side in ((below, "below"), (above, "above")) if n)
        label = f"{len(all_values)} {name}: mean {kept.mean():.4g}{away}"
        panel.stairs(heights, edges, fill=True, alpha=0.35, color=colour)
        panel.stairs(heights, edges, color=colour, linewidth=1.2, label=label)
    panel.set_xlim(edges[0], edges[-1])
    panel.set_ylim(bottom=0)
    panel.set_xlabel("E/T (nats)")
    panel.set_ylabel("density")
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _shades() -> Colormap:
    from matplotlib import colormaps

    return colormaps["Blues_r"].with_extremes(over=_PALE)


def _one_temperature(temperature: float | Tensor) -> float:
    value = as_temperature(temperature)
    if value.dim():
        raise ValueError(f"expected one temperature, got shape {tuple(value.shape)}.")
    return float(value)


def _energies(energy: Energy, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        parts = [evaluate_rows(energy, part) for part in x.split(_CHUNK)]
    return torch.cat(parts).double().cpu().numpy()


def _on_grid(energy: Energy, grid: Tensor, like: Tensor | None) -> np.ndarray:
    """Energies at the points within the support, NaN at the others and where they are infinite."""
    own = [t for t in [*energy.parameters(), *energy.buffers()] if t.is_floating_point()]
    x = grid.to(own[0] if own else grid if like is None else like)
    inside = energy.support.check(x)
    values = np.full(len(x), np.nan)
    if bool(inside.any()):
        values[inside.cpu().numpy()] = _energies(energy, x[inside])
    return np.where(np.isfinite(values), values, np.nan)
