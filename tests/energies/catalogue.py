"""The catalogue of energies: every law runs over all of them, and so do the kernels' laws.

Each case makes its energy afresh, in float64. `case.energy.exact_sample` gives exact draws where
it is not None; `temperatures` are those at which the density is normalisable.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, biject_to, constraints

from pyro_ebm.energies import (
    XY,
    Banana,
    ClassifierEnergy,
    DiagonalGaussian,
    DoubleWell,
    Energy,
    Funnel,
    Gaussian,
    GaussianMixtureEnergy,
    GaussianRBM,
    LennardJones,
    Mixture,
    MLPEnergy,
    MuellerBrown,
    Phi4,
    ProductOfExperts,
    Quartic,
    StudentT,
    Tilted,
    as_energy,
    clamp,
)

tensor = partial(torch.tensor, dtype=torch.float64)
COVARIANCE = ((2.0, 0.6), (0.6, 0.5))
WEIGHTS = ((1.0, -0.5, 2.0), (0.3, 1.2, -0.7))
TRIANGLE = ((1.2, 0.0), (-0.4, 0.7))


class Case(NamedTuple):
    """One energy under the laws.

    Attributes:
        name: the id of the test.
        make: builds the energy; `Case.energy` does so under a fixed seed, in float64.
        temperatures: where its integrals are compared with quadrature.
    """

    name: str
    make: Callable[[], Energy]
    temperatures: tuple[float, ...] = (0.4, 1.0, 2.5)

    @property
    def energy(self) -> Energy:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.make().double()

    def points(self, n: int) -> Tensor:
        """n configurations [n, *event], the same at each call."""
        generator = torch.Generator().manual_seed(1)
        support = self.energy.support
        shape = biject_to(support).inverse_shape((n, *self.energy.event_shape))
        return biject_to(support)(torch.randn(shape, generator=generator, dtype=torch.float64))


def net(*widths: int) -> nn.Sequential:
    """A small smooth net."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def normal_base(*shape: int) -> Independent:
    """A broad Gaussian base over events of a shape."""
    zeros = torch.zeros(shape, dtype=torch.float64)
    return Independent(Normal(zeros, zeros + 2.0), len(shape))


def waves(x: Tensor) -> Tensor:
    """A function of one configuration of two numbers."""
    return torch.cos(3 * x[0]) * x[1] + 0.5 * x.square().sum()


