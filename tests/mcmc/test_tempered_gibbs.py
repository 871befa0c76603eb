"""Sweeps in C along a path: exact draws of a temperature in, one sweep, exact draws out."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import softplus

from pyro_ebm.energies import Ising
from pyro_ebm.mcmc.couplings import binary_pairs
from pyro_ebm.mcmc.tempered_gibbs import TemperedGibbs, tempered_gibbs
from pyro_ebm.target import Target

from .spins import Table, table_of
from .test_discrete_invariance import p_value
from .test_swendsen_wang import CHAINS, FALSE_ALARM, PAIRS


def between(target: Target, beta: float) -> tuple[Table, TemperedGibbs, torch.Tensor]:
    """The density at a beta between a slanted base and the target, its sweeps, and U everywhere."""
    odds = torch.linspace(-1.5, 1.0, target.dim)
    constant = -float(softplus(odds).sum())
    table, pairs = table_of(target), binary_pairs(target)
    sweeps = tempered_gibbs(pairs, odds, constant)
    assert sweeps is not None
    base = table.positions.double() @ odds.double() + constant
    log_density = target.log_density_and_changes(table.positions.T)[0].double()
    tempered = (1.0 - beta) * base + beta * log_density
    return table._replace(probabilities=tempered.softmax(0)), sweeps, log_density - base


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", PAIRS)
def test_tempered_sweeps_leave_their_temperature_invariant(name, beta, dtype):
    target = Target.from_energy(deepcopy(PAIRS[name]).to(dtype), temperature=0.7)
    table, sweeps, slope = between(target, beta)
    start = table.draws(CHAINS)
    # Half of the chains have another temperature, and are not looked at.
    betas = torch.where(torch.arange(CHAINS) % 2 == 0, beta, 0.5)
    moved = sweeps.sweep(start, betas, 3, number=1)
    assert moved.dtype == dtype
    assert p_value(table, moved[:, ::2]) > FALSE_ALARM / (6 * len(PAIRS))
    eps = 100 * torch.finfo(dtype).eps
    found = sweeps.slope(table.positions.T.contiguous())
    torch.testing.assert_close(found, slope, atol=eps, rtol=eps)


def test_a_sweep_there_and_back_is_as_likely_as_its_reverse():
    table, sweeps, _ = between(Target.from_energy(PAIRS["boltzmann"]), 0.8)
    start = table.draws(200_000)
    end = sweeps.sweep(start, torch.full((start.shape[1],), 0.8), 3, number=1)
    place = 2.0 ** torch.arange(2, -1, -1)
    pairs = (8 * (place @ start) + place @ end).long()
    counts = torch.bincount(pairs, minlength=64).reshape(8, 8).double()
    both = counts + counts.T
    statistic = ((counts - counts.T).square() / both.clamp(min=1.0)).triu(1).sum()
    assert float(statistic) < 28 + 4 * 56**0.5


def test_sweeps_at_a_wrong_temperature_are_caught():
    table, sweeps, _ = between(Target.from_energy(PAIRS["rbm"]), 0.4)
    moved = sweeps.sweep(table.draws(CHAINS), torch.full((CHAINS,), 0.8), 3, number=1)
    assert p_value(table, moved) < FALSE_ALARM


def test_tempered_chains_do_not_depend_on_how_many_there_are():
    _, sweeps, _ = between(Target.from_energy(Ising.lattice((3, 3), coupling=0.3)), 1.0)
    found = [
        sweeps.sweep(torch.zeros(9, n), torch.full((n,), 0.9), 5, number=3) for n in (3, 32, 70)
    ]
    assert torch.equal(found[0], found[1][:, :3])
    assert torch.equal(found[1], found[2][:, :32])


def test_what_is_no_model_of_pairs_or_has_infinite_numbers_is_left_to_others():
    assert tempered_gibbs(None, torch.zeros(3), 0.0) is None
    pairs = binary_pairs(Target.from_energy(PAIRS["boltzmann"]))
    assert tempered_gibbs(pairs, torch.tensor([0.0, torch.inf, 0.0]), 0.0) is None
