"""Training energies: sums of losses over weights, tempered beside their prior."""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_ebm import (
    MCMC,
    NUTS,
    CommitteeMachine,
    CrossEntropy,
    Examples,
    Hinge,
    Logistic,
    Perceptron,
    PerceptronLoss,
    SquaredError,
    TrainingEnergy,
    UniformSpins,
    ZeroOne,
    exact_enumeration,
)
from pyro_ebm.energies import changes_by_enumeration

MARGIN_LOSSES = {
    "zero-one": (ZeroOne(), lambda m: 1.0 if m <= 0 else 0.0),
    "logistic": (Logistic(), lambda m: math.log1p(math.exp(-m))),
    "hinge": (Hinge(), lambda m: max(0.0, 1.0 - m)),
    "perceptron": (PerceptronLoss(), lambda m: max(0.0, -m)),
}


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def labelled(num_examples: int, num_inputs: int) -> Examples:
    return Examples(torch.randn(num_examples, num_inputs), torch.randn(num_examples).sign())


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_the_energy_is_the_sum_of_the_losses_of_the_margins(name: str):
    loss, of_margin = MARGIN_LOSSES[name]
    examples = labelled(6, 5)
    energy = TrainingEnergy(Perceptron(5), loss, examples)
    weights = torch.randn(3, 5)
    for found, w in zip(energy(weights), weights, strict=True):
        margins = examples.targets * (examples.inputs @ w) / math.sqrt(5)
        assert float(found) == pytest.approx(sum(of_margin(float(m)) for m in margins))


def test_any_network_is_a_function_of_its_flat_weights():
    network, inputs, classes = net(), torch.randn(7, 3), torch.randint(2, (7,))
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])
    wanted = nn.functional.cross_entropy(network(inputs), classes, reduction="sum")
    for loss in (CrossEntropy(), nn.CrossEntropyLoss(reduction="none")):
        energy = TrainingEnergy(network, loss, (inputs, classes))
        assert float(energy(flat)) == pytest.approx(float(wanted.detach()))
    torch.testing.assert_close(energy.outputs(flat[None], inputs)[0], network(inputs))
    named = energy.parameters_of(flat)
    torch.testing.assert_close(named["2.bias"], network[2].bias.detach())


def test_a_temperature_weighs_the_examples_and_leaves_the_prior():
    energy = TrainingEnergy(Perceptron(4), SquaredError(), (torch.randn(5, 4), torch.randn(5)))
    w = torch.randn(3, 4)
    prior = dist.Normal(0.0, 1.0).expand([4]).to_event(1)
    torch.testing.assert_close(energy.at(0.5)(w), energy(w) / 0.5 - prior.log_prob(w))


@pytest.mark.parametrize("network", [Perceptron(6), CommitteeMachine(3, 3)], ids=repr)
@pytest.mark.parametrize("loss", [ZeroOne(), PerceptronLoss()], ids=repr)
def test_what_single_weights_change_is_what_energies_say(network: nn.Module, loss):
    size = network.num_inputs * network.num_hidden
    energy = TrainingEnergy(
        network, loss, labelled(8, network.num_inputs), prior=UniformSpins(size)
    )
    w = UniformSpins(size).sample((4,))
    wanted = changes_by_enumeration(energy, w)
    torch.testing.assert_close(energy.energy_changes(w), wanted)
    torch.testing.assert_close(energy.at(0.5).energy_changes(w), 2.0 * wanted)


def test_margins_of_exactly_nought_count_as_errors():
    """Binary weights and inputs of an even number: many sums are 0, and stay whole numbers."""
    weights, inputs = UniformSpins(8).sample((20,)), UniformSpins(8).sample((10,))
    energy = TrainingEnergy(Perceptron(8), ZeroOne(), (inputs, torch.ones(10)), UniformSpins(8))
    assert bool((weights @ inputs.T == 0).any())
    assert torch.equal(energy(weights), (weights @ inputs.T <= 0).sum(1).double())
    assert torch.equal(energy.energy_changes(weights), changes_by_enumeration(energy, weights))


def test_what_is_no_number_is_an_error():
    assert ZeroOne()(torch.tensor([math.nan, 1.0]), torch.ones(2)).tolist() == [1.0, 0.0]


def test_whole_numbers_are_inputs_of_perceptrons():
    whole, targets = torch.randint(-1, 2, (5, 4)), torch.ones(5)
    weights = torch.randn(3, 4)
    found, wanted = (
        TrainingEnergy(Perceptron(4), ZeroOne(), (inputs, targets))(weights)
        for inputs in (whole, whole.double())
    )
    assert torch.equal(found, wanted)


def test_log_z_of_binary_weights_is_the_mean_over_all_of_them():
    energy = TrainingEnergy(Perceptron(7), ZeroOne(), labelled(9, 7), prior=UniformSpins(7))
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=7)))
    wanted = (-energy(every) / 0.4).exp().mean().log()
    assert float(exact_enumeration(energy.at(0.4)).log_z) == pytest.approx(float(wanted))


