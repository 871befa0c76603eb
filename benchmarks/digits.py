"""A restricted Boltzmann machine of 12 hidden units on binary 8x8 digits, beside scikit-learn's.

    python -m benchmarks.digits

1,500 images to learn from, 297 to be scored in nats, log Z summed over all states of the hidden
layer. Ours learns by persistent contrastive divergence and by the exact likelihood; scikit-learn's
BernoulliRBM by its own persistent chains, at every rate, number of epochs and size of batches of a
small grid, of which the best is printed with what it alone took. Seconds are those of the
processor, of learning alone. AIS estimates log Z of the machine that was learned. Results go to
benchmarks/results/digits.md.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import pyro_ebm as ebm

ROOT = Path(__file__).parent.parent
_DATA = ROOT / "tests" / "data" / "learning" / "digits_binary_split.npz"
_WRITTEN = Path(__file__).parent / "results" / "digits.md"
HIDDEN = 12
RATES, EPOCHS, ROWS = (0.01, 0.03, 0.1), (100, 300), (10, 50, 100)
SEEDS = (0, 1, 2)


class Images(NamedTuple):
    """Binary images [n, 64]."""

    training: Tensor
    test: Tensor


class Row(NamedTuple):
    """Nats a test image over seeds, and processor seconds a run."""

    name: str
    nats: list[float]
    seconds: list[float]


def images() -> Images:
    """The split that is kept with the tests."""
    with np.load(_DATA) as arrays:
        return Images(*(torch.as_tensor(arrays[k]).float() for k in ("train", "test")))


def begun(data: Images) -> ebm.Energy:
    """The marginal of a machine that begins as independent pixels."""
    often = data.training.mean(0).clamp(0.01, 0.99)
    return ebm.RBM(
        nn.Parameter(0.05 * torch.randn(64, HIDDEN)),
        nn.Parameter((often / (1 - often)).log()),
        nn.Parameter(torch.zeros(HIDDEN)),
    ).marginal()


def persistent(data: Images, seed: int) -> ebm.Energy:
    """Persistent contrastive divergence, 200 chains."""
    steps = 4000
    return _fitted(
        data,
        seed,
        ebm.PersistentContrastiveDivergence(num_chains=200, steps=2),
        steps=steps,
        batch_size=100,
    )


def exact(data: Images, seed: int) -> ebm.Energy:
    """The exact likelihood."""
    return _fitted(data, seed, ebm.ExactLikelihood(), steps=1000, batch_size=500)


def _fitted(
    data: Images, seed: int, objective: ebm.Objective, *, steps: int, batch_size: int
) -> ebm.Energy:
    torch.manual_seed(seed)
    energy = begun(data)
    ebm.fit(
        energy,
        data.training,
        objective,
        num_steps=steps,
        batch_size=batch_size,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.03),
        scheduler=lambda adam: torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.01, steps),
        held_out=None,
        disable_progbar=True,
    )
    return energy


def scikit_learn(
    data: Images, seed: int, rate: float, epochs: int, *, batch_size: int
) -> ebm.Energy:
    """scikit-learn's machine as ours, so that one function scores both."""
    from sklearn.neural_network import BernoulliRBM

    found = BernoulliRBM(
        HIDDEN, learning_rate=rate, batch_size=batch_size, n_iter=epochs, random_state=seed
    ).fit(data.training.numpy())
    weights, visible, hidden = (
        torch.as_tensor(np.asarray(each)).double()
        for each in (
            found.components_.T.copy(),
            found.intercept_visible_,
            found.intercept_hidden_,
        )
    )
    return ebm.RBM(weights, visible, hidden).marginal()


def measured(name: str, learn: Callable[[int], ebm.Energy], data: Images) -> Row:
    """Learn with every seed, and score."""
    nats, seconds = [], []
    for seed in SEEDS:
        began = time.process_time()
        energy = learn(seed)
        seconds.append(time.process_time() - began)
        nats.append(ebm.held_out_log_likelihood(energy, data.test).mean)
    return Row(name, nats, seconds)


def main() -> None:
    """Measure, print and write."""
    data = images()
    torch.manual_seed(0)
    independent = ebm.held_out_log_likelihood(begun(data), data.test).mean
    # What is loaded at the first step of any optimiser is no part of learning.
    _fitted(data, 0, ebm.ExactLikelihood(), steps=1, batch_size=100)
    rows = [
        measured("persistent chains", lambda seed: persistent(data, seed), data),
        measured("exact likelihood", lambda seed: exact(data, seed), data),
    ]
    grid = [
        measured(
            f"scikit-learn, rate {rate}, {epochs} epochs, batches of {number}",
            lambda seed, rate=rate, epochs=epochs, number=number: scikit_learn(
                data, seed, rate, epochs, batch_size=number
            ),
            data,
        )
        for rate, epochs, number in itertools.product(RATES, EPOCHS, ROWS)
    ]
    rows.append(max(grid, key=lambda row: float(np.mean(row.nats))))
    machine = persistent(data, 0).rbm
    assert isinstance(machine, ebm.RBM)
    torch.manual_seed(1)
    estimate = ebm.AIS(ebm.EnergyDistribution(machine), disable_progbar=True).run()
    known = float(machine.layer_log_normalizer().detach())
    lines = [
        f"# Binary digits, {HIDDEN} hidden units",
        "",
        "`python -m benchmarks.digits`: nats a test image (297 of them), mean and range over "
        f"{len(SEEDS)} seeds, and processor seconds of learning.",
        "",
        "| | nats | worst | best | seconds |",
        "|---|---|---|---|---|",
        f"| independent pixels | {independent:.2f} | | | |",
        *(
            f"| {row.name} | {np.mean(row.nats):.2f} | {min(row.nats):.2f} | {max(row.nats):.2f} "
            f"| {np.median(row.seconds):.1f} |"
            for row in rows
        ),
        "",
        f"log Z of the machine learned by persistent chains: AIS {estimate}, all states "
        f"{known:.4f}.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    _WRITTEN.write_text(text)


if __name__ == "__main__":
    main()
