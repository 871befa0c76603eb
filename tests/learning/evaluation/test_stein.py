"""Stein's identity holds exactly, and what is no draw of the energy is found out."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch.distributions import constraints

from pyro_ebm.energies import (
    Gaussian,
    GaussianMixtureEnergy,
    Ising,
    Potts,
    Quartic,
    as_energy,
    exact_enumeration,
)
from pyro_ebm.energies.enumeration import configurations
from pyro_ebm.learning import kernel_stein_discrepancy
from pyro_ebm.learning.evaluation.discrete_stein import DifferenceStein
from pyro_ebm.learning.evaluation.stein import _GradientStein
from tests.oracles import whole_line

DOUBLE = torch.float64


def gaussian(d=2):
    factor = torch.eye(d, dtype=DOUBLE) + 0.4 * torch.ones(d, d, dtype=DOUBLE).tril(-1)
    return Gaussian(torch.arange(d, dtype=DOUBLE), scale_tril=factor)


def kernel_by_gradients(energy, x, y, c):
    """u(x, y) of two rows by automatic differentiation."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()

    def kernel(a, b):
        return (c**2 + (a - b).square().sum()).rsqrt()

    sx = -torch.autograd.grad(energy(x), x)[0]
    sy = -torch.autograd.grad(energy(y), y)[0]
    gx = torch.func.grad(kernel, 0)(x, y)
    gy = torch.func.grad(kernel, 1)(x, y)
    mixed = torch.func.jacrev(torch.func.grad(kernel, 0), 1)(x, y)
    return (sx @ sy * kernel(x, y) + sx @ gy + sy @ gx + mixed.trace()).detach()


@pytest.mark.parametrize("block_size", [2, 100])
def test_the_statistics_are_means_over_pairs(block_size):
    energy, x = gaussian(), torch.randn(5, 2, dtype=DOUBLE) + 100.0
    found = kernel_stein_discrepancy(energy, x, scale=0.7, block_size=block_size, num_bootstraps=3)
    pairs = torch.stack(
        [torch.stack([kernel_by_gradients(energy, a, b, 0.7) for b in x]) for a in x]
    )
    assert found.v_statistic == pytest.approx(float(pairs.mean()))
    assert found.u_statistic == pytest.approx(float(pairs.sum() - pairs.trace()) / 20)


def test_temperature_divides_the_energy():
    energy, x = gaussian(), torch.randn(20, 2, dtype=DOUBLE)
    warm = kernel_stein_discrepancy(energy, x, temperature=2.5, num_bootstraps=1)
    scaled = kernel_stein_discrepancy(energy / 2.5, x, num_bootstraps=1)
    assert warm.v_statistic == pytest.approx(scaled.v_statistic)


@pytest.mark.parametrize("energy", [Quartic(tilt=0.5), gaussian(1)], ids=["quartic", "gaussian"])
def test_steins_identity_holds_by_quadrature(energy):
    rule = whole_line(400)
    keep = rule.nodes.abs() < 50.0
    nodes = rule.nodes[keep].reshape(-1, *energy.event_shape)
    log_mass = rule.log_weights[keep] - energy(nodes)
    kernel = _GradientStein(energy, nodes, 1.0, 0.8, 1000, None)
    every = slice(0, len(nodes))
    means = log_mass.softmax(0) @ kernel.block(every, every)
    near = nodes.flatten().abs() < 4.0
    assert float(means[near].abs().max()) < 1e-10


def of_three_states():
    def energy(x):
        return 0.4 * (x * x.roll(1)).sum() + (0.7 * x).cos().sum()

    return as_energy(energy, event_shape=(3,), support=constraints.integer_interval(0, 2))


