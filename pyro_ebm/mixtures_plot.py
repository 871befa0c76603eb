"""Pictures of Gaussian mixtures: how many components, and what density they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_ebm.figure import empty_figure
from pyro_ebm.mixtures import MixturePosterior, Selection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#1f5f8b", "#e07b39", "#c9cdd1"
_COLOURS = ("#1f5f8b", "#e07b39", "#3a7d44", "#8e4585", "#b8860b", "#4a4a4a", "#c8372d", "#2a9d8f")
_POINTS = 300


def plot_components(selection: Selection) -> Figure:
    """The log evidence of each number of components with two standard errors, beside BIC on the
    same scale, -BIC / 2; and the posterior probability of each with its interval.

    :raises ImportError: matplotlib is missing.
    """
    table = selection.to_xarray()
    numbers = table["components"].values
    figure = empty_figure(width=9.0, height=3.6)
    left, right = figure.subplots(1, 2)
    left.errorbar(
        numbers,
        table["log_z"].values,
        2.0 * table["std_error"].values,
        color=_BLUE,
        marker="o",
        capsize=3,
        label="log evidence ± 2 errors",
    )
    bic = -0.5 * table["bic"].values
    if np.isfinite(bic).any():
        left.plot(numbers, bic, color=_ORANGE, marker="s", linestyle="--", label="-BIC / 2")
    left.set(xlabel="components", ylabel="nats", xticks=numbers)
    left.legend(frameon=False, fontsize=9)
    share = table["probability"].values
    low, high = table["probability_low"].values, table["probability_high"].values
    right.bar(numbers, share, color=_BLUE, alpha=0.8)
    ends = np.stack([np.maximum(share - low, 0.0), np.maximum(high - share, 0.0)])
    right.errorbar(numbers, share, ends, fmt="none", ecolor="black", capsize=3)
    right.set(xlabel="components", ylabel="posterior probability", xticks=numbers)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    doubtful = [k for k in selection.components if not selection.evidence[k].reliable]
    if doubtful:
        figure.suptitle(f"not reliable: {', '.join(map(str, doubtful))}", fontsize=10)
    return figure


def plot_density(
    posteriors: MixturePosterior | Sequence[MixturePosterior], *, prob: float = 0.9
) -> Figure:
    """The density of one mixture or of several, a panel each, over the data.

    In one dimension: its mean with the band that each point lies in with this probability, a
    histogram of the data, and the part of each component. In two: the rows, coloured by their
    likeliest component, with the mean density's contours.

    :param prob: the probability of the band at each point.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: nothing to draw, more than two dimensions, or a probability outside (0, 1).
    """
    shown = [posteriors] if isinstance(posteriors, MixturePosterior) else list(posteriors)
    if not shown or any(each.rows.shape[1] > 2 for each in shown):
        raise ValueError("expected mixtures of one or two dimensions, at least one of them.")
    columns = 2 if len(shown) in (2, 4) else min(3, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = empty_figure(width=3.6 * columns + 0.6, height=2.9 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for panel, each in zip(panels.flat, shown, strict=False):
        (_draw_line if each.rows.shape[1] == 1 else _draw_plane)(panel, each, prob)
        title = f"K = {each.num_components}, log Z {each.evidence.log_z:.2f}"
        panel.set_title(f"{title} ± {each.evidence.std_error:.2f}", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    return figure


def _grid(values: torch.Tensor) -> torch.Tensor:
    low, high = float(values.min()), float(values.max())
    margin = 0.1 * (high - low)
    return torch.linspace(low - margin, high + margin, _POINTS).to(values)


def _draw_line(panel, posterior: MixturePosterior, prob: float) -> None:
    values = posterior.rows[:, 0]
    points = _grid(values)
    band = posterior.density(points, prob=prob)
    bins = max(10, round(2.0 * math.sqrt(len(values))))
    panel.hist(values.numpy(), bins=bins, density=True, color=_GREY)
    panel.fill_between(points, band.low, band.high, color=_BLUE, alpha=0.25, linewidth=0)
    for k, part in enumerate(posterior.membership(points).T):
        panel.plot(points, band.mean * part, color=_COLOURS[k % len(_COLOURS)], linewidth=1.0)
    panel.plot(points, band.mean, color="black", linewidth=1.4)


def _draw_plane(panel, posterior: MixturePosterior, prob: float) -> None:
    x, y = (_grid(column)[::4] for column in posterior.rows.T)
    points = torch.cartesian_prod(x, y)
    density = posterior.density(points, prob=prob).mean.reshape(len(x), len(y))
    likeliest = posterior.membership().argmax(1)
    colours = [_COLOURS[int(k) % len(_COLOURS)] for k in likeliest]
    panel.scatter(*posterior.rows.T, c=colours, s=8, alpha=0.7, linewidths=0)
    levels = np.quantile(np.asarray(density), [0.7, 0.8, 0.9, 0.95, 0.99])
    panel.contour(x, y, density.T, levels=np.unique(levels), colors="black", linewidths=0.7)
