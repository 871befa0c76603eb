"""How often basin hopping finds the lowest cluster of 38 atoms, and what a find costs.

    python -m benchmarks.lennard_jones --seeds 4 --starts 64 --hops 150

38 atoms rest lowest as a truncated octahedron (-173.928427), in a narrow funnel beside the wide one
of the icosahedra: the usual test of a search. Every start is a walk of its own from atoms at
random; one that met the octahedron is a hit. What is counted is how many descents of all walks fell
to one hit, those of walks that went on after it or never came to it included. Wales and Doye (1997)
needed about two thousand at their best temperature. Results go to
benchmarks/results/lennard_jones.md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch

import pyro_ebm as ebm

LOWEST = {13: -44.326801, 38: -173.928427}
_NEAR = 1e-4
_WRITTEN = Path(__file__).parent / "results" / "lennard_jones.md"


class Found(NamedTuple):
    """Of one seed: the lowest energy, walks that met the known one, descents, processor time."""

    seed: int
    lowest: float
    hits: int
    descents: int
    seconds: float


def found(seed: int, *, atoms: int, starts: int, strategy: ebm.BasinHopping) -> Found:
    """Search once."""
    torch.manual_seed(seed)
    began = time.process_time()
    minima = ebm.minimize(ebm.LennardJones(atoms), starts=starts, strategy=strategy)
    seconds = time.process_time() - began
    hits = int(minima.counts[minima.energies < LOWEST[atoms] + _NEAR].sum())
    descents = starts * (strategy.num_hops + 1)
    return Found(seed, float(minima.energies[0]), hits, descents, seconds)


def report(atoms: int, strategy: ebm.BasinHopping, rows: list[Found]) -> str:
    """The table, with what a hit costs."""
    lines = [
        f"# {atoms} atoms: hits of basin hopping",
        "",
        f"`python -m benchmarks.lennard_jones`, {strategy}, float64, one thread.",
        "",
        "| seed | lowest energy | walks that met the lowest known | descents | processor s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.seed} | {row.lowest:.4f} | {row.hits} | {row.descents} | {row.seconds:.0f} |"
        for row in rows
    ]
    hits, descents = sum(row.hits for row in rows), sum(row.descents for row in rows)
    seconds = sum(row.seconds for row in rows)
    runs = sum(row.hits > 0 for row in rows)
    lines += ["", f"{runs} of {len(rows)} seeds and {hits} walks in all met {LOWEST[atoms]}."]
    if hits:
        lines.append(
            f"A hit costs {descents / hits:.0f} descents and {seconds / hits:.0f} s of processor "
            f"time; a descent {1e3 * seconds / descents:.1f} ms."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Search with each seed, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=38, choices=sorted(LOWEST))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--starts", type=int, default=64)
    parser.add_argument("--hops", type=int, default=150)
    parser.add_argument("--step-size", type=float, default=0.25)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--write", type=Path, default=_WRITTEN)
    given = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    strategy = ebm.BasinHopping(
        given.hops, step_size=given.step_size, temperature=given.temperature
    )
    rows: list[Found] = []
    for seed in range(given.seeds):
        rows.append(found(seed, atoms=given.atoms, starts=given.starts, strategy=strategy))
        print(rows[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
        given.write.write_text(report(given.atoms, strategy, rows))


if __name__ == "__main__":
    main()
