"""NUTS as it stands and by way of a flow: effective draws a gradient, and a processor second.

The effective sample size is the least over the means of all coordinates and of their squares. It is
believed only where the draws agree with the known mean and variance of the coordinate that is
hardest, the first: how far they are off, in standard deviations, stands beside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyro
import torch

import pyro_ebm as ebm
from benchmarks.flows.annealing import ADAM, affine_couplings
from benchmarks.flows.targets import TARGETS
from benchmarks.table import Table, number
from pyro_ebm.diagnostics import ess_bulk, split_rhat

PLAIN, BY_FLOW = "as it stands", "by a flow"
_CHAINS, _DRAWS, _WARMUP = 16, 500, 300


class Sampling(NamedTuple):
    """What a run gave, and what it cost; seconds and gradients hold warm-up and training."""

    ess: float
    rhat: float
    off: float
    variance_ratio: float
    seconds: float
    training: float
    gradients: float
    divergences: int


def measure(name: str, seed: int) -> Mapping[str, Sampling]:
    """Both ways."""
    energy = TARGETS[name]
    pyro.set_rng_seed(seed)
    found = {PLAIN: sampled(energy, energy, 0.0)}
    began = time.process_time()
    flow = ebm.fit_flow_to_target(
        energy,
        flow=affine_couplings(energy.event_shape[0]),
        epochs=30,
        optimizer=ADAM,
        disable_progbar=True,
    )
    target = ebm.transported(energy, flow)
    return {**found, BY_FLOW: sampled(target, energy, time.process_time() - began)}


def sampled(target: object, energy: ebm.Energy, training: float) -> Sampling:
    """One run, judged by what is known of the energy."""
    began = time.process_time()
    run = ebm.MCMC(ebm.NUTS(target), _DRAWS, _WARMUP, num_chains=_CHAINS, disable_progbar=True)
    run.run()
    x = run.get_samples(group_by_chain=True)["x"].double()
    seconds = time.process_time() - began
    both = torch.cat([x, x.square()], -1).numpy()
    sd = energy.variance().double().sqrt()
    first = x[..., 0].flatten()
    return Sampling(
        ess=float(np.min(ess_bulk(both))),
        rhat=float(np.max(split_rhat(x.numpy()))),
        off=float((first.mean() - energy.mean().double()[0]) / sd[0]),
        variance_ratio=float(first.var() / sd[0].square()),
        seconds=seconds,
        training=training,
        gradients=float(_CHAINS * run.record.attrs["gradient_steps"]),
        divergences=int(run.record.statistics["diverging"].sum()),
    )


def table(found: Mapping[str, Sequence[Mapping[str, Sampling]]]) -> Table:
    """A row a target and a way, medians over the seeds."""
    rows = []
    for name, pairs in found.items():
        for way in (PLAIN, BY_FLOW):
            runs = [pair[way] for pair in pairs]

            def middle(figure, runs: list[Sampling] = runs) -> float:
                return float(np.median([figure(run) for run in runs]))

            rows.append(
                [
                    name,
                    way,
                    str(len(runs)),
                    number(middle(lambda run: run.ess)),
                    number(middle(lambda run: 1000 * run.ess / run.gradients)),
                    number(middle(lambda run: run.ess / run.seconds)),
                    number(middle(lambda run: run.ess / (run.seconds + run.training))),
                    f"{middle(lambda run: run.rhat):.3f}",
                    f"{middle(lambda run: run.off):+.2f}",
                    f"{middle(lambda run: run.variance_ratio):.2f}",
                    number(middle(lambda run: run.divergences)),
                ]
            )
    return Table(
        "NUTS",
        [
            "target",
            "NUTS",
            "seeds",
            "least ESS",
            "ESS per 1000 gradients",
            "ESS a second",
            "the same, training counted",
            "R-hat",
            "mean of the first coordinate, off by",
            "its variance over the true one",
            "divergences",
        ],
        rows,
        f"{_CHAINS} chains of {_DRAWS} draws after {_WARMUP} of warm-up. Gradients are those of "
        "the runs, warm-up included; training of the flow takes 50 x 30 steps of 256 draws more. "
        "Where R-hat is above 1.01 a run has not found its target, and its figures do not "
        "count.",
        {
            name: [{way: run._asdict() for way, run in pair.items()} for pair in pairs]
            for name, pairs in found.items()
        },
    )
