"""Effective draws a second of kernels over states, on a restricted Boltzmann machine.

    python -m benchmarks.discrete

Gibbs draws a whole layer given the other, in C or in torch; Gibbs-with-gradients changes one unit a
proposal, path-auxiliary and discrete Langevin several. All are given to MCMC as users do, with the
same chains, on one thread, one after the other. The hidden layer is so small that log Z is a sum,
and the mean energy its derivative: a kernel whose mean energy is off by four standard errors has no
pace.

A draw costs the processor time that a run of twice as many draws takes longer, by the median of
some repeats, so that neither warm-up nor recording counts, and a busy machine little. Effective
sample sizes are those of means, of all chains end to end: of the energy, of the share of units that
are on, and of the slowest unit. Results go to benchmarks/results/discrete.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import pyro_ebm as ebm
from pyro_ebm.diagnostics import ess_mean

from .statistics import joined

_WRITTEN = Path(__file__).parent / "results" / "discrete.md"
_CLEAR = 4.0

# So many times as many draws of kernels that are quick.
_LONGER = {"Gibbs in C": 20, "Gibbs in torch": 10, "DiscreteLangevin": 5, "PathAuxiliary": 2}

KERNELS: dict[str, Callable[[ebm.Energy], Any]] = {
    "Gibbs in C": ebm.Gibbs,
    "Gibbs in torch": lambda energy: ebm.Gibbs(energy, jit_compile=False),
    "GibbsWithGradients": ebm.GibbsWithGradients,
    "PathAuxiliary": ebm.PathAuxiliary,
    "DiscreteLangevin": ebm.DiscreteLangevin,
}


class Measured(NamedTuple):
    """Processor seconds a draw of all chains, effective draws a second of three statistics, and by
    how many standard errors the mean energy is off."""

    name: str
    seconds: float
    energy: float
    activation: float
    unit: float
    off: float


def machine(visible: int, hidden: int, *, scale: float) -> ebm.RBM:
    """Normal weights of this standard deviation; each unit is on half of the time, or nearly."""
    generator = torch.Generator().manual_seed(0)
    weights = scale * torch.randn(visible, hidden, generator=generator)
    return ebm.RBM(weights, -0.5 * weights.sum(1), -0.5 * weights.sum(0))


def exact_energy(energy: ebm.RBM) -> float:
    """<E> = T^2 d log Z/dT at T = 1."""
    temperature = torch.ones((), dtype=torch.float64, requires_grad=True)
    log_z = energy.log_normalizer(temperature)
    assert log_z is not None
    (slope,) = torch.autograd.grad(log_z, temperature)
    return float(slope)


def measured(name: str, energy: ebm.RBM, *, chains: int, draws: int, repeats: int) -> Measured:
    """The pace of one kernel."""
    seconds, found = [], []
    draws *= _LONGER.get(name, 1)
    _run(name, energy, chains=chains, draws=10, seed=0)
    for seed in range(repeats):
        short, _ = _run(name, energy, chains=chains, draws=draws, seed=seed)
        long, x = _run(name, energy, chains=chains, draws=2 * draws, seed=seed)
        seconds.append((long - short) / draws)
        found.append(_statistics(energy, x))
    pace = float(np.median(seconds))
    ess = np.mean([[ess_mean(joined(s)).min() for s in each] for each in found], 0)
    energies = np.stack([each[0] for each in found])
    by_chain = energies.mean(2).reshape(-1)
    error = by_chain.std(ddof=1) / len(by_chain) ** 0.5
    off = (by_chain.mean() - exact_energy(energy)) / error
    return Measured(name, pace, *(float(e) / (2 * draws * pace) for e in ess), float(off))


def report(energy: ebm.RBM, rows: list[Measured], *, chains: int) -> str:
    """The table."""
    visible, hidden = energy.weights.shape
    lines = [
        f"# Kernels over states: an RBM of {visible} and {hidden} units, {chains} chains",
        "",
        "`python -m benchmarks.discrete`, one thread; effective draws a second of processor time.",
        "",
        "| kernel | ms a draw | energy | share on | slowest unit | errors of the mean energy |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        right = abs(row.off) < _CLEAR
        paces = [f"{x:.0f}" if right else "wrong" for x in (row.energy, row.activation, row.unit)]
        lines.append(
            f"| {row.name} | {1e3 * row.seconds:.2f} | {' | '.join(paces)} | {row.off:+.1f} |"
        )
    load = f"Load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    return "\n".join([*lines, "", load]) + "\n"


def main() -> None:
    """Measure each kernel, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visible", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=12)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, default=_WRITTEN)
    given = parser.parse_args()
    torch.set_num_threads(1)
    energy = machine(given.visible, given.hidden, scale=given.scale)
    rows = []
    for name in KERNELS:
        rows.append(
            measured(name, energy, chains=given.chains, draws=given.draws, repeats=given.repeats)
        )
        print(rows[-1], flush=True)
    given.write.write_text(report(energy, rows, chains=given.chains))


def _run(
    name: str, energy: ebm.RBM, *, chains: int, draws: int, seed: int
) -> tuple[float, torch.Tensor]:
    """Processor seconds of a run, and its draws [chain, draw, unit]."""
    torch.manual_seed(seed)
    mcmc = ebm.MCMC(
        KERNELS[name](energy),
        num_samples=draws,
        warmup_steps=100,
        num_chains=chains,
        disable_progbar=True,
    )
    began = time.process_time()
    mcmc.run()
    seconds = time.process_time() - began
    return seconds, mcmc.get_samples(group_by_chain=True)["x"]


def _statistics(energy: ebm.RBM, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy, share of units that are on, and every unit: [chain, draw, number]."""
    energies = torch.stack([energy(chain) for chain in x])
    shares = x.mean(2, keepdim=True)
    return (
        energies.unsqueeze(2).double().numpy(),
        shares.double().numpy(),
        x.double().numpy(),
    )


if __name__ == "__main__":
    main()
