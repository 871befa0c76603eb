"""The picture of learning curves: errors, overlap and entropy against examples per weight or T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_ebm.figure import empty_figure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_COLORS = ("#1f5f8b", "#e07b39", "#4a9a62", "#8a5fa8", "#c8372d", "#8a8f94")
_USUAL = ("training_error", "generalisation_error", "test_error", "entropy")


def plot_learning_curves(
    curves: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    names: Sequence[str] | None = None,
    theory: xr.Dataset | Mapping[str, xr.Dataset] | None = None,
    along: str | None = None,
) -> Figure:
    """Estimates with bars of two standard errors, one panel a quantity.

    :param curves: what :func:`~pyro_ebm.learning_curve` or :func:`~pyro_ebm.gibbs_learning` gives;
        several by what they are called.
    :param names: the quantities; errors and entropy unless given.
    :param theory: known curves, as the theories of this package give them, drawn as lines; several
        by what they are called. Lines have the colours of curves of the same name.
    :param along: the axis below, "alpha" or "temperature": that with more values unless given. The
        values of the other are curves.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: a quantity that is in none of the curves; no curves.
    """
    sets, lines = _by_name(curves, ""), _by_name(theory, "theory")
    if not sets:
        raise ValueError("expected at least one set of learning curves, got none.")
    known = {str(n) for each in sets.values() for n in each.data_vars if f"{n}_std_error" in each}
    names = [name for name in _USUAL if name in known] if names is None else list(names)
    missing = sorted(set(names) - known)
    if missing or not names:
        raise ValueError(f"expected names among {sorted(known)}, got {missing or 'none at all'}.")
    axis = along or _longest(next(iter(sets.values())))
    figure = empty_figure(width=4.3 * min(len(names), 2), height=3.1 * -(-len(names) // 2))
    panels = figure.subplots(-(-len(names) // 2), min(len(names), 2), squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        colors: dict[str, str] = {}
        for label, x, y, error in _each(sets, name, axis):
            colors[label] = _COLORS[len(colors) % len(_COLORS)]
            style = "o" if lines else "o-"
            panel.errorbar(
                x,
                y,
                yerr=2 * error,
                fmt=style,
                color=colors[label],
                markersize=4,
                linewidth=1.1,
                capsize=2,
                label=label or "sampled, ± 2 errors",
            )
        for number, (label, line) in enumerate(lines.items()):
            if name in line:
                color = colors.get(label, "#333333")
                dashes = "-" if label in colors or number == 0 else "--"
                told = None if label in colors else label
                panel.plot(
                    line[axis], line[name], dashes, color=color, lw=1.2, label=told, zorder=1
                )
        panel.set_xlabel(_long_name(sets, axis, axis))
        panel.set_ylabel(_long_name(sets, name, name))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    panels[0, 0].legend(fontsize=8, frameon=False)
    return figure


def _by_name(given: Any, default: str) -> dict[str, Any]:
    """Sets of curves by what they are called; one alone by a default name."""
    if given is None:
        return {}
    return {default: given} if hasattr(given, "data_vars") else dict(given)


def _longest(curves: Any) -> str:
    axes = [axis for axis in ("alpha", "temperature") if axis in curves.dims]
    return max(axes, key=lambda axis: curves.sizes[axis]) if axes else "alpha"


def _each(
    sets: Mapping[str, Any], name: str, axis: str
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Label, axis, values and errors of every curve of a quantity."""
    found = []
    other = "temperature" if axis == "alpha" else "alpha"
    for called, curves in sets.items():
        if name not in curves:
            continue
        values = curves[other].values if other in curves.dims else [None]
        for value in values:
            one = curves if value is None else curves.sel({other: value})
            symbol = "T" if other == "temperature" else "alpha"
            which = f"{symbol} = {value:.3g}" if value is not None and len(values) > 1 else ""
            label = ", ".join(filter(None, [called, which]))
            y, error = one[name].values, one[f"{name}_std_error"].values
            found.append((label, one[axis].values, np.atleast_1d(y), np.atleast_1d(error)))
    return found


def _long_name(sets: Mapping[str, Any], name: str, default: str) -> str:
    for curves in sets.values():
        if name in curves or name in curves.coords:
            return str(curves[name].attrs.get("long_name", default))
    return default
