"""Laws that every energy in the catalogue obeys."""

import copy
import pickle
from statistics import NormalDist

import torch
from torch.autograd import gradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_ebm.energies import Energy, check_values
from tests import oracles

from .catalogue import CASES, STANDARD, Case, over

REAL_UP_TO_TWO = [
    case
    for case in CASES
    if case.energy.event_shape.numel() <= 2
    and "box" not in case.name
    and "mueller" not in case.name
]


@over(CASES)
def test_gradient_equals_finite_differences(case: Case):
    assert gradcheck(case.energy, case.points(3).requires_grad_())


@over(CASES)
def test_a_batch_is_its_rows(case: Case):
    energy, x = case.energy, case.points(6)
    energies = energy(x)
    assert energies.shape == (6,)
    torch.testing.assert_close(torch.stack([energy(row) for row in x]), energies)
    torch.testing.assert_close(energy(x[:1]), energies[:1])
    torch.testing.assert_close(
        energy(x.reshape(2, 1, 3, *energy.event_shape)), energies.reshape(2, 1, 3)
    )
    assert energy(x[:0]).shape == (0,)


@over(CASES)
def test_vmap_and_traces_give_the_same_gradient(case: Case):
    energy, x = case.energy, case.points(4)
    position = x.clone().requires_grad_()
    energies = energy(position)
    (gradient,) = torch.autograd.grad(energies.sum(), position)
    function = torch.func.vmap(torch.func.grad_and_value(energy))
    traced = make_fx(function)(x)
    for run in (function, traced):
        got_gradient, got_energies = run(x)
        torch.testing.assert_close(got_energies, energies)
        torch.testing.assert_close(got_gradient, gradient)


@over(CASES)
def test_energies_are_real_numbers(case: Case):
    energy, x = case.energy, case.points(4)
    check_values(energy(x), x)


@over(CASES)
def test_support_holds_whole_configurations(case: Case):
    energy, x = case.energy, case.points(5)
    assert energy.support.event_dim == len(energy.event_shape)
    assert energy.support.check(x).tolist() == [True] * 5


@over(STANDARD)
def test_dtype_follows_inputs_and_is_never_lowered(case: Case):
    x = case.points(4)
    double, single = case.energy, case.energy.float()
    assert double(x).dtype == torch.float64
    assert single(x.float()).dtype == torch.float32
    assert double.log_normalizer() is None or double.log_normalizer().dtype == torch.float64
    assert single.log_normalizer() is None or single.log_normalizer().dtype == torch.float32
    torch.testing.assert_close(single(x.float()).double(), double(x), rtol=1e-4, atol=1e-4)
    if "mlp" not in case.name:  # a torch net refuses inputs of another dtype, by name
        assert single(x).dtype == torch.float64


@over(CASES)
def test_copies_are_equal(case: Case):
    energy, x = case.energy, case.points(3)
    copies = [copy.deepcopy(energy)]
    if case.name not in ("tilted-function", "function-positive"):  # lambdas do not pickle
        copies.append(pickle.loads(pickle.dumps(energy)))
    for twin in copies:
        assert torch.equal(twin(x), energy(x))
        assert twin.support.check(x).all()
    twin = case.energy
    twin.load_state_dict(energy.state_dict())
    assert torch.equal(twin(x), energy(x))


def quadrature(energy: Energy, temperature: float) -> oracles.Moments:
    def log_density(grid: torch.Tensor) -> torch.Tensor:
        return -energy(grid.reshape(-1, *energy.event_shape)) / temperature

    dim = energy.event_shape.numel()
    rules = [oracles.whole_line] * dim
    return oracles.moments(log_density, rules, n=400 if dim == 1 else 300)


@over([case for case in REAL_UP_TO_TWO if case.energy.log_normalizer() is not None])
def test_normalizer_and_moments_equal_quadrature(case: Case):
    energy = case.energy
    for temperature in case.temperatures:
        log_z = energy.log_normalizer(temperature)
        if log_z is None:
            assert case.name.startswith(("gaussian-mixture", "gaussian-rbm", "mixture"))
            continue
        truth = quadrature(energy, temperature)
        assert float(truth.log_z_error) < 1e-6
        assert oracles.agrees(log_z, truth.log_z, truth.log_z_error)
        mean, variance = energy.mean(temperature), energy.variance(temperature)
        assert oracles.agrees(mean.reshape(-1), truth.mean, truth.mean_error)
        assert oracles.agrees(variance.reshape(-1), truth.variance, truth.variance_error)


KNOWN = [case for case in CASES if case.energy.log_normalizer() is not None]


@over(KNOWN)
def test_a_batch_of_temperatures_is_its_elements(case: Case):
    energy = case.energy
    levels = torch.tensor([[case.temperatures[1]], [1.0]], dtype=torch.float64)
    for answer, event in (
        (energy.log_normalizer, ()),
        (energy.mean, energy.event_shape),
        (energy.variance, energy.event_shape),
    ):
        together = answer(levels)
        assert together.shape == (2, 1, *event)
        torch.testing.assert_close(together[1, 0], answer(1.0))


@over([case for case in KNOWN if case.energy.log_normalizer(1.1) is not None])
def test_the_normalizer_is_differentiable_in_temperature(case: Case):
    temperature = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    assert gradcheck(case.energy.log_normalizer, temperature)


@over([case for case in CASES if case.energy.exact_sample((1,)) is not None])
def test_exact_draws_have_the_exact_moments(case: Case):
    energy = case.energy
    # Normal, two-sided, Bonferroni: a right sampler fails once in a thousand runs of a case.
    figures = 2 * len(case.temperatures) * energy.event_shape.numel()
    bound = NormalDist().inv_cdf(1 - 0.001 / (2 * figures))
    for temperature in case.temperatures:
        draws = energy.exact_sample((20_000,), temperature=temperature)
        if draws is None:
            assert energy.log_normalizer(temperature) is None
            continue
        assert draws.shape == (20_000, *energy.event_shape)
        assert not draws.requires_grad
        mean, mean_error, variance, variance_error = oracles.standard_errors(draws)
        assert ((mean - energy.mean(temperature)).abs() < bound * mean_error).all()
        assert ((variance - energy.variance(temperature)).abs() < bound * variance_error).all()


@over([case for case in CASES if case.energy.exact_sample((1,)) is not None])
def test_exact_draws_repeat_with_their_generator(case: Case):
    energy = case.energy
    state = torch.get_rng_state()
    first, second = (
        energy.exact_sample((2, 3), generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert energy.exact_sample((0,)).shape == (0, *energy.event_shape)
    assert energy.exact_sample().shape == energy.event_shape
