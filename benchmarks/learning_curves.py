"""Learning curves of perceptrons, sampled at several sizes, beside theories of infinite ones.

    python -m benchmarks.learning_curves

Perceptrons of real weights learn a rule without error (T = 0) and at high temperature, linear ones
learn noise at finite T, binary ones learn up to where they no longer find their teacher. Each row
is an average over data sets, with its standard error; the distance to theory is told in these
errors. Results go to
benchmarks/results/learning_curves.md and .png, row by row. `--only NAME` takes one system.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import xarray as xr

import pyro_ebm as ebm

_WRITTEN = Path(__file__).parent / "results" / "learning_curves"
_HEADER = (
    "| system | N | alpha | T | generalisation error | theory | in errors "
    "| entropy or free energy | theory | in errors | reached | seconds |"
)


class System(NamedTuple):
    """What is learned: sizes with alphas and temperature, a curve of a size, and its theory."""

    name: str
    points: tuple[tuple[int, float, float], ...]
    curve: Callable[[int, float, float], xr.Dataset]
    theory: Callable[[float, float], xr.Dataset]
    second: str


def real(size: int, alpha: float, temperature: float) -> xr.Dataset:
    """Real weights; half as many data sets where there are many examples."""
    heavy = size * size * alpha > 2e5
    return ebm.learning_curve(
        ebm.BinaryTeacher(ebm.Perceptron(size)),
        ebm.Perceptron(size),
        ebm.ZeroOne(),
        alphas=[alpha],
        temperatures=[temperature],
        num_data_sets=8 if heavy else 16,
        num_particles=32,
    )


def linear(size: int, alpha: float, temperature: float) -> xr.Dataset:
    """A linear perceptron, and a teacher with noise of variance 1/4."""
    return ebm.learning_curve(
        ebm.RealTeacher(ebm.Perceptron(size), noise=0.5),
        ebm.Perceptron(size),
        ebm.SquaredError(),
        alphas=[alpha],
        temperatures=[temperature],
        num_data_sets=16,
        num_particles=32,
    )


def binary(size: int, alpha: float, temperature: float) -> xr.Dataset:
    """Binary weights."""
    return ebm.learning_curve(
        ebm.BinaryTeacher(ebm.Perceptron(size), prior=ebm.UniformSpins(size)),
        ebm.Perceptron(size),
        ebm.ZeroOne(),
        alphas=[alpha],
        temperatures=[temperature],
        prior=ebm.UniformSpins(size),
        num_data_sets=16,
        num_particles=32,
    )


def points(
    sizes: tuple[int, ...], alphas: tuple[float, ...], temperature: float
) -> tuple[tuple[int, float, float], ...]:
    """All sizes at all alphas."""
    return tuple((size, alpha, temperature) for alpha in alphas for size in sizes)


SYSTEMS = (
    System(
        "linear, noise 1/4",
        points((50, 200), (0.5, 1.0, 2.0, 5.0), 1.0) + points((50, 200), (1.0,), 0.25),
        linear,
        lambda alpha, t: ebm.linear_perceptron_theory([alpha], t, noise=0.5),
        "free_energy",
    ),
    System(
        "real weights, hot",
        ((50, 5.0, 5.0), (50, 10.0, 10.0), (50, 15.0, 5.0), (50, 30.0, 10.0)),
        real,
        lambda alpha, t: ebm.high_temperature_theory([alpha / t]),
        "",
    ),
    System(
        "binary weights",
        points((51, 101), (0.4, 0.8, 1.0, 1.2, 1.8, 2.4), 0.0),
        binary,
        lambda alpha, _: ebm.binary_perceptron_theory([alpha]),
        "entropy",
    ),
    System(
        "real weights",
        points((50, 100, 200), (1.0, 2.0, 5.0, 10.0), 0.0),
        real,
        lambda alpha, _: ebm.perceptron_theory([alpha]),
        "entropy",
    ),
)


class Row(NamedTuple):
    """One point, what was found, what theory says, and processor seconds."""

    system: System
    point: tuple[int, float, float]
    found: xr.Dataset
    theory: xr.Dataset
    seconds: float

    def of(self, name: str) -> str:
        """Value, error, theory and distance of a quantity as cells of a table."""
        if name not in self.found:
            return "| | | "
        value, error = float(self.found[name]), float(self.found[f"{name}_std_error"])
        known = float(self.theory[name])
        if math.isnan(value):
            return f"| not reached | {known:.4f} | "
        apart = f"{(value - known) / error:+.1f}" if error > 0 else f"{value - known:+.4f}"
        return f"| {value:.4f} ± {error:.4f} | {known:.4f} | {apart}"

    def line(self) -> str:
        """The row of the table."""
        size, alpha, temperature = self.point
        return (
            f"| {self.system.name} | {size} | {alpha:g} | {temperature:g} "
            f"{self.of('generalisation_error')} {self.of(self.system.second)} "
            f"| {float(self.found.reached):.2f} | {self.seconds:.0f} |"
        )


def measured(system: System, point: tuple[int, float, float]) -> Row:
    """Sample one point."""
    torch.manual_seed(point[0])
    began = time.process_time()
    with warnings.catch_warnings():
        # Weights without error that are not reached are told in a column.
        warnings.simplefilter("ignore", UserWarning)
        found = system.curve(*point).squeeze()
    size, alpha, temperature = point
    theory = system.theory(round(alpha * size) / size, temperature).squeeze()
    return Row(system, point, found, theory, time.process_time() - began)


def write(rows: list[Row]) -> None:
    """The table of what there is, and the picture of the curves at T = 0."""
    lines = [
        "# Learning curves beside theory",
        "",
        "`python -m benchmarks.learning_curves`: averages over data sets and their standard "
        "errors; theory is that of infinitely many weights. *reached* is the share of data sets "
        "in which weights without error were found, where they were wanted. Seconds are those of "
        "the processor.",
        "",
        _HEADER,
        "|" + "---|" * (_HEADER.count("|") - 1),
        *(row.line() for row in rows),
    ]
    _WRITTEN.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(rows[-1].line(), flush=True)


def picture(rows: list[Row]) -> None:
    """Sizes beside theory, of real weights at T = 0."""
    shown = [row for row in rows if row.system.name == "real weights"]
    if not shown:
        return
    curves: dict[str, Any] = {}
    for size in sorted({row.point[0] for row in shown}):
        # Sizes may have numbers of data sets of their own.
        found = [
            row.found.drop_dims("data_set").drop_vars("temperature")
            for row in shown
            if row.point[0] == size
        ]
        curves[f"N = {size}"] = xr.concat([one.expand_dims("alpha") for one in found], "alpha")
    theory = ebm.perceptron_theory(torch.linspace(0.5, 11.0, 60))
    names = ["generalisation_error", "entropy"]
    figure = ebm.plot_learning_curves(curves, names=names, theory=theory, along="alpha")
    figure.savefig(_WRITTEN.with_suffix(".png"))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="the name of one system", default="")
    wanted = parser.parse_args().only
    torch.set_num_threads(1)
    rows: list[Row] = []
    for system in SYSTEMS:
        if wanted in ("", system.name):
            for point in system.points:
                rows.append(measured(system, point))
                write(rows)
    picture(rows)


if __name__ == "__main__":
    main()