STANDARD = [
    Case("gaussian-1d", lambda: DiagonalGaussian(tensor(0.5), 1.3)),
    Case("gaussian-diagonal", lambda: DiagonalGaussian(tensor([0.5, -1.0]), tensor([0.3, 2.0]))),
    Case("gaussian-matrix", lambda: DiagonalGaussian(tensor([[0.0] * 3, [1.0] * 3]), 0.7)),
    Case(
        "gaussian-covariance",
        lambda: Gaussian(tensor([1.0, -2.0]), covariance_matrix=tensor(COVARIANCE)),
    ),
    Case(
        "gaussian-precision",
        lambda: Gaussian(tensor([1.0, -2.0]), precision_matrix=tensor(COVARIANCE)),
    ),
    Case(
        "gaussian-tril",
        lambda: Gaussian(tensor([1.0, -2.0]), scale_tril=tensor(TRIANGLE)),
    ),
    # At T = 1.4, nu(T) = (9 + 1)/1.4 - 1 = 6.1 (1-d) and 5.9 (2-d): two moments exist.
    Case("student-1d", lambda: StudentT(tensor(9.0), 1.0, 0.5), (0.4, 1.0, 1.4)),
    Case(
        "student-diagonal",
        lambda: StudentT(9.0, tensor([1.0, 0.0]), tensor([0.5, 2.0])),
        (0.4, 1.0, 1.4),
    ),
    Case(
        "student-tril",
        lambda: StudentT(9.0, tensor([1.0, 0.0]), scale_tril=tensor(TRIANGLE)),
        (0.4, 1.0, 1.4),
    ),
    Case("double-well-1d", lambda: DoubleWell(1)),
    Case("double-well-2d", lambda: DoubleWell(2, barrier=tensor([1.0, 2.0]), tilt=0.3)),
    Case("double-well-32d", lambda: DoubleWell(32, barrier=2.0, minimum=1.5)),
    Case("quartic", lambda: Quartic(tensor(-2.0), 1.5, 0.4)),
    Case("quartic-sites", lambda: Quartic(tensor([-3.0, 1.0]), tensor([1.0, 0.0]), 0.5)),
    Case("phi4-ring", lambda: Phi4.lattice((8,), quadratic=tensor(-1.0))),
    Case("phi4-square", lambda: Phi4.lattice((3, 2), quadratic=tensor(-2.0), tilt=0.1)),
    Case("banana", lambda: Banana(curvature=tensor(0.7), loc=0.3, scale=1.2, width=0.6)),
    Case("funnel-mild", lambda: Funnel(2, scale=tensor(0.8))),
    Case("funnel-10d", lambda: Funnel(10, scale=tensor(1.0)), (0.8, 1.0, 1.25)),
    Case("mueller-brown", lambda: MuellerBrown() / 15.0),
    Case(
        "gaussian-mixture",
        lambda: GaussianMixtureEnergy(
            tensor([[-1.5, 0.0], [1.0, 1.0], [0.0, -2.0]]),
            tensor([[0.5, 0.5], [0.7, 0.3], [0.4, 0.4]]),
            log_weights=tensor([0.0, 1.0, -0.5]),
        ),
    ),
    Case(
        "gaussian-mixture-tril",
        lambda: GaussianMixtureEnergy(
            tensor([[-1.5, 0.0], [1.0, 1.0]]), scale_tril=tensor(TRIANGLE)
        ),
    ),
    Case("gaussian-mixture-1d", lambda: GaussianMixtureEnergy(tensor([-2.0, 1.0]), 0.5)),
    Case("gaussian-rbm", lambda: GaussianRBM(tensor(WEIGHTS), 0.3, tensor(-0.2), scale=0.8)),
    Case("gaussian-rbm-1d", lambda: GaussianRBM(tensor(WEIGHTS)[:1], scale=tensor([1.5]))),
    Case("xy-ring", lambda: XY.lattice((4,), coupling=tensor(0.7))),
    Case("xy-chain", lambda: XY.lattice((3,), coupling=tensor(-1.2), periodic=False)),
    Case("xy-square", lambda: XY.lattice((3, 2), field=tensor(0.3))),
    Case("lennard-jones", lambda: LennardJones(3, confinement=tensor(0.5))),
    Case("mlp", lambda: MLPEnergy((2,), (8, 8))),
    Case("mlp-scalar", lambda: MLPEnergy((), (4,), confinement=1.0)),
    Case("mlp-matrix", lambda: MLPEnergy((2, 3), (8,), activation=nn.Tanh)),
]

COMPOSED = [
    Case("double-well-tempered", lambda: DoubleWell(2, tilt=tensor(0.2)) / 0.5),
    Case("gaussian-scaled", lambda: 3.0 * DiagonalGaussian(tensor([0.5, -1.0]), 0.8)),
    Case("product", lambda: DoubleWell(2) + DiagonalGaussian(tensor([0.5, 0.0]), 2.0)),
    Case("product-of-three", lambda: ProductOfExperts([DoubleWell(2), waves, Banana()])),
    Case(
        "mixture",
        lambda: Mixture(
            [DiagonalGaussian(tensor([-2.0, 0.0]), 0.5), Banana(curvature=0.5, loc=tensor(1.0))],
            log_weights=tensor([0.0, 0.7]),
        ),
    ),
    Case("tilted-net", lambda: Tilted(net(2, 8, 1), normal_base(2))),
    Case("tilted-function", lambda: Tilted(lambda x: torch.cos(2 * x), normal_base())),
    Case("clamped", lambda: clamp(Phi4.lattice((4,), tilt=tensor(0.2)), [0, 2], 0.5)),
    Case("clamped-box", lambda: clamp(MuellerBrown() / 25.0, [1], tensor([0.5]))),
    Case("classifier", lambda: ClassifierEnergy(net(2, 8, 3), event_shape=(2,)) + waves),
    Case("function", lambda: as_energy(waves, event_shape=(2,))),
    Case(
        "function-positive",
        lambda: as_energy(lambda x: x - torch.log(x), support=constraints.positive),
    ),
    Case("net-on-box", lambda: as_energy(net(2, 8, 1), event_shape=(2,), support=BOX)),
]

BOX = constraints.interval(-1.0, 2.0)
CASES = STANDARD + COMPOSED


def over(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test on each of some cases, under their names."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])
