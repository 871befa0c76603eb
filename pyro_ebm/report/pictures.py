"""Pictures of a run within the page, each with what it shows in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing_plots import plot_path, plot_weights, plot_works
from pyro_ebm.diagnostics import split_rhat
from pyro_ebm.plots import plot_energy, plot_rank

from .html import box, escape, paragraph
from .read import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Quantities whose ranks are drawn, those that agree least.
_PANELS = 9


def pictures_of_draws(run: Run) -> str:
    """Ranks and energies of the chains, as far as the run has them."""
    found = ""
    shown, number = _least_agreeing(run)
    if shown is not None and run.groups["posterior"].sizes["chain"] > 1:
        of = "" if number <= _PANELS else f" of the {_PANELS} of {number} quantities with the worst"
        found += _figure(
            lambda: plot_rank({"posterior": shown}),
            f"Ranks of each chain's draws among those of all chains{of or ', by quantity'}"
            f"{' R-hat' if of else ''}. Chains that agree stay within the band.",
        )
    stats = run.groups.get("sample_stats")
    if stats is not None and "energy" in stats and stats.sizes["draw"] > 1:
        found += _figure(
            lambda: plot_energy({"sample_stats": stats}),
            "Energies of the draws, and their changes from draw to draw. Changes much narrower "
            "than the energies mean that the tails are explored slowly.",
        )
    return found


def pictures_of_estimate(estimate: LogZ) -> str:
    """Path, weights and works, as far as the method has them."""
    captions: dict[Callable[[LogZ], Figure], str] = {
        plot_path: "The path from the base to the target: inverse temperatures, how hard each step "
        "is, how often moves are accepted, and what the weights are worth on the way.",
        plot_weights: "The weights, largest first, and their tail with its Pareto fit.",
        plot_works: "Works of paths up from the base and down from draws of the target. They cross "
        "at log Z.",
    }
    found = ""
    for draw, caption in captions.items():
        try:
            found += _figure(lambda draw=draw: draw(estimate), caption)
        except ValueError:  # the method has none of these
            continue
    return found


def _figure(draw: Callable[[], Figure], caption: str) -> str:
    try:
        figure = draw()
    except ImportError as error:
        return paragraph(str(error), kind="soft")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    encoded = base64.b64encode(file.getvalue()).decode()
    width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
    image = (
        f'<img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" '
        f'alt="{escape(caption)}">'
    )
    scrolls = box("Picture", image, kind="scroll")
    return f"<figure>{scrolls}<figcaption>{escape(caption)}</figcaption></figure>"


def _least_agreeing(run: Run) -> tuple[Any, int]:
    """A dataset of single quantities, those with the largest R-hat, and how many there are."""
    posterior = run.groups["posterior"]
    singles = {}
    for name, variable in posterior.data_vars.items():
        if variable.dtype.kind not in "biuf":
            continue
        axes = [axis for axis in variable.dims if axis not in ("chain", "draw")]
        values = variable.transpose("chain", "draw", *axes)
        for index in np.ndindex(values.shape[2:]):
            places = (str(values[a].values[i]) for a, i in zip(axes, index, strict=True))
            label = f"{name}[{', '.join(places)}]" if axes else str(name)
            singles[label] = np.asarray(values[(..., *index)], dtype=float)
    varying = {label: draws for label, draws in singles.items() if np.ptp(draws) > 0}
    if not varying:
        return None, 0
    chosen = list(varying)
    if len(varying) > _PANELS:
        draws = np.stack(list(varying.values()), -1)
        worst = np.argsort(-np.nan_to_num(split_rhat(draws), nan=np.inf), kind="stable")
        chosen = [chosen[i] for i in sorted(worst[:_PANELS])]
    first = posterior[next(iter(posterior.data_vars))]
    dataset = first.isel({a: 0 for a in first.dims if a not in ("chain", "draw")}, drop=True)
    dims = ("chain", "draw")
    return dataset.to_dataset(name="_").drop_vars("_").assign(
        {label: (dims, varying[label]) for label in chosen}
    ), len(varying)
