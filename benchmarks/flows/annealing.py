"""AIS from a Gaussian and from a flow, at equal processor time, the training of the flow counted.

The flow is fitted to the target's density, or to the draws of a run of NUTS. The Gaussian has the
mean and covariance of the draws of a long run, and is given them for nothing. Particles from the
flow are annealed once. From the Gaussian they are annealed again and again, in runs as large as the
time left allows, until the time that the flow took in all, training included, is used up; Z is then
averaged over all of them. The error is that of log Z, which is known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import zuko
from torch import nn

import pyro_ebm as ebm
from benchmarks.flows.targets import FUNNEL, TARGETS, log_normalizer
from benchmarks.table import Table, number

ADAM = partial(torch.optim.Adam, lr=2e-3)
_PARTICLES = 1024
_FEWEST, _MOST = 256, 32_768


class Run(NamedTuple):
    """One estimate: its error, its own standard error, and the seconds it took in all."""

    error: float
    std_error: float
    seconds: float
    particles: int


class Pair(NamedTuple):
    """The Gaussian and the flow, from one seed."""

    gaussian: Run
    flow: Run


def affine_couplings(dim: int) -> nn.Module:
    """What all targets here are given."""
    return zuko.flows.RealNVP(dim, transforms=4, hidden_features=(64, 64))


def draws(energy: ebm.Energy, *, chains: int = 32, num_samples: int = 200) -> ebm.MCMC:
    """A run of NUTS on the target as it stands."""
    run = ebm.MCMC(ebm.NUTS(energy), num_samples, 200, num_chains=chains, disable_progbar=True)
    run.run()
    return run


def matched(run: ebm.MCMC) -> dist.MultivariateNormal:
    """The Gaussian with the moments of a run."""
    x = run.get_samples()["x"]
    return dist.MultivariateNormal(x.mean(0), torch.cov(x.T))


def fitted(name: str, energy: ebm.Energy) -> ebm.FittedFlow:
    """The flow of a target: of the density where one mode spreads wide, else of draws."""
    flow = affine_couplings(energy.event_shape[0])
    if name == FUNNEL:
        return ebm.fit_flow_to_target(
            energy, flow=flow, epochs=30, optimizer=ADAM, disable_progbar=True
        )
    run = draws(energy)
    return ebm.fit_flow(run, flow, epochs=40, optimizer=ADAM, disable_progbar=True)


def measure(name: str, gaussian: Any, seed: int) -> Pair:
    """The flow first, then the Gaussian with its time.

    :param gaussian: a base, made beforehand.
    """
    energy = TARGETS[name]
    pyro.set_rng_seed(seed)
    began = time.process_time()
    flow = fitted(name, energy).distribution
    training = time.process_time() - began
    mine = annealed(energy, flow, _PARTICLES)
    mine = mine._replace(seconds=mine.seconds + training)
    return Pair(repeated(energy, gaussian, mine.seconds), mine)


def repeated(energy: ebm.Energy, base: Any, budget: float) -> Run:
    """Estimates until the time is used up, averaged."""
    runs = [annealed(energy, base, _PARTICLES)]
    while (spent := sum(run.seconds for run in runs)) < 0.95 * budget:
        particles = sum(run.particles for run in runs)
        affordable = int(particles * (budget - spent) / spent)
        runs.append(annealed(energy, base, min(max(affordable, _FEWEST), _MOST)))
    weights = np.array([run.particles for run in runs], dtype=float)
    ratios = weights / weights.sum() * np.exp([run.error for run in runs])
    told = np.sqrt(np.sum((ratios * [run.std_error for run in runs]) ** 2)) / ratios.sum()
    return Run(float(np.log(ratios.sum())), float(told), spent, int(weights.sum()))


def annealed(energy: ebm.Energy, base: Any, particles: int) -> Run:
    """One estimate."""
    began = time.process_time()
    run = ebm.AIS(energy, base=base, num_particles=particles, reverse=False, disable_progbar=True)
    found = run.run()
    seconds = time.process_time() - began
    error = float(found.log_z) - log_normalizer(energy)
    return Run(error, float(found.std_error), seconds, particles)


def table(found: Mapping[str, Sequence[Pair]]) -> Table:
    """A row a target and a base."""
    rows, wins = [], []
    for name, pairs in found.items():
        rms = {}
        for base in Pair._fields:
            runs = [getattr(pair, base) for pair in pairs]
            errors = np.array([run.error for run in runs])
            rms[base] = float(np.sqrt(np.mean(errors**2)))
            told = np.median([run.std_error for run in runs])
            seconds = np.mean([run.seconds for run in runs])
            particles = np.mean([run.particles for run in runs])
            figures = [rms[base], np.abs(errors).max(), told, seconds, particles]
            rows.append([name, base, str(len(runs)), *(number(float(each)) for each in figures)])
        wins.append(f"{rms['gaussian'] / rms['flow']:.1f} times less on {name}")
    return Table(
        "AIS at equal time",
        [
            "target",
            "base",
            "seeds",
            "root-mean-square error of log Z",
            "largest error",
            "standard error it tells",
            "seconds",
            "particles",
        ],
        rows,
        f"The error from the flow is {', '.join(wins)}. Seconds of the flow hold its training, and "
        "the run of NUTS that it is fitted to where there is one.",
        {name: [_numbers(pair) for pair in pairs] for name, pairs in found.items()},
    )


def _numbers(pair: Pair) -> dict[str, Any]:
    return {base: run._asdict() for base, run in pair._asdict().items()}
