"""Flows: as densities, as bases of AIS, and before NUTS. Written after every seed.

Parts and targets that are left out of a run stay as they were in the results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import torch

from benchmarks.flows import annealing, density, transport
from benchmarks.flows.targets import BANANA, BANANAS, FUNNEL, TARGETS
from benchmarks.machine import attributes
from benchmarks.table import Table, write

ANNEALED = (FUNNEL, BANANAS)
SAMPLED = (FUNNEL, BANANA)
RESULTS = Path(__file__).parents[1] / "results" / "flows"
_VERSIONS = ("torch", "pyro-ppl", "zuko", "scikit-learn")


REMARK = "One thread; seconds are those of the processor, which did other work too."

Found = dict[str, list[Any]]


class Part(NamedTuple):
    """What measures a target for some seeds, what makes a table of it, and the title of that."""

    title: str
    measure: Callable[[str, int], Iterable[Any]]
    table: Callable[[Any], Table]
    read: Callable[[Any], Any]
    names: Iterable[str]
    # How many of the seeds asked for.
    share: float


def _densities(name: str, seeds: int) -> Iterable[density.Nats]:
    for seed in range(seeds):
        yield density.measure(name, seed)


def _pairs(name: str, seeds: int) -> Iterable[annealing.Pair]:
    pyro.set_rng_seed(1000)
    gaussian = annealing.matched(annealing.draws(TARGETS[name], chains=64))
    for seed in range(seeds):
        yield annealing.measure(name, gaussian, seed)


def _samplings(name: str, seeds: int) -> Iterable[Mapping[str, transport.Sampling]]:
    for seed in range(seeds):
        yield transport.measure(name, seed)


PARTS = {
    "annealing": Part(
        "AIS at equal time",
        _pairs,
        annealing.table,
        lambda one: annealing.Pair(*(annealing.Run(**run) for run in one.values())),
        ANNEALED,
        1.0,
    ),
    "density": Part(
        "Held-out nats",
        _densities,
        density.table,
        lambda one: density.Nats(**one),
        density.TASKS,
        0.5,
    ),
    "transport": Part(
        "NUTS",
        _samplings,
        transport.table,
        lambda one: {way: transport.Sampling(**run) for way, run in one.items()},
        SAMPLED,
        0.25,
    ),
}


def earlier(path: Path) -> dict[str, Found]:
    """What results hold by part."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    return {
        part: {
            name: [PARTS[part].read(one) for one in ones]
            for name, ones in kept[PARTS[part].title].items()
        }
        for part in PARTS
        if PARTS[part].title in kept
    }


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flows", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--targets", nargs="+", help="of these parts only these targets")
    parser.add_argument("--seeds", type=int, default=8, help="for AIS; fewer elsewhere")
    parser.add_argument("--results", type=Path, default=RESULTS, help="without ending")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    found = earlier(given.results.with_suffix(".json"))
    for name in given.only:
        part = PARTS[name]
        of_part = found.setdefault(name, {})
        for target in part.names:
            if given.targets and target not in given.targets:
                continue
            of_part[target] = []
            for one in part.measure(target, max(2, round(part.share * given.seeds))):
                of_part[target].append(one)
                print(target, one, flush=True)
                write(
                    [PARTS[each].table(found[each]) for each in PARTS if each in found],
                    given.results,
                    heading="Flows",
                    remarks=(REMARK,),
                    attributes=attributes(_VERSIONS, began),
                )
    print(given.results.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
