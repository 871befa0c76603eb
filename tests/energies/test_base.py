"""The boundary: what may be an energy, what it sees, what is refused and with which words."""

import pyro.distributions as dist
import pytest
import torch
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_ebm.energies import (
    DiagonalGaussian,
    DoubleWell,
    Energy,
    Gaussian,
    MLPEnergy,
    as_energy,
    as_temperature,
    evaluate,
)


class Recorder(nn.Module):
    """A net that remembers the shapes that it is given."""

    def __init__(self, output: int | None) -> None:
        super().__init__()
        self.output = output
        self.seen: list[torch.Size] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape)
        energy = x.square().flatten(1).sum(-1)
        return energy if self.output is None else energy.unsqueeze(-1).expand(-1, self.output)


@pytest.mark.parametrize("output", [None, 1])
def test_a_net_sees_exactly_one_batch_axis(output):
    net = Recorder(output)
    energy = as_energy(net, event_shape=(3,))
    for batch in ((), (1,), (4,), (2, 5), (2, 1, 3)):
        assert energy(torch.randn(*batch, 3)).shape == batch
    assert [len(shape) for shape in net.seen] == [2] * 5


def test_a_function_sees_one_configuration_and_one_element_of_each_param():
    seen = []

    def function(x: Tensor, k: Tensor) -> Tensor:
        seen.append((x.shape, k.shape))
        return k * x.square().sum()

    energy = as_energy(function, event_shape=(2, 3))
    x, k = torch.randn(5, 2, 3), torch.randn(4, 1)
    torch.testing.assert_close(evaluate(energy, x, (k,)), k * x.square().flatten(1).sum(-1))
    assert seen == [((2, 3), ())]
    torch.testing.assert_close(energy(x[0], 2.0), 2 * x[0].square().sum())


def test_a_vectorized_function_sees_the_batch():
    energy = Energy.from_function(
        lambda x, k: k * x.square().sum(-1), event_shape=(3,), vectorized=True
    )
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(energy(x, torch.tensor(3.0)), 3 * x.square().sum(-1))


def test_a_function_that_branches_on_values_is_looped():
    energy = as_energy(lambda x: x if x > 0 else -2 * x)
    x = torch.tensor([1.0, -1.0, 0.5], requires_grad=True)
    energies = energy(x)
    assert energies.tolist() == [1.0, 2.0, 0.5]
    (gradient,) = torch.autograd.grad(energies.sum(), x)
    assert gradient.tolist() == [1.0, -2.0, 1.0]
    with pytest.raises(RuntimeError, match="data-dependent"):
        torch.func.vmap(energy)(x.detach())


def test_functions_keep_the_provenance_of_what_they_use():
    theta = track_provenance(torch.tensor(2.0), frozenset({"theta"}))
    x = track_provenance(torch.randn(4, 2), frozenset({"x"}))
    energy = as_energy(lambda x: (x / theta).square().sum(), event_shape=(2,)) + DoubleWell(2)
    assert get_provenance(energy(x)) == {"theta", "x"}
    assert get_provenance(MLPEnergy((2,), (3,))(x)) == {"x"}


def test_energies_wrap_nothing_that_they_need_not():
    well = DoubleWell(2)
    assert as_energy(well) is well
    assert as_energy(well, event_shape=(2,), support=constraints.real) is well
    box = as_energy(well, support=constraints.interval(-2.0, 2.0))
    assert box.support.check(torch.tensor([[0.0, 1.0], [0.0, 3.0]])).tolist() == [True, False]
    assert box.log_normalizer() is None
    assert box.exact_sample((3,)) is None


def test_gradients_reach_tensors_that_an_energy_is_made_from():
    scale = torch.tensor(2.0, requires_grad=True)
    energy = DiagonalGaussian(torch.zeros(3), scale)
    x = torch.ones(3)
    (gradient,) = torch.autograd.grad(energy(x) + energy.log_normalizer(), scale)
    # d/ds [3/(2 s^2) + 3 log s] = -3/s^3 + 3/s
    torch.testing.assert_close(gradient, torch.tensor(-3 / 8 + 3 / 2))
    learnable = DiagonalGaussian(nn.Parameter(torch.zeros(3)))
    assert [name for name, _ in learnable.named_parameters()] == ["loc"]


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), nn.BatchNorm1d(2), nn.RReLU()])
def test_layers_in_train_mode_are_refused_by_name(dropout):
    net = nn.Sequential(nn.Linear(2, 2), dropout, nn.Linear(2, 1))
    energy = as_energy(net, event_shape=(2,))
    with pytest.raises(ValueError, match=rf"{type(dropout).__name__} at 'net.1'.*\.eval\(\)"):
        energy(torch.randn(3, 2))
    net.eval()
    assert energy(torch.randn(3, 2)).shape == (3,)


