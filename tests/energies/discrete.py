"""The catalogue of discrete energies, small enough that all their configurations can be listed."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from pyro_ebm.energies import (
    RBM,
    BoltzmannMachine,
    Energy,
    ExponentialRandomGraph,
    Hopfield,
    Ising,
    Potts,
    as_energy,
    clamp,
    spin,
    states_of,
)

tensor = partial(torch.tensor, dtype=torch.float64)


class Case(NamedTuple):
    """One discrete energy under the laws.

    Attributes:
        name: the id of the test.
        make: builds the energy; `Case.energy` does so under a fixed seed, in float64.
        blocks: how many blocks its sites fall into; None where no interactions are told.
    """

    name: str
    make: Callable[[], Energy]
    blocks: int | None

    @property
    def energy(self) -> Energy:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.make().double()

    def points(self, n: int) -> Tensor:
        """n configurations [n, *event], the same at each call."""
        generator = torch.Generator().manual_seed(1)
        states = states_of(self.energy.support)
        assert states is not None
        index = torch.randint(len(states), (n, *self.energy.event_shape), generator=generator)
        return states.double()[index]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def symmetric(n: int) -> Tensor:
    upper = normal(n, n).triu(1)
    return upper + upper.mT


def isolated(graph: Tensor) -> Tensor:
    """A statistic of the user's own: how many nodes have no edge."""
    return (graph.sum(-1) == 0).sum(-1)


def parity(x: Tensor) -> Tensor:
    """An energy that knows nothing of itself: a product over all spins."""
    return 0.7 * x.prod()


MASK = torch.eye(3, dtype=torch.bool)
CASES = [
    Case("ising-dense", lambda: Ising(symmetric(6), normal(6)), 6),
    Case("ising-square", lambda: Ising.lattice((3, 4), field=0.3), 4),
    Case("ising-even", lambda: Ising.lattice((4, 2), coupling=tensor([0.5, -1.0])), 2),
    Case("ising-free", lambda: Ising.lattice((3, 3), field=normal(3, 3), periodic=False), 2),
    Case("ising-bonds", lambda: Ising.lattice((3, 3), coupling=normal(2, 3, 3)), None),
    Case("ising-cube", lambda: Ising.lattice((2, 2, 3), coupling=0.4), 4),
    Case("ising-ring", lambda: Ising.lattice((8,), coupling=-0.7, field=0.1), 2),
    Case("ising-line", lambda: Ising.lattice((1, 5), periodic=False), 2),
    Case("ising-independent", lambda: Ising(torch.zeros(4, 4), tensor([0.1, 0.2, -1.0, 2.0])), 1),
    Case("hopfield", lambda: Hopfield(normal(2, 7).sign(), 0.1), None),
    Case("boltzmann", lambda: BoltzmannMachine(symmetric(6), normal(6)), 6),
    Case("potts-dense", lambda: Potts(symmetric(4), 3, fields=normal(4, 3)), 4),
    Case("potts-square", lambda: Potts.lattice((3, 2), 3, coupling=0.8), None),
    Case("potts-free", lambda: Potts.lattice((2, 3), 3, fields=normal(3), periodic=False), 2),
    Case("potts-ring", lambda: Potts.lattice((6,), 4, coupling=-0.5), 2),
    Case("rbm", lambda: RBM(normal(3, 4), normal(3), normal(4)), 2),
    Case("rbm-tempered", lambda: RBM(normal(3, 4), 0.5) / 0.8, 2),
    Case("rbm-marginal", lambda: RBM(normal(5, 4), normal(5), normal(4)).marginal(), None),
    Case("rbm-marginal-cold", lambda: RBM(normal(5, 4), normal(5)).marginal(0.4), None),
    Case("graph-edges", lambda: ExponentialRandomGraph(4, edges=tensor(-0.5)), 1),
    Case(
        "graph",
        lambda: ExponentialRandomGraph(5, edges=tensor(-1.0), two_stars=0.1, triangles=0.5),
        None,
    ),
    Case("graph-triangles", lambda: ExponentialRandomGraph(4, triangles=tensor(0.7)), 3),
    Case(
        "graph-own",
        lambda: ExponentialRandomGraph(
            4, edges=tensor(-0.5), statistics=[(isolated, 0.8), (torch.linalg.det, -0.2)]
        ),
        None,
    ),
    Case("clamped", lambda: clamp(Ising.lattice((3, 3), field=normal(3, 3)), MASK, 1.0), None),
    Case("clamped-potts", lambda: clamp(Potts(symmetric(4), 3), [1], tensor([2.0])), 3),
    Case("parity", lambda: as_energy(parity, event_shape=(4,), support=spin), None),
    Case("ising-and-parity", lambda: Ising.lattice((4,)) + parity, None),
    Case("two-isings", lambda: Ising.lattice((6,)) + 2.0 * Ising(symmetric(6)), 6),
]


def over(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test on each of some cases, under their names."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])