DISCRETE = {
    "ising": lambda: Ising(0.5 * (1 - torch.eye(4, dtype=DOUBLE)), 0.3),
    "potts": lambda: Potts(0.6 * (1 - torch.eye(3, dtype=DOUBLE)), 4),
    "three states": of_three_states,
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_statistics_are_those_of_the_definition(name):
    energy = DISCRETE[name]()
    listed = exact_enumeration(energy, 1.3)
    n, sites = len(listed.energies), energy.event_shape.numel()
    p, index = listed.log_probabilities.exp(), torch.arange(n)
    x = configurations(energy, index)
    states = round(n ** (1 / sites))
    kernel = (-(x[:, None] != x).sum(-1).double() / 1.7).exp()
    expected = torch.zeros(n, n, dtype=DOUBLE)
    for place in (states**power for power in range(sites)):
        # The number of the configuration with this site in its next state.
        up = index + torch.where(index // place % states == states - 1, 1 - states, 1) * place
        back = torch.eye(n, dtype=DOUBLE)[:, up]
        operator = (1 - p[up] / p).diag() - torch.eye(n, dtype=DOUBLE) + back
        expected += operator @ kernel @ operator.mT
    every = slice(0, n)
    found = DifferenceStein(energy, x, 1.3, 1.7, 1000).block(every, every)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("scale", [None, 1.7])
def test_steins_identity_holds_by_enumeration(name, scale):
    energy = DISCRETE[name]()
    listed = exact_enumeration(energy, 1.3)
    number = len(listed.energies)
    x = configurations(energy, torch.arange(number))
    kernel = DifferenceStein(energy, x, 1.3, scale, 1000)
    every = slice(0, number)
    pairs = kernel.block(every, every)
    torch.testing.assert_close(pairs, pairs.mT)
    means = listed.log_probabilities.exp() @ pairs
    assert float(means.abs().max()) < 1e-10 * float(pairs.abs().max())
    assert float(torch.linalg.eigvalsh(pairs).min()) > -1e-10 * float(pairs.abs().max())


@pytest.mark.parametrize(
    "energy",
    [
        gaussian(),
        GaussianMixtureEnergy(torch.tensor([[-1.0], [1.5]], dtype=DOUBLE), 0.7),
        Ising(0.3 * (1 - torch.eye(5, dtype=DOUBLE)), 0.2),
    ],
    ids=["gaussian", "mixture", "ising"],
)
def test_of_exact_draws_the_u_statistic_is_zero_in_the_mean(energy):
    values = torch.tensor(
        [
            kernel_stein_discrepancy(
                energy, energy.exact_sample((30,)), scale=1.0, num_bootstraps=1
            ).u_statistic
            for _ in range(200)
        ]
    )
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(200)


@pytest.mark.parametrize(
    "energy",
    [gaussian(), Ising(0.3 * (1 - torch.eye(5, dtype=DOUBLE)), 0.2)],
    ids=["gaussian", "ising"],
)
def test_of_exact_draws_p_values_are_uniform(energy):
    values = np.array(
        [
            kernel_stein_discrepancy(energy, energy.exact_sample((200,)), num_bootstraps=99).p_value
            for _ in range(200)
        ]
    )
    assert abs(values.mean() - 0.505) < 4 * math.sqrt(1 / 12 / 200)
    assert abs((values <= 0.1).mean() - 0.1) < 4 * math.sqrt(0.09 / 200)


def test_a_chain_in_its_order_is_judged_by_its_autocorrelation():
    energy, rho, runs = as_energy(lambda x: 0.5 * x.square()), 0.6, 60
    rejected = {0.5: 0, 0.03: 0}
    for _ in range(runs):
        noise = torch.randn(800, dtype=DOUBLE).numpy()
        x = lfilter([math.sqrt(1 - rho**2)], [1.0, -rho], noise)[200:]
        for change in rejected:
            found = kernel_stein_discrepancy(
                energy, x, scale=1.0, num_bootstraps=39, change_probability=change
            )
            rejected[change] += found.p_value <= 0.05
    most = 0.05 * runs + 4 * math.sqrt(runs * 0.05 * 0.95)
    # Taken for independent, draws of the chain look wrong.
    assert rejected[0.5] > most >= rejected[0.03]


def test_what_is_no_draw_is_found_out():
    energy = gaussian()
    x = energy.exact_sample((300,))
    for wrong in (
        x + 0.5,
        1.4 * (x - energy.loc) + energy.loc,
        0.6 * (x - energy.loc) + energy.loc,
    ):
        found = kernel_stein_discrepancy(energy, wrong.numpy())
        assert found.p_value == 1 / 501
        assert found.u_statistic > 0.0
    ising = Ising.lattice((4, 4), coupling=torch.tensor(0.3))
    cold = ising.exact_sample((300,), temperature=0.5)
    if cold is None:
        cold = (2 * torch.randint(2, (300, 4, 4)) - 1).float()
    assert kernel_stein_discrepancy(ising, cold).p_value == 1 / 501


def test_one_generator_repeats_a_test():
    x = torch.randn(1500, 2)
    runs = [
        kernel_stein_discrepancy(
            as_energy(lambda x: 0.5 * x.square().sum(), event_shape=(2,)),
            x,
            num_bootstraps=20,
            generator=torch.Generator().manual_seed(2),
        )
        for _ in range(2)
    ]
    assert runs[0].scale == runs[1].scale
    assert torch.equal(runs[0].bootstrapped, runs[1].bootstrapped)


@pytest.mark.parametrize(
    ("energy", "rows", "options", "said"),
    [
        (gaussian(), torch.zeros(1, 2), {}, "at least 2 samples"),
        (gaussian(), torch.zeros(4, 2), {"scale": -1.0}, "positive, finite scale"),
        (gaussian(), torch.zeros(4, 2), {"change_probability": 0.9}, "change_probability"),
        (gaussian(), torch.zeros(4, 2), {"num_bootstraps": 0}, "num_bootstraps"),
        (gaussian(), torch.zeros(4, 2), {"temperature": torch.ones(2)}, "one temperature"),
        (lambda x: x.detach().sum(), torch.zeros(4, 2), {}, "no gradient path"),
        (lambda x: x.abs().sqrt().sum(), torch.zeros(4, 2), {}, "score is finite, got 4 of 4"),
    ],
)
def test_what_cannot_be_judged_is_refused(energy, rows, options, said):
    with pytest.raises(ValueError, match=said):
        kernel_stein_discrepancy(energy, rows, **options)


def test_a_support_with_a_border_is_refused():
    energy = as_energy(lambda x: x, support=constraints.positive)
    with pytest.raises(ValueError, match="on all real numbers or a discrete one"):
        kernel_stein_discrepancy(energy, torch.rand(9) + 0.1)
    hard = as_energy(lambda x: 1e5 * x.sum(), event_shape=(3,), support=constraints.boolean)
    with pytest.raises(ValueError, match="score is finite"):
        kernel_stein_discrepancy(hard, torch.ones(9, 3))
