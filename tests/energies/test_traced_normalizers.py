"""log Z is the same where torch maps, differentiates or records: log_prob is never -E/T there.

Each energy is built inside the function, out of the number that is mapped or traced.
"""

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import (
    RBM,
    XY,
    Banana,
    BoltzmannMachine,
    DiagonalGaussian,
    DoubleWell,
    Energy,
    ExponentialRandomGraph,
    Funnel,
    Gaussian,
    GaussianMixtureEnergy,
    GaussianRBM,
    Hopfield,
    Ising,
    Mixture,
    Potts,
    Quartic,
    StudentT,
)

from . import catalogue, discrete

f64 = torch.float64
FULL, RING = torch.ones(4, 4, dtype=f64).fill_diagonal_(0.0), torch.ones(5, dtype=f64)
PATTERNS = torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=f64)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=f64)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=f64)


BUILT: dict[str, Callable[[Tensor], Energy]] = {
    "ising-free": lambda q: Ising(zeros(40, 40), q),
    "ising-dense": lambda q: Ising(q * FULL, 0.1),
    "ising-torus": lambda q: Ising.lattice((30, 30), q),
    "ising-torus-odd": lambda q: Ising.lattice((15, 31), q),
    "ising-torus-axes": lambda q: Ising.lattice((30, 30), torch.stack([q, 0.5 * q])),
    "ising-small": lambda q: Ising.lattice((3, 4), -q),
    "ising-ring": lambda q: Ising.lattice((6,), q, 0.2),
    "ising-ring-odd": lambda q: Ising.lattice((7,), -q),
    "ising-chain": lambda q: Ising.lattice((6,), q, periodic=False),
    "ising-field": lambda q: Ising.lattice((6,), 0.4, q),
    "hopfield": lambda q: Hopfield(PATTERNS, q),
    "boltzmann": lambda q: BoltzmannMachine(q * FULL, q),
    "potts-free": lambda q: Potts(zeros(30, 30), 3, fields=q * PATTERNS[0, :3]),
    "potts-square": lambda q: Potts.lattice((3, 2), 3, q),
    "potts-dense": lambda q: Potts(q * FULL, 3),
    "xy-ring": lambda q: XY.lattice((6,), q),
    "xy-ring-odd": lambda q: XY.lattice((5,), -9.0 * q),
    "xy-chain": lambda q: XY.lattice((6,), q, periodic=False),
    "rbm": lambda q: RBM(q * ones(3, 2), q),
    "rbm-marginal": lambda q: RBM(q * ones(3, 2), q).marginal(),
    "graph-edges": lambda q: ExponentialRandomGraph(16, edges=q),
    "graph": lambda q: ExponentialRandomGraph(4, edges=q, triangles=0.2),
    "gaussian": lambda q: DiagonalGaussian(q * ones(3), q),
    "gaussian-matrix": lambda q: Gaussian(
        q * ones(4), covariance_matrix=q * (FULL + 4 * torch.eye(4, dtype=f64))
    ),
    "gaussian-tril": lambda q: Gaussian(q * ones(2), scale_tril=q * torch.eye(2, dtype=f64)),
    "student": lambda q: StudentT(2.0 + q, q, q * ones(2)),
    "double-well": lambda q: DoubleWell(2, barrier=q, tilt=0.1),
    "quartic": lambda q: Quartic(-q, q, 0.3),
    "banana": lambda q: Banana(scale=q, curvature=q),
    "funnel": lambda q: Funnel(3, scale=q),
    "gaussian-mixture": lambda q: GaussianMixtureEnergy(q * PATTERNS[0], q),
    "gaussian-rbm": lambda q: GaussianRBM(q * ones(3, 2), scale=q),
    "mixture": lambda q: Mixture([DiagonalGaussian(q, 1.0), Quartic(q, 1.0)]),
    "scaled": lambda q: q * Ising.lattice((30, 30)),
    "scaled-rotors": lambda q: q * XY.lattice((6,)),
    "tempered": lambda q: Ising.lattice((30, 30)) / q,
    "marginal-tempered": lambda q: RBM(q * ones(3, 2)).marginal() * 1.0,
}
Log = Callable[[Tensor], Tensor]