NORM = nn.BatchNorm1d(2)
HALF = nn.Dropout(0.5)


@pytest.mark.parametrize(
    ("function", "vectorized", "layer"),
    [
        (lambda x: NORM(x[None]).sum(), False, "batch_norm"),
        (lambda x: NORM(x).sum(-1), True, "batch_norm"),
        (lambda x: HALF(x).sum(), False, "dropout"),
        (lambda x: HALF(x).sum(-1), True, "dropout"),
    ],
)
def test_layers_in_train_mode_are_refused_by_name_behind_a_function(function, vectorized, layer):
    energy = Energy.from_function(function, event_shape=(2,), vectorized=vectorized)
    with pytest.raises(ValueError, match=rf"a call of {layer} in train mode.*\.eval\(\)"):
        energy(torch.randn(3, 2))
    with pytest.raises(ValueError, match=rf"a call of {layer} in train mode"):
        torch.func.vmap(energy)(torch.randn(4, 3, 2))
    try:
        NORM.eval(), HALF.eval()
        assert energy(torch.randn(3, 2)).shape == (3,)
    finally:
        NORM.train(), HALF.train()


def test_an_energy_that_moves_the_random_stream_is_refused():
    class Jittered(Energy):
        def forward(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(ValueError, match=r"same number for the same x.*draws inside"):
        Jittered()(torch.ones(3))
    state = torch.get_rng_state()
    DoubleWell(2)(torch.ones(3, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_what_captures_a_wide_site_is_told_to_hand_it_over():
    wide = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"a site that the energy captures.*or in params"):
        as_energy(lambda x: x - wide)(torch.ones(3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_function_is_recorded_by_torchscript():
    energy = as_energy(lambda x, k: k * x.square().sum(), event_shape=(2,))
    x, k = torch.randn(3, 2), torch.rand(3)
    recorded = torch.jit.trace(energy, (x, k))
    torch.testing.assert_close(recorded(2 * x, k), energy(2 * x, k))


def vector(function):
    return as_energy(function, event_shape=(2,))


X = torch.ones(3, 2)
ERRORS = {
    "no-callable": (TypeError, lambda: as_energy(3.0), "expected an energy.*got 3.0 of type float"),
    "a-class": (TypeError, lambda: as_energy(DoubleWell), "pass an instance"),
    "a-distribution": (TypeError, lambda: as_energy(dist.Normal(0.0, 1.0)), "whose call draws"),
    "int-event-shape": (
        TypeError,
        lambda: as_energy(len, event_shape=3),
        r"sequence of sizes such as \(3,\), got 3",
    ),
    "no-support": (TypeError, lambda: as_energy(len, support="real"), "constraint.*got 'real'"),
    "dependent-support": (
        TypeError,
        lambda: as_energy(len, support=constraints.dependent),
        "instance of a distribution",
    ),
    "wide-support": (
        ValueError,
        lambda: as_energy(len, support=constraints.simplex),
        r"event_shape is \(\).*spans 1",
    ),
    "other-event-shape": (
        ValueError,
        lambda: as_energy(DoubleWell(2), event_shape=(3,)),
        r"expected event_shape \(2,\).*got \(3,\)",
    ),
    "x-no-tensor": (TypeError, lambda: DoubleWell(2)([1.0, 2.0]), "x to be a tensor, got list"),
    "x-shape": (
        ValueError,
        lambda: DoubleWell(2)(torch.ones(5, 3)),
        r"event shape \(2,\) of DoubleWell, got x of shape \(5, 3\)",
    ),
    "x-too-flat": (ValueError, lambda: DoubleWell(2)(torch.ones(())), r"got x of shape \(\)"),
    "params": (
        ValueError,
        lambda: evaluate(DoubleWell(2), X, (1.0,)),
        "function of x alone, got 1",
    ),
    "output-float": (TypeError, lambda: vector(lambda x: 0.0)(X), "real tensor, got float"),
    "output-complex": (
        TypeError,
        lambda: vector(lambda x: x.sum() + 0j)(X),
        r"got torch.complex64.*Return \.real",
    ),
    "output-integer": (
        TypeError,
        lambda: vector(lambda x: x.sum().long())(X),
        "floating-point energies, got torch.int64",
    ),
    "output-boolean": (TypeError, lambda: vector(lambda x: x.sum() > 0)(X), "got torch.bool"),
    "output-not-summed": (
        ValueError,
        lambda: vector(lambda x: x.square())(X),
        r"one number per configuration.*got \(1, 2\).*Sum the energy over",
    ),
    "net-not-summed": (
        ValueError,
        lambda: vector(Recorder(2))(X),
        r"Recorder.*shape \(3,\) or \(3, 1\) for 3 configuration\(s\); got \(3, 2\)",
    ),
    "batch-summed-too": (
        ValueError,
        lambda: Energy.from_function(lambda x: x.square().sum(), event_shape=(2,), vectorized=True)(
            X[:1]
        ),
        r"shape \(1,\).*got \(\).*over no other",
    ),
    "random": (
        ValueError,
        lambda: vector(lambda x: x.sum() + torch.randn(()))(X),
        "same number for the same x.*draws inside",
    ),
    "random-and-branching": (
        ValueError,
        lambda: vector(lambda x: torch.randn(()) if x.sum() > 0 else x.sum())(X),
        "draws inside",
    ),
    "temperature-zero": (ValueError, lambda: DoubleWell(2) / 0.0, "positive, finite.*got 0.0"),
    "temperature-negative": (
        ValueError,
        lambda: DoubleWell(2) / torch.tensor(-1.0),
        r"got -1.0.*-1.0 \* energy",
    ),
    "temperature-nan": (
        ValueError,
        lambda: DoubleWell(2).log_normalizer(float("nan")),
        "positive, finite.*got nan",
    ),
    "temperature-batch": (
        ValueError,
        lambda: DoubleWell(2) / torch.ones(3),
        r"shape \(3,\).*EnergyDistribution",
    ),
    "temperature-word": (
        TypeError,
        lambda: as_temperature("hot"),
        "real number or tensor, got str",
    ),
    "temperature-does-not-fit": (
        ValueError,
        lambda: DoubleWell(2).exact_sample((5, 2), temperature=torch.ones(3)),
        r"broadcasts to the shape \(5, 2\) of the draws, got \(3,\)",
    ),
    "factor-infinite": (ValueError, lambda: float("inf") * DoubleWell(2), "finite, got inf"),
    "two-matrices": (
        TypeError,
        lambda: Gaussian(torch.ones(2), scale_tril=torch.eye(2), precision_matrix=torch.eye(2)),
        "exactly one.*got 2",
    ),
    "not-positive-definite": (
        ValueError,
        lambda: Gaussian(torch.ones(2), covariance_matrix=torch.ones(2, 2)),
        "positive definite covariance_matrix.*order 2",
    ),
    "not-symmetric": (
        ValueError,
        lambda: Gaussian(torch.ones(2), covariance_matrix=torch.tensor([[1.0, 0.5], [0.0, 1.0]])),
        "symmetric covariance_matrix",
    ),
    "matrix-shape": (
        ValueError,
        lambda: Gaussian(torch.ones(2), scale_tril=torch.eye(3)),
        r"got \(2,\) and \(3, 3\)",
    ),
    "scale-negative": (ValueError, lambda: DiagonalGaussian(0.0, -1.0), "scale to be positive"),
    "scale-shape": (
        ValueError,
        lambda: DiagonalGaussian(torch.ones(2), torch.ones(3)),
        r"broadcast, got loc \(2,\), scale \(3,\)",
    ),
    "dim": (ValueError, lambda: DoubleWell(0), "at least 1, got 0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_expected_and_what_came(name):
    kind, act, message = ERRORS[name]
    with pytest.raises(kind, match=f"(?s){message}"):
        act()
