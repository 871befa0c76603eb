"""A thousand runs of annealed importance sampling with few particles: are its errors those it says?

Coverage and spread of the scores leave room for chance: of 1,000 intervals of 95 %, all but two in
a thousand such tests have between 0.930 and 0.968 that hold the truth.
"""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, StudentT

import pyro_ebm as ebm
from tests.models.normalisers import normaliser

pytestmark = [pytest.mark.slow]

REPEATS = 1000


def wide(scale, dim):
    return Independent(Normal(torch.zeros(dim), torch.tensor(scale)), 1)


def mild_funnel(x):
    """v ~ N(0, 1.5^2) and three x ~ N(0, e^v): normalised."""
    v = x[..., 0]
    return 0.5 * (v / 1.5).square() + 0.5 * (
        x[..., 1:].square() * (-v).exp()[..., None] + v[..., None]
    ).sum(-1)


FUNNEL_LOG_Z = math.log(1.5) + 2.0 * math.log(2 * math.pi)

# A model, its log Z, a base that is good enough for the easy ones, and particles.
EASY = {
    "double_well_0.5_1.0": (lambda: Normal(torch.tensor(0.0), 1.5), 48),
    "student_t_10": (lambda: StudentT(3.0, torch.tensor(0.5), 2.0), 32),
    "phi4_ring_16": (lambda: wide(1.0, 16), 256),
}


class Runs(NamedTuple):
    """By run: log Z minus the truth, its standard error, and whether it is called reliable."""

    error: Tensor
    std_error: Tensor
    covered: Tensor
    reliable: Tensor
    gap: Tensor


def runs(model, log_z, seed, **options):
    method = ebm.AIS(model, disable_progbar=True, **options)

    def one(run: int) -> list[float]:
        # A seed for each run, so that an odd one can be seen again by itself.
        torch.manual_seed(seed + run)
        found = method.run()
        low, high = found.interval()
        gap = math.nan if found.backward is None else found.backward.upper - found.log_z
        inside = low <= log_z <= high
        return [found.log_z - log_z, found.std_error, float(inside), float(found.reliable), gap]

    # Of each run only the numbers are kept: a thousand frozen targets would fill the memory.
    error, std_error, covered, reliable, gap = torch.tensor([one(run) for run in range(REPEATS)]).T
    return Runs(error, std_error, covered.bool(), reliable.bool(), gap)


def errors_from(mean, values):
    return (float(values.mean()) - mean) / (float(values.std()) / math.sqrt(len(values)))


def check_errors(error, std_error, covered):
    assert 0.930 <= float(covered.double().mean()) <= 0.968
    assert 0.85 <= float((error / std_error).square().mean().sqrt()) <= 1.15


@pytest.mark.parametrize("name", EASY)
def test_errors_are_as_large_as_they_say_and_z_is_unbiased(name):
    torch.set_default_dtype(torch.float64)
    case = normaliser(name)
    base, number = EASY[name]
    found = runs(case.model, case.log_z, 11_000, base=base(), num_particles=number, reverse=False)
    check_errors(found.error, found.std_error, found.covered)
    ratio = found.error.exp()
    assert float(ratio.var()) < 0.05
    assert abs(errors_from(1.0, ratio)) < 4
    # A bias of three percent would be seen.
    assert abs(errors_from(1.0, 1.03 * ratio)) > 4


def test_where_it_is_hard_the_reliable_ones_have_true_errors():
    torch.set_default_dtype(torch.float64)
    model = ebm.EnergyDistribution(mild_funnel, (4,))
    found = runs(model, FUNNEL_LOG_Z, 12_000, base=wide(2.0, 4), num_particles=1024)
    kept = found.reliable
    assert int(kept.sum()) > 100
    check_errors(found.error[kept], found.std_error[kept], found.covered[kept])
    gap = found.gap[found.gap.isfinite()]
    assert errors_from(0.0, gap) > -4
