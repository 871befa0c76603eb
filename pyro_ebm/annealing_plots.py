"""What to look at after log Z was estimated: the path, the weights, the works of both directions.

matplotlib is an extra and is imported when a picture is drawn; every function gives a matplotlib
Figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing.export import by_temperature
from pyro_ebm.figure import empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#1f5f8b", "#e07b39", "#c9cdd1"
# Above, the mean of the weights and its error are not to be trusted.
_LARGEST_KHAT = 0.7
# Smaller weights, in units of the mean one, are not told apart.
_SMALLEST_SHOWN = 1e-3
# Works are shown out to so many widths of their middle half.
_REACH = 3.0


def plot_path(log_z: LogZ) -> Figure:
    """How the annealing went: inverse temperatures, barrier, acceptance and ESS along the path.

    The local barrier of a step is drawn as a density over the inverse temperature, the cumulative
    one as a line: steps are well placed when each is as long in it. Moves want an even acceptance,
    and the effective sample size should fall slowly and nowhere at once.

    :param log_z: an estimate by a method with a path.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: an estimate of a method that has no path.
    """
    path = by_temperature(log_z.path)
    if "beta" not in path:
        raise ValueError(
            f"expected an estimate with a path of inverse temperatures; {log_z.method} has none."
        )
    beta = path["beta"]
    drawn: list[Callable[[Any], None]] = [lambda panel: _draw_betas(panel, beta)]
    if "barrier" in path:
        drawn.append(lambda panel: _draw_barrier(panel, beta, path["barrier"]))
    if "acceptance" in path:
        drawn.append(lambda panel: _draw_acceptance(panel, beta, path["acceptance"]))
    if "ess" in path:
        number = log_z.num_particles
        drawn.append(lambda panel: _draw_ess(panel, beta, path["ess"], number))
    columns = min(len(drawn), 2)
    rows = math.ceil(len(drawn) / columns)
    figure = empty_figure(width=4.2 * columns, height=2.6 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel, draw in zip(panels.flat, drawn, strict=False):
        draw(panel)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(drawn) :]:
        panel.set_visible(False)
    figure.suptitle(f"{log_z.method}: log Z = {log_z}", fontsize=11)
    return figure


def plot_weights(log_z: LogZ) -> Figure:
    """How even the weights are: each against its rank, and the tail with its Pareto fit.

    On the left weights are in units of the mean one. On the right stands, for the largest weights,
    by how much each exceeds the smallest of them, against the share of them that exceeds it by
    more; the line is the generalised Pareto distribution of shape k-hat. Up to 0.7 the error of
    log Z can be trusted, as far as the weights know.

    :param log_z: an estimate with weights.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: an estimate without weights, or with equal ones.

    Source: Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling.
    """
    weights = _weights(log_z)
    n = len(weights)
    tail = max(5, math.ceil(min(0.2 * n, 3 * math.sqrt(n))))
    figure = empty_figure(width=8.4, height=3.4)
    left, right = figure.subplots(1, 2)
    ranks = np.arange(1, n + 1)
    shown = weights > 0
    left.plot(ranks[shown], weights[shown], color=_BLUE, linewidth=1.6)
    left.axvspan(1, tail, color=_GREY, alpha=0.4, linewidth=0, label=f"the largest {tail}")
    left.axhline(1.0, color="black", linewidth=0.8, linestyle=":", label="equal weights")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_ylim(max(0.8 * weights[shown].min(), _SMALLEST_SHOWN), 1.5 * weights[0])
    left.set_xlabel("rank, the largest first")
    left.set_ylabel("weight / mean weight")
    zero = int((~shown).sum())
    lost = f", {zero} of them zero" if zero else ""
    left.set_title(f"{n} weights{lost}; ESS {log_z.ess:.0f}", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    _draw_tail(right, weights[:tail], log_z.khat)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{log_z.method}: log Z = {log_z}", fontsize=11)
    return figure


def plot_works(log_z: LogZ) -> Figure:
    """Works of paths up from the base beside those down from draws of the target.

    The densities of exact works differ by the factor exp(work - log Z), so that they cross at
    log Z: where they hardly overlap, or cross elsewhere, the estimate is not to be trusted.

    :param log_z: an estimate with draws annealed backwards, or of bridge sampling.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: an estimate that has nothing but forward works.

    Source: Crooks (1999), Entropy production fluctuation theorem.
    """
    given = log_z.details.get("forward_works")
    forward = given if isinstance(given, Tensor) else log_z.log_weights
    if log_z.backward is None or forward is None:
        raise ValueError(
            f"expected an estimate with draws of the target annealed backwards; this one by "
            f"{log_z.method} has none: run with reverse=True."
        )
    works = [each.double().cpu().numpy() for each in (forward, log_z.backward.works)]
    finite = [each[np.isfinite(each)] for each in works]
    together = np.concatenate(finite)
    # A long tail would leave the crossing, which is what there is to see, a few bins.
    first, last = np.quantile(together, [0.25, 0.75])
    reach = _REACH * (last - first)
    low, high = max(together.min(), first - reach), min(together.max(), last + reach)
    low, high = min(low, log_z.log_z - 1e-3), max(high, log_z.log_z + 1e-3)
    edges = np.linspace(low, high, 41)
    figure = empty_figure(width=7.2, height=3.8)
    panel = figure.subplots()
    for values, all_values, label, colour in (
        (finite[0], works[0], "up from the base", _BLUE),
        (finite[1], works[1], "down from the target", _ORANGE),
    ):
        counts, _ = np.histogram(values, bins=edges)
        heights = counts / (len(all_values) * np.diff(edges))
        outside = len(all_values) - int(counts.sum())
        beyond = f" ({outside} beyond)" if outside else ""
        panel.stairs(
            heights,
            edges,
            fill=True,
            alpha=0.45,
            color=colour,
            label=f"{len(all_values)} {label}{beyond}",
        )
    ends = log_z.interval(0.95)
    panel.axvspan(*ends, color="black", alpha=0.18, linewidth=0, label="log Z, 95 % interval")
    panel.axvline(log_z.log_z, color="black", linewidth=1.0)
    panel.set_xlim(low, high)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("work: log weight of a path (nats)")
    panel.set_ylabel("density")
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    panel.set_title(f"{log_z.method}: log Z = {log_z}", fontsize=11)
    return figure


def _weights(log_z: LogZ) -> np.ndarray:
    """Weights in units of their mean, the largest first."""
    if log_z.log_weights is None:
        raise ValueError(f"expected an estimate with weights; {log_z.method} has none.")
    values = log_z.log_weights.double().cpu()
    if not bool((values > -math.inf).any()):
        raise ValueError("expected an estimate with weights, got one whose weights are all zero.")
    weights = np.sort((values.softmax(0) * len(values)).numpy())[::-1]
    if weights[0] - weights[-1] < 1e-12:
        raise ValueError(
            f"expected an estimate with weights of its own; those of {log_z.method} are all equal."
        )
    return weights


def _draw_betas(panel: Any, beta: np.ndarray) -> None:
    panel.plot(np.arange(len(beta)), beta, color=_BLUE, marker=".", markersize=3, linewidth=1.0)
    panel.set_xlabel("step")
    panel.set_ylabel("inverse temperature")
    panel.set_title(f"Schedule: {len(beta) - 1} steps", fontsize=10)


def _draw_barrier(panel: Any, beta: np.ndarray, barrier: np.ndarray) -> None:
    local = np.nan_to_num(barrier[1:], nan=0.0, posinf=np.nan)
    cumulative = np.concatenate([[0.0], np.nancumsum(local)])
    panel.stairs(local / np.diff(beta), beta, fill=True, color=_GREY, label="local, per unit")
    panel.set_ylim(bottom=0)
    panel.set_yscale("symlog", linthresh=max(float(np.nanmedian(local / np.diff(beta))), 1e-12))
    panel.set_xlabel("inverse temperature")
    panel.set_ylabel("local barrier per unit", color="#777777")
    beside = panel.twinx()
    beside.plot(beta, cumulative, color=_BLUE, linewidth=1.6)
    beside.set_ylim(bottom=0)
    beside.set_ylabel("cumulative barrier", color=_BLUE)
    beside.spines["top"].set_visible(False)
    panel.set_title(f"Barrier: {cumulative[-1]:.2f} in all", fontsize=10)


def _draw_acceptance(panel: Any, beta: np.ndarray, acceptance: np.ndarray) -> None:
    panel.plot(beta, acceptance, color=_BLUE, marker=".", markersize=3, linewidth=1.0)
    panel.set_xlim(-0.05, 1.05)
    panel.set_ylim(0, 1)
    panel.set_xlabel("inverse temperature")
    panel.set_ylabel("acceptance rate")
    panel.set_title(f"Moves: mean acceptance {np.nanmean(acceptance):.2f}", fontsize=10)


def _draw_ess(panel: Any, beta: np.ndarray, ess: np.ndarray, number: int) -> None:
    panel.plot(beta, ess, color=_BLUE, marker=".", markersize=3, linewidth=1.0)
    panel.axhline(number, color="black", linewidth=0.8, linestyle=":")
    panel.set_ylim(0, 1.08 * max(number, float(np.nanmax(ess))))
    panel.set_xlabel("inverse temperature")
    panel.set_ylabel("effective sample size")
    panel.set_title(f"Weights: ESS {ess[-1]:.0f} of {number} at the end", fontsize=10)


def _draw_tail(panel: Any, largest: np.ndarray, khat: float) -> None:
    """The share of the largest weights that exceed each, with the Pareto distribution of k-hat."""
    excess = (largest - largest[-1])[:-1]
    share = (np.arange(len(excess)) + 0.5) / len(excess)
    panel.plot(excess, share, "o", markersize=3, color=_BLUE, label="the weights")
    positive = excess[excess > 0]
    if math.isfinite(khat) and len(positive) > 1:
        grid = np.geomspace(positive.min(), positive.max(), 200)
        fit = np.exp(_log_survival(grid, _pareto_scale(positive, khat), khat))
        shown = fit >= 0.2 / len(excess)
        colour = _ORANGE if khat > _LARGEST_KHAT else "black"
        panel.plot(
            grid[shown], fit[shown], color=colour, linewidth=1.2, label=f"Pareto, k = {khat:.2f}"
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("excess over the smallest (mean weights)")
    panel.set_ylabel("share that exceeds it")
    verdict = f": too heavy, k-hat above {_LARGEST_KHAT}" if khat > _LARGEST_KHAT else ""
    panel.set_title(f"Tail of the {len(largest)} largest{verdict}", fontsize=10)
    panel.legend(frameon=False, fontsize=8, loc="lower left")


def _log_survival(excess: np.ndarray, scale: np.ndarray | float, khat: float) -> np.ndarray:
    """log P(X > excess) of the generalised Pareto distribution."""
    if abs(khat) < 1e-6:
        return -excess / scale
    with np.errstate(divide="ignore"):
        return -np.log(np.maximum(1.0 + khat * excess / scale, 0.0)) / khat


def _pareto_scale(excess: np.ndarray, khat: float) -> float:
    """The scale of highest likelihood for a given shape."""
    scales = np.geomspace(1e-2, 1e2, 400) * excess.mean()
    survival = _log_survival(excess[:, None], scales, khat)
    with np.errstate(invalid="ignore"):
        likelihood = ((1.0 + khat) * survival - np.log(scales)).sum(0)
    return float(scales[np.nanargmax(np.where(np.isfinite(likelihood), likelihood, -np.inf))])
