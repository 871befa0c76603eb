"""Curie-Weiss: every spin is bound to every other, and sums over its magnetisation are exact."""

import numpy as np
import pytest
import torch
from scipy.special import gammaln

import pyro_ebm as ebm

# E = -(1/2N) (sum of spins)^2 - h sum of spins, by sums over the magnetisation made elsewhere:
# inverse temperature, field, log Z, mean energy, mean square magnetisation, of N = 10 and 50.
KNOWN = {
    10: [
        (0.5, 0.1, 7.279100947554112, -0.9697918416422538, 0.17687502863236884),
        (1.5, 0.0, 9.105117379657598, -3.2238297281492834, 0.6447659456298567),
    ],
    50: [
        (0.5, 0.0, 34.99917618089358, -0.9632827157675647, 0.03853130863070259),
        (1.2, 0.0, 37.22598627855008, -9.193988529189477, 0.3677595411675791),
        (1.0, 0.1, 37.5721202389214, -11.309061566916778, 0.3443503121678071),
    ],
}


def curie_weiss(size: int, field: float) -> ebm.Ising:
    """Bonds of strength 1/N; a spin's bond with itself, which is constant, is left out."""
    couplings = (torch.ones(size, size) - torch.eye(size)) / size
    return ebm.Ising(couplings, field)


@pytest.mark.parametrize("size", KNOWN)
def test_sums_over_the_magnetisation_are_as_known(size: int):
    up = np.arange(size + 1)
    spins = 2 * up - size
    ways = gammaln(size + 1) - gammaln(up + 1) - gammaln(size - up + 1)
    for beta, field, log_z, energy, square in KNOWN[size]:
        energies = -(spins**2) / (2 * size) - field * spins
        logs = ways - beta * energies
        weights = np.exp(logs - logs.max())
        assert np.log(weights.sum()) + logs.max() == pytest.approx(log_z)
        weights /= weights.sum()
        assert weights @ energies == pytest.approx(energy)
        assert weights @ (spins / size) ** 2 == pytest.approx(square)


@pytest.mark.parametrize("case", KNOWN[10], ids=lambda case: f"beta={case[0]}")
def test_small_ones_are_summed(case: tuple[float, ...]):
    beta, field, log_z, energy, _ = case
    found = ebm.exact_enumeration(curie_weiss(10, field), temperature=1 / beta)
    assert float(found.log_z) == pytest.approx(log_z - beta / 2, rel=1e-5)
    assert float(found.mean_energy) == pytest.approx(energy + 0.5, rel=1e-4)


@pytest.mark.slow
def test_larger_ones_are_annealed():
    torch.set_default_dtype(torch.float64)
    for beta, field, log_z, energy, square in KNOWN[50]:
        found = ebm.thermodynamics(
            curie_weiss(50, field),
            [1 / beta],
            observables={"square": lambda s: s.mean(-1).square()},
            num_ladders=16,
            num_sweeps=256,
            disable_progbar=True,
        ).squeeze()
        for name, wanted in (
            ("log_z", log_z - beta / 2),
            ("internal_energy", energy + 0.5),
            ("square", square),
        ):
            apart = float(found[name]) - wanted
            assert abs(apart) < 4 * float(found[f"{name}_error"]) + 1e-9, (name, beta)
