"""What to look at after a run of many chains: the table, chains beside each other, known values.

ArviZ draws most that one wants to see, straight from `MCMC.to_arviz()`. Here is what it lacks for
hundreds of chains, whose colours and legends nobody can tell apart, and the comparison with a
reference. matplotlib is an extra and is imported when a picture is drawn; every function gives a
matplotlib Figure.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import arviz
import numpy as np
from jaxtyping import Float

from pyro_ebm.diagnostics import bfmi, ess_bulk, mcse_mean
from pyro_ebm.figure import empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Numbers = float | Sequence[float] | np.ndarray

# Chains that agree leave the band of a rank picture in one run of a hundred at most.
_ERROR_RATE = 0.01
_BLUE, _ORANGE, _GREY = "#1f5f8b", "#e07b39", "#c9cdd1"


def summary_table(data: Any, var_names: Sequence[str] | None = None) -> str:
    """ArviZ's summary with all its columns: means, intervals, R-hat, ESS, Monte Carlo errors.

    :param data: what `MCMC.to_arviz()` gives.
    :param var_names: variables of the posterior; None means all of them.
    :raises ValueError: a variable that the posterior does not hold.
    """
    table: Any = arviz.summary(data, var_names=_names(data, var_names))
    return table.to_string()


def summary_rows(
    posterior: Any, most: int, *, chains: bool = True
) -> tuple[list[str], list[list[str]], int]:
    """ArviZ's summary as text: the columns, rows that begin with a name, and how many there are.

    :param posterior: the group as a dataset.
    :param most: so many rows at most, of the first quantities.
    :param chains: False leaves out what compares chains and counts draws.
    """
    kept, number = {}, 0
    for name, variable in posterior.data_vars.items():
        if variable.dtype.kind not in "biuf":
            continue
        axes = [axis for axis in variable.dims if axis not in ("chain", "draw")]
        elements = math.prod(variable.sizes[axis] for axis in axes)
        if number < most and elements:
            left = most - number
            kept[name] = variable if elements <= left else _first_elements(variable, axes, left)
        number += elements
    if not kept:
        return [], [], number
    options = {} if chains else {"kind": "stats"}
    with _silence():
        summary: Any = arviz.summary
        frame = summary(posterior[list(kept)].assign(kept)[list(kept)], round_to="none", **options)
    columns = [str(column) for column in frame.columns]
    rows = []
    for name in frame.index[:most]:
        cells = dict(zip(columns, frame.loc[name], strict=True))
        rows.append([str(name), *(_cell(column, cells) for column in columns)])
    return columns, rows, number


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Of few draws, and of NaN, ArviZ warns and logs; the verdict says so in words."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_elements(variable: Any, axes: list[str], number: int) -> Any:
    """Enough of a large variable along its first axis."""
    inner = math.prod(variable.sizes[axis] for axis in axes[1:])
    return variable.isel({axes[0]: slice(max(1, -(-number // inner)))})


def _cell(column: str, row: Mapping[str, Any]) -> str:
    """A number of a summary with the digits that it is worth."""
    value, spread = float(row[column]), float(row.get("sd", math.nan))
    if not math.isfinite(value):
        return "–"
    if column.startswith("ess"):
        return f"{value:.0f}"
    if column.startswith("r_hat"):
        return f"{value:.3f}"
    if not (math.isfinite(spread) and spread > 0):
        return f"{value:.4g}"
    # Three digits of the standard deviation, and one more of what is smaller.
    decimals = 2 - math.floor(math.log10(spread)) + column.startswith("mcse")
    return f"{value:.{decimals}f}" if 0 <= decimals <= 6 else f"{value:.4g}"


def plot_rank(data: Any, var_names: Sequence[str] | None = None) -> Figure:
    """How evenly the draws of each chain lie among those of all chains; one panel per quantity.

    A line is a chain: the share of its draws among the lowest r of all draws, minus r. Chains that
    agree stay in the band, which holds with 99 % for all chains of a panel: |difference| below
    sqrt(log(2 C / 0.01) / (2 n)) for C chains, each worth n independent draws by the bulk ESS.

    :param data: what `MCMC.to_arviz()` gives.
    :param var_names: variables of the posterior; None means all of them.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: a variable that the posterior does not hold.

    Source: Säilynoja, Bürkner, Vehtari (2022), Graphical test for discrete uniformity; the band
    from Massart (1990), The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality.
    """
    quantities = [
        (label, draws) for name in _names(data, var_names) for label, draws in _elements(data, name)
    ]
    columns = min(len(quantities), 3)
    rows = math.ceil(len(quantities) / columns)
    figure = empty_figure(width=max(6.0, 4.0 * columns), height=2.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel, (label, draws) in zip(panels.flat, quantities, strict=False):
        shares, differences = _rank_differences(draws)
        chains = len(draws)
        panel.plot(shares, differences.T, color=_BLUE, alpha=max(0.15, 1 / chains), linewidth=0.8)
        independent = min(float(ess_bulk(draws)), draws.size) / chains
        limit = math.sqrt(math.log(2 * chains / _ERROR_RATE) / (2 * independent))
        panel.axhspan(-limit, limit, color=_GREY, alpha=0.35, linewidth=0)
        panel.set_title(label, fontsize=10)
    for panel in panels.flat[len(quantities) :]:
        panel.set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("rank among all draws, as a share")
    for panel in panels[:, 0]:
        panel.set_ylabel("excess share of the chain")
    figure.suptitle("Ranks: one line per chain; chains that agree stay in the band", fontsize=11)
    return figure


def plot_energy(data: Any) -> Figure:
    """The Hamiltonian of the draws beside its changes from draw to draw, all chains together.

    Changes much narrower than the energies mean that momenta cannot carry the chains over them:
    the tails are explored slowly. The lowest BFMI of a chain, in the title, says so below 0.3.

    :param data: what `MCMC.to_arviz()` gives.
    :raises ImportError: matplotlib is missing.

    Source: Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in HMC.
    """
    energy = np.asarray(data["sample_stats"]["energy"])
    centred = energy - energy.mean()
    figure = empty_figure(width=5.5, height=3.4)
    panel = figure.subplots()
    for values, label, colour in (
        (centred, "energy of a draw, less the mean", _BLUE),
        (np.diff(energy, axis=1), "change from draw to draw", _ORANGE),
    ):
        heights, edges = np.histogram(values, bins="auto", density=True)
        panel.stairs(heights, edges, fill=True, alpha=0.45, color=colour, label=label)
    panel.set_xlabel("Hamiltonian energy (natural units)")
    panel.set_ylabel("density")
    panel.set_ylim(bottom=0)
    panel.legend(frameon=False, fontsize=8)
    panel.set_title(f"Energies: lowest BFMI of a chain {np.min(bfmi(energy)):.2f}", fontsize=11)
    return figure


def plot_reference(
    data: Any,
    reference: Mapping[str, Mapping[str, Numbers]],
    *,
    label: str = "of this run",
    beside: Mapping[str, Any] | None = None,
    unit: str = "",
) -> Figure:
    """Posterior means and central 90 % intervals on those of a reference, element by element.

    The right panel shows the deviation of each mean from the reference's in Monte Carlo standard
    errors; right results stay within about 3.

    :param data: what `MCMC.to_arviz()` gives.
    :param reference: per variable its `mean` and quantiles `q05` and `q95`, each [*event], and
        `mcse_mean` where the reference's own error is not negligible.
    :param label: which run it is, as it reads behind "means".
    :param beside: more runs by such labels, drawn on the left only.
    :param unit: the unit of the horizontal axis.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: a variable that a posterior does not hold, or of another shape.
    """
    marks = {name: _reference_marks(name, figures) for name, figures in reference.items()}
    runs = {
        name: _matching_draws(run, marks) for name, run in {label: data, **(beside or {})}.items()
    }
    rows = [row for name in marks for row, _ in _elements(data, name)]
    places = np.arange(len(rows), dtype=float)
    figure = empty_figure(width=8.5, height=1.1 + 0.36 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[5, 2])
    mean, low, high, _ = np.concatenate(list(marks.values()), axis=1)
    left.barh(places, high - low, left=low, height=0.7, color=_GREY, label="reference: 5 to 95 %")
    left.vlines(mean, places - 0.35, places + 0.35, color="black", label="reference: mean")
    colours = [_BLUE, _ORANGE, "#4b8b3b", "#8b3b7d"]
    for i, (name_of_run, draws) in enumerate(runs.items()):
        shift = 0.36 * (i - (len(runs) - 1) / 2) if len(runs) > 1 else 0.0
        middle = np.array([each.mean() for each in draws])
        ends = np.array([np.quantile(each, [0.05, 0.95]) for each in draws]).T
        left.errorbar(
            middle,
            places + shift,
            xerr=np.abs(ends - middle),
            fmt="o",
            markersize=4,
            linewidth=1.4,
            color=colours[i % len(colours)],
            label=f"means, 5 to 95 % {name_of_run}",
        )
    left.set_yticks(places, rows)
    left.invert_yaxis()
    left.set_xlabel(unit or "value")
    right.axvspan(-3, 3, color=_GREY, alpha=0.35, linewidth=0)
    right.axvline(0, color="black", linewidth=0.8)
    deviations = _deviations(data, marks)
    right.plot(deviations, places, "o", markersize=4, color=_BLUE)
    reach = max(4.4, 1.1 * float(np.abs(deviations).max()))
    right.set_xlim(-reach, reach)
    right.set_xlabel(f"error of the means {label}\n(standard errors)", fontsize=9)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False
    )
    return figure


def reference_deviations(
    data: Any, reference: Mapping[str, Mapping[str, Numbers]]
) -> dict[str, Float[np.ndarray, " element"]]:
    """(mean - reference) / sqrt(mcse^2 + mcse_ref^2) of every element, by variable.

    Arguments and errors are those of :func:`plot_reference`.
    """
    marks = {name: _reference_marks(name, figures) for name, figures in reference.items()}
    return {name: _deviations(data, {name: figures}) for name, figures in marks.items()}


def _deviations(data: Any, marks: Mapping[str, np.ndarray]) -> np.ndarray:
    mean, _, _, error = np.concatenate(list(marks.values()), axis=1)
    draws = _matching_draws(data, marks)
    own = np.array([float(mcse_mean(each)) for each in draws])
    return (np.array([each.mean() for each in draws]) - mean) / np.hypot(own, error)


def _reference_marks(name: str, figures: Mapping[str, Numbers]) -> np.ndarray:
    """Mean, 5 % and 95 % quantile, and error of the mean, each [element]."""
    missing = {"mean", "q05", "q95"} - set(figures)
    if missing:
        raise ValueError(
            f"expected mean, q05 and q95 in the reference of {name!r}, got {sorted(figures)}."
        )
    marks = [figures["mean"], figures["q05"], figures["q95"], figures.get("mcse_mean", 0.0)]
    sizes = [np.size(mark) for mark in marks]
    if any(size not in (1, sizes[0]) for size in sizes):
        raise ValueError(
            f"expected figures of one size in the reference of {name!r}, got sizes {sizes}."
        )
    return np.stack([np.broadcast_to(np.ravel(mark), sizes[0]).astype(float) for mark in marks])


def _matching_draws(data: Any, marks: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Draws [chain, draw] of every element that the reference has."""
    found = []
    for name in marks:
        draws = [values for _, values in _elements(data, name)]
        if len(draws) != marks[name].shape[1]:
            raise ValueError(
                f"expected a reference of {len(draws)} elements for {name!r}, as the posterior "
                f"has, got {marks[name].shape[1]}."
            )
        found.extend(draws)
    return found