def test_nuts_finds_the_gaussian_that_a_linear_perceptron_has():
    inputs, targets = torch.randn(12, 6), torch.randn(12)
    energy = TrainingEnergy(Perceptron(6), SquaredError(), (inputs, targets))
    precision = torch.eye(6) + inputs.T @ inputs / (6 * 0.3)
    wanted = torch.linalg.solve(precision, inputs.T @ targets / (math.sqrt(6) * 0.3))
    mcmc = MCMC(NUTS(energy.at(0.3)), num_samples=100, num_chains=32, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["x"]
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    assert float(((draws.mean(0) - wanted) / sd).abs().max()) < 4 / math.sqrt(800)
    assert float((draws.std(0) / sd - 1).abs().max()) < 0.1


def test_float32_weights_keep_their_type():
    torch.set_default_dtype(torch.float32)
    energy = TrainingEnergy(net(), CrossEntropy(), (torch.randn(5, 3), torch.randint(2, (5,))))
    assert energy(energy.prior.sample((2,))).dtype == torch.float32


GOOD = (torch.randn(4, 3), torch.tensor([1.0, -1.0, 1.0, 1.0]))
REFUSED = {
    "no module": (lambda: TrainingEnergy(lambda x: x, ZeroOne(), GOOD), TypeError, "nn.Module"),
    "no parameters": (lambda: TrainingEnergy(nn.Tanh(), ZeroOne(), GOOD), ValueError, "weights"),
    "dropout": (
        lambda: TrainingEnergy(nn.Sequential(net(), nn.Dropout(0.5)), CrossEntropy(), GOOD),
        ValueError,
        "eval",
    ),
    "batch norm": (
        lambda: TrainingEnergy(nn.Sequential(net(), nn.BatchNorm1d(2)), CrossEntropy(), GOOD),
        ValueError,
        "eval",
    ),
    "labels of 0 and 1": (
        lambda: TrainingEnergy(Perceptron(3), ZeroOne(), (GOOD[0], torch.tensor([0.0, 1, 1, 0]))),
        ValueError,
        "2 \\* labels - 1",
    ),
    "targets of another number": (
        lambda: TrainingEnergy(Perceptron(3), SquaredError(), (GOOD[0], torch.randn(5))),
        ValueError,
        "same P",
    ),
    "targets of another shape": (
        lambda: TrainingEnergy(Perceptron(3), SquaredError(), (GOOD[0], torch.randn(4, 1))),
        ValueError,
        "targets \\[P\\]",
    ),
    "outputs with an axis too many": (
        lambda: TrainingEnergy(nn.Linear(3, 1), SquaredError(), (GOOD[0], torch.randn(4))),
        ValueError,
        "Flatten",
    ),
    "a loss that sums": (
        lambda: TrainingEnergy(Perceptron(3), nn.MSELoss(), GOOD),
        ValueError,
        "one number for each",
    ),
    "classes as numbers": (
        lambda: TrainingEnergy(net(), CrossEntropy(), (GOOD[0], torch.rand(4))),
        ValueError,
        "long",
    ),
    "a class too many": (
        lambda: TrainingEnergy(net(), CrossEntropy(), (GOOD[0], torch.tensor([0, 1, 2, 0]))),
        ValueError,
        "below 2",
    ),
    "a prior of another size": (
        lambda: TrainingEnergy(Perceptron(3), ZeroOne(), GOOD, prior=UniformSpins(4)),
        ValueError,
        "3 weights",
    ),
    "a prior on another support": (
        lambda: TrainingEnergy(
            Perceptron(3), ZeroOne(), GOOD, prior=dist.Exponential(1.0).expand([3]).to_event(1)
        ),
        ValueError,
        "real numbers",
    ),
    "no prior": (
        lambda: TrainingEnergy(Perceptron(3), ZeroOne(), GOOD, prior=1.0),
        TypeError,
        "distribution",
    ),
    "temperature 0": (
        lambda: TrainingEnergy(Perceptron(3), ZeroOne(), GOOD).at(0.0),
        ValueError,
        "positive",
    ),
    "inputs that are not finite": (
        lambda: TrainingEnergy(Perceptron(3), ZeroOne(), (GOOD[0] * math.nan, GOOD[1])),
        ValueError,
        "finite inputs",
    ),
    "a target that is not finite": (
        lambda: TrainingEnergy(Perceptron(3), SquaredError(), (GOOD[0], GOOD[1] * math.inf)),
        ValueError,
        "finite targets",
    ),
    "inputs of another width": (
        lambda: TrainingEnergy(Perceptron(4), ZeroOne(), GOOD),
        ValueError,
        "that Perceptron takes",
    ),
    "whole numbers as inputs of a net": (
        lambda: TrainingEnergy(
            net(), CrossEntropy(), (torch.ones(4, 3).int(), torch.ones(4).long())
        ),
        ValueError,
        "that Sequential takes",
    ),
    "an even committee": (lambda: CommitteeMachine(3, 2), ValueError, "odd"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused(name: str):
    make, error, said = REFUSED[name]
    with pytest.raises(error, match=said):
        make()