def mapped(function: Log, values: Tensor) -> Tensor:
    return torch.func.vmap(function)(values)


def differentiated(function: Log, values: Tensor) -> Tensor:
    return torch.stack([torch.func.grad_and_value(function)(q)[1] for q in values])


def both(function: Log, values: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.grad_and_value(function))(values)[1]


def traced(function: Log, values: Tensor) -> Tensor:
    # While torch.jit records sizes are tensors, of which no declared type knows.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        recording = torch.jit.trace(function, values[1], check_trace=False)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return torch.stack([recording(q) for q in values])


def recorded(function: Log, values: Tensor) -> Tensor:
    recording = make_fx(function)(values[1])
    return torch.stack([recording(q) for q in values])


WAYS = [mapped, differentiated, both, traced, recorded]
TRACERS = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning"
)


@TRACERS
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BUILT)
def test_log_prob_is_that_of_a_plain_call(name, way):
    make, values = BUILT[name], torch.tensor([0.4, 1.3], dtype=f64)
    x = EnergyDistribution(make(values[0])).energy
    x = torch.ones(x.event_shape, dtype=f64)

    def log_prob(q: Tensor) -> Tensor:
        return EnergyDistribution(make(q), validate_args=False).log_prob(x)

    assert all(EnergyDistribution(make(q)).normalized for q in values)
    wanted = torch.stack([log_prob(q) for q in values])
    torch.testing.assert_close(way(log_prob, values), wanted)


KNOWN = [
    case
    for case in (*catalogue.CASES, *discrete.CASES)
    if case.energy.log_normalizer(getattr(case.energy, "temperature", 1.0)) is not None
]


@TRACERS
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", KNOWN, ids=[case.name for case in KNOWN])
def test_log_prob_at_a_temperature_is_that_of_a_plain_call(case, way):
    energy, x = case.energy, case.points(1)[0]
    values = torch.tensor([1.0, 1.1], dtype=f64) * getattr(energy, "temperature", 1.0)
    if way is differentiated:  # looks at values, and refuses where log Z is unknown
        known = [level for level in values if energy.log_normalizer(level) is not None]
        values = torch.stack(known)

    def log_prob(level: Tensor) -> Tensor:
        at = EnergyDistribution(energy, temperature=level, validate_args=False)
        return at.log_prob(x)

    found = way(log_prob, values)
    for level, got in zip(values, found, strict=True):
        if energy.log_normalizer(level) is None:  # unknown, and so is the density
            assert got.isnan()
        else:
            torch.testing.assert_close(got, log_prob(level))


@TRACERS
@pytest.mark.parametrize("way", [mapped, both, traced, recorded])
@pytest.mark.parametrize(
    "make",
    [
        lambda q: Ising.lattice((30, 30), 0.3, q),
        lambda q: XY.lattice((6,), 1.0, q),
        lambda q: Ising(q * ones(20, 20).fill_diagonal_(0.0), 0.1),
    ],
    ids=["torus", "rotors", "couplings"],
)
def test_a_closed_form_that_hangs_on_values_is_refused_where_they_cannot_be_seen(make, way):
    x = torch.ones(make(zeros()).event_shape, dtype=f64)

    def log_prob(q: Tensor) -> Tensor:
        return EnergyDistribution(make(q), validate_args=False).log_prob(x)

    with pytest.raises(ValueError, match="normaliser log Z"):
        way(log_prob, zeros(2))


def test_what_nothing_moves_may_lack_log_z():
    net = torch.nn.Linear(3, 1).double()

    def log_prob(x: Tensor) -> Tensor:
        return EnergyDistribution(net, (3,), validate_args=False).log_prob(x)

    x = ones(2, 3)
    for way in (mapped, differentiated, both, recorded):
        torch.testing.assert_close(way(log_prob, x), log_prob(x))

    def of_level(level: Tensor) -> Tensor:
        at = EnergyDistribution(net, (3,), temperature=level, validate_args=False)
        return at.log_prob(x[0])

    with pytest.raises(ValueError, match=r"what torch\.func differentiates by"):
        both(of_level, ones(2))