def _names(data: Any, var_names: Sequence[str] | None) -> list[str]:
    if isinstance(var_names, str):
        raise TypeError(f"expected a list of names, got the string {var_names!r}.")
    known = list(data["posterior"].data_vars)
    names = known if var_names is None else list(var_names)
    for name in names:
        if name not in known:
            raise ValueError(f"expected variables of the posterior, {known}, got {name!r}.")
    if not names:
        raise ValueError("expected at least one variable, got none.")
    return names


def _elements(data: Any, name: str) -> list[tuple[str, np.ndarray]]:
    """The elements of a variable, each with a label such as `theta[3]` and draws [chain, draw]."""
    variable = data["posterior"][_names(data, [name])[0]]
    axes = [axis for axis in variable.dims if axis not in ("chain", "draw")]
    values = np.asarray(variable.transpose("chain", "draw", *axes), dtype=float)
    found = []
    for index in np.ndindex(values.shape[2:]):
        place = ", ".join(
            str(variable[axis].values[i]) for axis, i in zip(axes, index, strict=True)
        )
        found.append((f"{name}[{place}]" if axes else name, values[(..., *index)]))
    return found


def _rank_differences(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of all draws [point], and each chain's share below them less that [chain, point]."""
    chains, length = draws.shape
    ordered = np.sort(draws, axis=None)
    shares = np.linspace(0, 1, 101)
    places = np.round(shares[1:-1] * (draws.size - 1)).astype(int)
    cuts = ordered[places]
    below = np.stack([np.searchsorted(np.sort(chain), cuts, side="right") for chain in draws])
    pooled = np.searchsorted(ordered, cuts, side="right") / draws.size
    differences = np.zeros((chains, len(shares)))
    differences[:, 1:-1] = below / length - pooled
    return shares, differences
