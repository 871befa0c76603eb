"""The algebra of energies is that of numbers, and what it passes on is proved."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, constraints

from pyro_ebm.energies import (
    Banana,
    ClassifierEnergy,
    DiagonalGaussian,
    DoubleWell,
    Gaussian,
    GaussianMixtureEnergy,
    Mixture,
    MuellerBrown,
    ProductOfExperts,
    StudentT,
    Tilted,
    as_energy,
    clamp,
)
from pyro_ebm.energies.supports import same_support
from tests import oracles

DOUBLE = torch.float64


@pytest.fixture
def x():
    return torch.randn(5, 2, dtype=DOUBLE)


def test_sums_and_multiples_are_pointwise(x):
    first, second = DoubleWell(2).double(), Banana().double()
    torch.testing.assert_close((first + second)(x), first(x) + second(x))
    torch.testing.assert_close(sum([first, second, first])(x), 2 * first(x) + second(x))
    torch.testing.assert_close((2.5 * first)(x), 2.5 * first(x))
    torch.testing.assert_close((first * -0.5)(x), -0.5 * first(x))
    torch.testing.assert_close((-first)(x), -first(x))
    torch.testing.assert_close((first / 0.3)(x), first(x) / 0.3)
    truth = first(x) + torch.sin(x).sum(-1)
    torch.testing.assert_close((first + (lambda v: torch.sin(v).sum()))(x), truth)
    torch.testing.assert_close(((lambda v: torch.sin(v).sum()) + first)(x), truth)


def test_params_reach_the_terms_that_take_them(x):
    spring = as_energy(lambda v, k: k * v.square().sum(), event_shape=(2,))
    both = 2.0 * (spring + DoubleWell(2).double())
    k = torch.rand(5, dtype=DOUBLE)
    torch.testing.assert_close(both(x, k), 2 * (k * x.square().sum(-1) + DoubleWell(2)(x)))


def test_temperature_and_scale_are_one_thing():
    well = DoubleWell(2, tilt=torch.tensor(0.3, dtype=DOUBLE))
    for known in ("log_normalizer", "mean", "variance"):
        torch.testing.assert_close(getattr(well / 0.5, known)(3.0), getattr(well, known)(1.5))
        torch.testing.assert_close(getattr(4.0 * well, known)(3.0), getattr(well, known)(0.75))
        assert getattr(-1.0 * well, known)() is None
        assert getattr(0.0 * well, known)() is None
    assert (-1.0 * well).exact_sample((2,)) is None


def test_an_integer_tensor_is_a_number():
    well = DoubleWell(2)
    x = torch.randn(3, 2)
    torch.testing.assert_close((torch.tensor(2) * well)(x), 2 * well(x))
    torch.testing.assert_close((well / torch.tensor(2))(x), well(x) / 2)
    with pytest.raises(TypeError, match=r"factor to be real.*bool"):
        torch.tensor(True) * well


LEARNED = {
    "temperature": lambda p: DiagonalGaussian() / p(2.0),
    "factor": lambda p: DiagonalGaussian() * p(2.0),
    "scale": lambda p: DiagonalGaussian(0.0, p(2.0)),
    "scale_tril": lambda p: Gaussian(torch.zeros(2), scale_tril=p([[1.0, 0.0], [0.3, 2.0]])),
    "scale-student": lambda p: StudentT(5.0, scale_tril=p([[1.0, 0.0], [0.3, 2.0]])),
    "scale-mixture": lambda p: GaussianMixtureEnergy(
        torch.zeros(1, 2), scale_tril=p([[1.0, 0.0], [0.3, 2.0]])
    ),
    "log_weights": lambda p: GaussianMixtureEnergy(
        torch.tensor([-1.0, 1.0]), log_weights=p([0.3, 0.7])
    ),
    "log_weights-mixture": lambda p: Mixture(
        [DiagonalGaussian(), DiagonalGaussian(1.0)], p([0.3, 0.7])
    ),
    "values": lambda p: clamp(DiagonalGaussian(torch.zeros(3)), [0, 2], p(2.0)),
    "lower": lambda p: MuellerBrown(lower=p([-2.0, -1.0])),
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_parameter_stays_one_and_moves_the_energy(name):
    def parameter(value):
        return nn.Parameter(torch.tensor(value))

    energy = LEARNED[name](parameter)
    (learned,) = energy.parameters()
    x = torch.randn(3, *energy.event_shape)
    for twin in (energy, copy.deepcopy(energy)):
        (moved,) = twin.parameters()
        assert moved.requires_grad
        with torch.no_grad():
            moved.mul_(0.9)
        fresh = LEARNED[name](lambda value, moved=moved: moved.detach())
        torch.testing.assert_close(twin(x), fresh(x))
        assert same_support(twin.support, fresh.support)
    if name != "lower":
        for _ in range(2):  # what is kept between calls must not hold a graph
            (gradient,) = torch.autograd.grad(energy(x).sum(), learned)
            assert bool(gradient.ne(0).any())


def test_the_normalizer_of_a_traced_scale_is_known_where_it_is_positive():
    well = DoubleWell(1).double()

    def log_z(c):
        return (c * well).log_normalizer()

    scales = torch.tensor([0.5, 2.0, -1.0], dtype=DOUBLE)
    got = torch.func.vmap(log_z)(scales)
    torch.testing.assert_close(got[:2], torch.stack([log_z(c) for c in scales[:2]]))
    assert got[2].isnan()


def test_products_are_flat_and_promise_nothing():
    well = DoubleWell(2)
    product = well + well + ProductOfExperts([well])
    assert len(product.experts) == 3
    assert product.log_normalizer() is None


def test_a_mixture_adds_densities(x):
    parts = [DoubleWell(2).double(), Banana().double()]
    log_weights = torch.tensor([0.3, -1.0], dtype=DOUBLE)
    density = sum(w.exp() * (-e(x)).exp() for w, e in zip(log_weights, parts, strict=True))
    torch.testing.assert_close(Mixture(parts, log_weights)(x), -density.log())
    halves = sum(0.5 * (-e(x)).exp() for e in parts)
    torch.testing.assert_close(Mixture(parts)(x), -halves.log())
    assert Mixture(parts).log_normalizer(2.0) is None
    assert Mixture(parts).log_normalizer(torch.tensor(2.0)) is None
    assert Mixture([parts[0], lambda v: v.square().sum()]).log_normalizer() is None


def test_a_mixture_of_normalised_gaussians_is_the_gaussian_mixture(x):
    locs = torch.randn(3, 2, dtype=DOUBLE)
    parts = [DiagonalGaussian(loc, 0.7) for loc in locs]
    log_weights = torch.tensor([0.1, -0.7, 0.4], dtype=DOUBLE)
    shares = log_weights.log_softmax(0)
    masses = torch.stack([part.log_normalizer() for part in parts])
    mixture, closed = (
        Mixture(parts, shares - masses),
        GaussianMixtureEnergy(locs, 0.7, log_weights=log_weights),
    )
    torch.testing.assert_close(mixture(x), closed(x))
    for known in ("log_normalizer", "mean", "variance"):
        torch.testing.assert_close(getattr(mixture, known)(), getattr(closed, known)())


@pytest.mark.parametrize("known", ["log_normalizer", "mean", "variance"])
def test_a_mixture_is_known_at_one_under_vmap_too(known):
    parts = [DiagonalGaussian(torch.zeros(2)), DiagonalGaussian(torch.ones(2), 2.0)]
    levels = torch.tensor([1.0, 2.0])
    for mixture in (Mixture(parts), GaussianMixtureEnergy(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))):
        got = torch.func.vmap(getattr(mixture, known))(levels)
        torch.testing.assert_close(got[0], getattr(mixture, known)())
        assert got[1].isnan().all()


@pytest.mark.parametrize("validate", [True, False, None])
def test_tilting_multiplies_the_base(x, validate):
    base = Independent(
        Normal(torch.zeros(2, dtype=DOUBLE), 2.0, validate_args=validate), 1, validate_args=validate
    )
    well = DoubleWell(2).double()
    tilted = Tilted(well, base)
    torch.testing.assert_close(tilted(x), well(x) - base.log_prob(x))
    torch.testing.assert_close(torch.func.vmap(tilted)(x), tilted(x))
    assert base._validate_args is not False or validate is False


def test_tilting_takes_support_and_shape_from_the_base():
    base = torch.distributions.Dirichlet(torch.ones(3))
    tilted = Tilted(nn.Linear(3, 1), base)
    assert tilted.event_shape == (3,)
    assert tilted.support is constraints.simplex or tilted.support.event_dim == 1
    draws = base.sample((4,))
    torch.testing.assert_close(
        tilted(draws), tilted.energy.net(draws).squeeze(-1) - base.log_prob(draws)
    )


def test_tilting_restricts_an_energy_of_all_real_numbers_and_widens_none():
    inside = as_energy(lambda v: v, support=constraints.positive)
    Tilted(inside, torch.distributions.Gamma(2.0, 1.0))  # 0, where they differ, has no mass
    restricted = Tilted(
        DoubleWell(1), Independent(torch.distributions.Gamma(torch.ones(1), 1.0), 1)
    )
    assert restricted.support.check(torch.tensor([[-1.0], [1.0]])).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"one support.*GreaterThan.*Real.*as_energy"):
        Tilted(inside, Normal(0.0, 1.0))
    Tilted(as_energy(inside, support=constraints.real), Normal(0.0, 1.0))


def test_clamping_holds_coordinates(x):
    energy = DoubleWell(2).double() + (lambda v: v[0] * v[1])
    held = clamp(energy, [1], torch.tensor([0.7], dtype=DOUBLE))
    assert held.event_shape == (1,)
    free = x[:, :1]
    torch.testing.assert_close(held.merge(free), torch.cat([free, torch.full_like(free, 0.7)], 1))
    torch.testing.assert_close(held(free), energy(held.merge(free)))
    torch.testing.assert_close(held.free(held.merge(free)), free)


def test_clamping_by_mask_index_and_negative_index_agree():
    energy = DiagonalGaussian(torch.arange(4.0))
    values = torch.tensor([5.0, 6.0])
    x = torch.randn(3, 2)
    mask = torch.tensor([False, True, False, True])
    by_mask = clamp(energy, mask, values)
    for held in ([1, 3], (1, -1), torch.tensor([1, 3])):
        torch.testing.assert_close(clamp(energy, held, values)(x), by_mask(x))
    torch.testing.assert_close(clamp(energy, [3, 1], values.flip(0))(x), by_mask(x))
    matrix = as_energy(lambda v: v[0, 0] + 10 * v[1, 1], event_shape=(2, 2))
    corner = clamp(matrix, torch.tensor([[True, False], [False, False]]), 3.0)
    assert corner(torch.tensor([0.0, 0.0, 1.0])).item() == 13.0


def test_a_clamped_gaussian_is_its_conditional():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=DOUBLE)
    held = clamp(
        Gaussian(torch.zeros(2, dtype=DOUBLE), covariance_matrix=covariance),
        [1],
        torch.tensor([1.5], dtype=DOUBLE),
    )
    truth = oracles.moments(lambda grid: -held(grid), [oracles.whole_line], n=400)
    # Mean S12/S22 x2 and variance S11 - S12^2/S22.
    assert oracles.agrees(
        truth.mean, torch.tensor([0.6 / 0.5 * 1.5], dtype=DOUBLE), truth.mean_error
    )
    assert oracles.agrees(
        truth.variance, torch.tensor([2 - 0.36 / 0.5], dtype=DOUBLE), truth.variance_error
    )


def test_clamping_keeps_the_bounds_of_what_is_free():
    held = clamp(MuellerBrown(), [0], 0.5)
    assert held.support.check(torch.tensor([[3.0], [-1.5]])).tolist() == [True, False]


def test_a_classifier_is_the_sum_over_its_labels(x):
    classifier = nn.Linear(2, 3).double()
    energy = ClassifierEnergy(classifier, event_shape=(2,))
    joint = torch.stack([energy.joint(x, torch.full((5,), y)) for y in range(3)], -1)
    torch.testing.assert_close((-energy(x)).exp(), (-joint).exp().sum(-1))
    torch.testing.assert_close((energy(x).unsqueeze(-1) - joint).exp(), classifier(x).softmax(-1))
    assert energy(x.reshape(5, 1, 2)).shape == (5, 1)


SIMPLEX = as_energy(nn.Linear(3, 1), event_shape=(3,), support=constraints.simplex)
ERRORS = {
    "supports-differ": (
        ValueError,
        lambda: DoubleWell(2) + MuellerBrown(),
        "one support.*as_energy",
    ),
    "shapes-differ": (ValueError, lambda: DoubleWell(2) + DoubleWell(3), r"\(2,\) and \(3,\)"),
    "no-experts": (ValueError, lambda: ProductOfExperts([]), "at least one energy in experts"),
    "learned-covariance": (
        TypeError,
        lambda: Gaussian(torch.zeros(2), covariance_matrix=nn.Parameter(torch.eye(2))),
        "learned to be the scale_tril.*nn.Parameter",
    ),
    "weights-shape": (
        ValueError,
        lambda: Mixture([DoubleWell(2)], torch.zeros(2)),
        r"shape \(1,\).*got shape \(2,\)",
    ),
    "weights-nan": (
        ValueError,
        lambda: Mixture([DoubleWell(2)], torch.tensor([torch.nan])),
        "log_weights below inf",
    ),
    "plus-number": (TypeError, lambda: DoubleWell(2) + 1.0, "unsupported operand"),
    "base-no-distribution": (TypeError, lambda: Tilted(nn.Linear(2, 1), 3.0), "got float"),
    "base-batched": (
        ValueError,
        lambda: Tilted(nn.Linear(2, 1), Normal(torch.zeros(2), 1.0)),
        r"batch shape \(2,\).*to_event\(1\)",
    ),
    "clamp-scalar": (ValueError, lambda: clamp(DiagonalGaussian(), [0], 1.0), "nothing would"),
    "clamp-all": (ValueError, lambda: clamp(DoubleWell(2), [0, 1], 1.0), "all 2 held"),
    "clamp-twice": (ValueError, lambda: clamp(DoubleWell(2), [1, -1], 1.0), "held once"),
    "clamp-out-of-range": (ValueError, lambda: clamp(DoubleWell(2), 2, 1.0), "from -2 to 1"),
    "clamp-float": (TypeError, lambda: clamp(DoubleWell(2), torch.ones(2), 1.0), "mask or integer"),
    "clamp-mask-shape": (
        ValueError,
        lambda: clamp(DoubleWell(2), torch.ones(3, dtype=torch.bool), 1.0),
        r"shape \(2,\), got \(3,\)",
    ),
    "clamp-values": (
        ValueError,
        lambda: clamp(DoubleWell(2), [0], torch.ones(2)),
        r"shape \(1,\).*got \(2,\)",
    ),
    "clamp-simplex": (ValueError, lambda: clamp(SIMPLEX, [0], 0.5), "independent coordinates"),
    "clamp-outside": (ValueError, lambda: clamp(MuellerBrown(), [0], 9.0), "inside the support"),
    "one-logit": (
        ValueError,
        lambda: ClassifierEnergy(nn.Linear(2, 1), event_shape=(2,))(torch.ones(3, 2)),
        r"K >= 2 labels, got \(3, 1\)",
    ),
    "no-classifier": (TypeError, lambda: ClassifierEnergy(len, event_shape=()), "nn.Module, got"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_expected_and_what_came(name):
    kind, act, message = ERRORS[name]
    with pytest.raises(kind, match=f"(?s){message}"):
        act()
