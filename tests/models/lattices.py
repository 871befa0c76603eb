"""Discrete energies whose log normaliser is known; each made by its name, in the default dtype.

Sources of the numbers: tori of Ising spins by Kaufman's formula, to 60 digits; all others by sums
over all configurations, of an RBM over those of its smaller layer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

import pyro_ebm as ebm

from .case import Case
from .catalogue import NUMBERS

CRITICAL = 0.4406867935097715


class Known(NamedTuple):
    """An energy, what its log Z is at temperature 1, and the error an estimate may report."""

    make: Callable[[], ebm.Energy]
    log_z: float
    most_error: float = 0.05


def lattice(name: str) -> Case:
    """One of :data:`LATTICES`, as other targets are given."""
    known = LATTICES[name]
    distribution = ebm.EnergyDistribution(known.make())
    return Case(name, distribution, (), known.log_z, most_error=known.most_error)


def torus(length: int, coupling: float) -> ebm.Energy:
    return ebm.Ising.lattice((length, length), coupling=coupling)


def potts(coupling: float) -> ebm.Energy:
    return ebm.Potts.lattice((4, 4), 3, coupling=coupling)


def ring(sites: int, coupling: float, field: float) -> ebm.Energy:
    return ebm.Ising.lattice((sites,), coupling=coupling, field=field)


def rotors(sites: int, coupling: float) -> ebm.Energy:
    return ebm.XY.lattice((sites,), coupling=coupling)


def glass(beta: float) -> ebm.Energy:
    """Sherrington, Kirkpatrick (1975), of 20 spins, times beta."""
    upper = np.triu(np.random.default_rng(20).standard_normal((20, 20)), 1) / 20**0.5
    couplings = torch.as_tensor(upper + upper.T, dtype=torch.get_default_dtype())
    return beta * ebm.Ising(couplings)


def rbm(scale: float) -> ebm.Energy:
    i, j = torch.arange(20.0)[:, None], torch.arange(10.0)
    weights = scale * torch.sin(1 + 3 * i + 7 * j + 0.1 * i * j)
    return ebm.RBM(weights, 0.3 * torch.cos(i[:, 0]), 0.2 * torch.sin(2 * j))


def digits() -> ebm.Energy:
    """Trained on scikit-learn's digits, 64 pixels of 0 and 1."""
    with np.load(NUMBERS / "normalisers" / "rbm_digits.npz") as stored:
        parts = [torch.as_tensor(stored[name]).to(torch.get_default_dtype()) for name in "Wbc"]
    return ebm.RBM(*parts)


def _family(name: str, make: Callable, known: dict[Any, float]) -> dict[str, Known]:
    return {f"{name}_{key}": Known(partial(make, key), log_z) for key, log_z in known.items()}


LATTICES = {
    "torus_8_critical": Known(partial(torus, 8, CRITICAL), 60.14178078906915),
    "torus_16_critical": Known(partial(torus, 16, CRITICAL), 238.6422566351329, 0.15),
}
KNOWN = {
    **LATTICES,
    **_family(
        "torus_8",
        partial(torus, 8),
        {
            0.2: 47.01014742238827,
            0.4: 56.59938876042538,
            0.5: 66.3445818792278,
            0.6: 78.14164885761666,
        },
    ),
    **_family(
        "glass",
        glass,
        {
            0.25: 14.238565075293401,
            0.5: 15.3971038087989,
            1.0: 20.03016712069891,
            2.0: 34.49304115039685,
            4.0: 66.8107359268029,
        },
    ),
    **_family("rbm", rbm, {0.5: 22.15470662129104, 1.5: 31.38647383361391}),
    **_family(
        "potts", potts, {0.5: 23.901345310609273, 0.8: 29.17510371203916, 1.2: 39.84698486942102}
    ),
    "digits": Known(digits, 50.55175594624704),
    "ring": Known(partial(ring, 16, -0.7, 0.1), 14.74672426718945),
    "rotors": Known(partial(rotors, 16, 1.0), 33.18066776984677),
}
