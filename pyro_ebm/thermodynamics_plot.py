"""The picture of a system across temperatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_ebm.figure import empty_figure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_LINE, _EXACT = "#1f5f8b", "#c8372d"
_USUAL = ("free_energy", "internal_energy", "entropy", "heat_capacity")
_COLUMNS = 2


def plot_thermodynamics(
    phases: xr.Dataset,
    *,
    names: Sequence[str] | None = None,
    exact: Mapping[str, Any] | None = None,
) -> Figure:
    """Estimates against temperature, with bars of two standard errors.

    :param phases: what :func:`~pyro_ebm.thermodynamics` gives.
    :param names: variables to show, one panel each; free energy, internal energy, entropy, heat
        capacity and the observables unless given.
    :param exact: known values by name, drawn as lines: one value a temperature, or a pair of
        temperatures and values.
    :raises ImportError: matplotlib is missing.
    :raises ValueError: a variable that is not there, or has no error.
    """
    known = [str(name) for name in phases.data_vars if f"{name}_error" in phases]
    if names is None:
        names = [*_USUAL, *(name for name in known if name not in (*_USUAL, "log_z"))]
    missing = sorted({*names, *(exact or {})} - set(known))
    if missing or not names:
        raise ValueError(f"expected names among {known}, got {missing or 'none at all'}.")
    columns = min(len(names), _COLUMNS)
    rows = -(-len(names) // columns)
    figure = empty_figure(width=4.4 * columns, height=2.8 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    temperature = phases["temperature"].values
    for panel, name in zip(panels.flat, names, strict=False):
        if exact and name in exact:
            line = exact[name]
            at, values = line if isinstance(line, tuple) else (temperature, line)
            panel.plot(np.asarray(at), np.asarray(values), color=_EXACT, lw=1.2, label="exact")
        panel.errorbar(
            temperature,
            phases[name].values,
            yerr=2 * phases[f"{name}_error"].values,
            color=_LINE,
            fmt="o" if exact and name in exact else "o-",
            markersize=3.5,
            linewidth=1.2,
            capsize=2,
            label="estimated, ± 2 errors",
        )
        panel.set_ylabel(phases[name].attrs.get("long_name", name))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < len(names))
        panels[last, column].set_xlabel("temperature T")
        panels[last, column].tick_params(labelbottom=True)
    if exact:
        panels[0, 0].legend(fontsize=8, frameon=False)
    if not phases.attrs.get("reliable", True):
        figure.suptitle("not reliable: see the attribute why", color=_EXACT, fontsize=11)
    return figure
