"""Held-out nats of fit_flow beside those of zuko's own training loop.

Both start from the same flow, and have the same optimiser, number of epochs, batches and rows: of
three fifths of them both learn, one fifth chooses the epoch, and the last fifth is what is judged.
(In an order of batches of its own each, two runs of either loop differ by more than 0.1 on tables
of a few hundred rows.) zuko's loop is that of its README. It keeps its last state; with the choice
of the best epoch, which fit_flow makes, it stands in a second column.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import zuko
from sklearn.datasets import load_breast_cancer, load_wine, make_moons
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

import pyro_ebm as ebm
from benchmarks.table import Table

GOAL = 0.1
_RATE = 1e-3


class Task(NamedTuple):
    """Rows, the flow that learns them, and how long."""

    rows: Callable[[int], np.ndarray]
    flow: Callable[[int], nn.Module]
    epochs: int
    batch_size: int


def _moons(seed: int) -> np.ndarray:
    return make_moons(1500, noise=0.1, random_state=seed)[0]


_SPLINES = partial(zuko.flows.NSF, transforms=2, hidden_features=(32, 32))
_AFFINE = partial(zuko.flows.MAF, transforms=3, hidden_features=(64, 64))

TASKS: Mapping[str, Task] = {
    "two moons": Task(_moons, _SPLINES, 40, 64),
    "wine": Task(lambda _: load_wine().data, _AFFINE, 60, 32),
    "breast cancer": Task(lambda _: load_breast_cancer().data, _AFFINE, 60, 32),
}


class Nats(NamedTuple):
    """Of unseen rows: by fit_flow, by zuko's loop at its end, and at its best epoch."""

    ours: float
    last: float
    best: float


def measure(name: str, seed: int) -> Nats:
    """Train both ways on standardised columns, as the numbers of a table are in many units."""
    task = TASKS[name]
    torch.manual_seed(seed)
    rows = torch.from_numpy(task.rows(seed)).float()
    rows = rows[torch.randperm(len(rows))]
    fifth = len(rows) // 5
    test, chosen_by, learned = rows[:fifth], rows[fifth : 2 * fifth], rows[2 * fifth :]
    loc, scale = learned.mean(0), learned.std(0)
    test, chosen_by, learned = ((each - loc) / scale for each in (test, chosen_by, learned))
    flow = task.flow(rows.shape[1])
    shuffled = _Shuffled(len(learned), torch.Generator().manual_seed(seed))
    loader = DataLoader(TensorDataset(learned), batch_size=task.batch_size, sampler=shuffled)
    last, best = zukos_loop(copy.deepcopy(flow), loader, chosen_by, test, task.epochs)
    fitted = ebm.fit_flow(
        learned,
        flow,
        held_out=chosen_by,
        epochs=task.epochs,
        patience=task.epochs,
        batch_size=task.batch_size,
        optimizer=partial(torch.optim.Adam, lr=_RATE),
        generator=torch.Generator().manual_seed(seed),
        disable_progbar=True,
    )
    with torch.no_grad():
        ours = -float(fitted.distribution.log_prob(test).mean())
    return Nats(ours, last, best)


class _Shuffled(Sampler[int]):
    """Rows in an order that a generator draws anew for every epoch."""

    def __init__(self, number: int, generator: torch.Generator) -> None:
        self._number, self._generator = number, generator

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self._number, generator=self._generator).tolist())


def zukos_loop(
    flow: nn.Module, loader: DataLoader, chosen_by: Tensor, test: Tensor, epochs: int
) -> tuple[float, float]:
    """The loop of zuko's README; nats of unseen rows at its end, and at its best epoch."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=_RATE)
    seen = []
    for _ in range(epochs):
        for (x,) in loader:
            loss = -flow().log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            seen.append([-float(flow().log_prob(each).mean()) for each in (chosen_by, test)])
    return seen[-1][1], min(seen)[1]


def table(found: Mapping[str, list[Nats]]) -> Table:
    """A row for each data set, means over the seeds."""
    rows, differences = [], {}
    for name, nats in found.items():
        ours, last, best = (np.array(column) for column in zip(*nats, strict=True))
        differences[name] = float((ours - best).mean())
        error = (ours - best).std() / max(1, len(nats) - 1) ** 0.5
        numbers = [f"{column.mean():.3f}" for column in (ours, last, best)]
        rows.append([name, str(len(nats)), *numbers, f"{differences[name]:+.3f} ± {error:.3f}"])
    met = all(abs(each) <= GOAL for each in differences.values())
    return Table(
        "Held-out nats",
        ["data", "seeds", "fit_flow", "zuko's loop", "at its best epoch", "difference of the best"],
        rows,
        f"Within {GOAL} nats of zuko's loop, at the epoch chosen alike: {'yes' if met else 'no'}. "
        "Rows are standardised; a lower number is a better density.",
        {name: [each._asdict() for each in nats] for name, nats in found.items()},
    )
