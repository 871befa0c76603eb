"""Small discrete models whose every configuration can be written down, and exact draws of them."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.energies import Energy
from pyro_ebm.energies.states import spin
from pyro_ebm.target import Target


class PlainIsing(Energy):
    """E = -1/2 s'Js - h's, with the changes and the interactions that it knows."""

    def __init__(self, coupling: Tensor, field: Tensor) -> None:
        super().__init__((len(field),), support=spin)
        self.register_buffer("coupling", coupling)
        self.register_buffer("field", field)

    def forward(self, x: Tensor) -> Tensor:
        return -0.5 * ((x @ self.coupling) * x).sum(-1) - x @ self.field

    def energy_changes(self, x: Tensor) -> Tensor:
        local = x @ self.coupling + self.field
        return -torch.stack([-1.0 - x, 1.0 - x], -1) * local[..., None]

    @property
    def interactions(self) -> Tensor:
        return self.coupling.triu(1).nonzero()


class Cubic(Energy):
    """Three-body terms over {0, 1}, whose changes are known to nobody: a gradient is a guess."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__((len(weights),), support=constraints.boolean)
        self.register_buffer("weights", weights)

    def forward(self, x: Tensor) -> Tensor:
        near = x * x.roll(1, -1) * x.roll(2, -1)
        return -(near @ self.weights) + (x.sum(-1) - 2.0).square() / 4


class Levels(Energy):
    """Sites of three levels in a row that like to be equal, in a field."""

    def __init__(self, sites: int) -> None:
        super().__init__((sites,), support=constraints.integer_interval(0, 2))
        self.register_buffer("field", torch.linspace(-0.6, 0.7, sites))

    def forward(self, x: Tensor) -> Tensor:
        apart = (x[..., 1:] - x[..., :-1]).square().sum(-1)
        return 0.6 * apart + (x * self.field).sum(-1)

    @property
    def interactions(self) -> Tensor:
        first = torch.arange(self.event_shape[0] - 1)
        return torch.stack([first, first + 1], -1)


class Rows(Energy):
    """One-hot rows with a coupling between neighbours."""

    def __init__(self, sites: int, states: int) -> None:
        support = constraints.independent(constraints.one_hot, 1)
        super().__init__((sites, states), support=support)
        matrix = torch.randn(states, states, generator=torch.Generator().manual_seed(1))
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        return -((x[:, :-1] @ self.matrix) * x[:, 1:]).sum((-1, -2))


def glass(sites: int, *, scale: float = 0.5, seed: int = 0) -> PlainIsing:
    """A spin glass on all pairs, in random fields."""
    generator = torch.Generator().manual_seed(seed)
    upper = scale * torch.randn(sites, sites, generator=generator).triu(1)
    return PlainIsing(upper + upper.T, 0.3 * torch.randn(sites, generator=generator))


def ring(sites: int, *, coupling: float = 0.4, field: float = 0.2) -> PlainIsing:
    """A ferromagnetic ring in a field."""
    shift = torch.eye(sites).roll(1, 0)
    return PlainIsing(coupling * (shift + shift.T), torch.full((sites,), field))


class Table(NamedTuple):
    """All configurations of a target as positions [rows, dim], with their probabilities [rows]."""

    target: Target
    positions: Tensor
    probabilities: Tensor

    def draws(self, number: int) -> Tensor:
        """Exact draws [dim, number]."""
        chosen = torch.multinomial(self.probabilities, number, replacement=True)
        return self.positions[chosen].T.contiguous().to(self.target.dtype)

    def counts(self, positions: Tensor) -> Tensor:
        """How often each configuration is among positions [dim, n]."""
        states = self.target.num_states
        assert states is not None
        place = states ** torch.arange(self.target.dim - 1, -1, -1, dtype=torch.double)
        row = (positions.double().T @ place).long()
        return torch.bincount(row, minlength=len(self.positions))

    def mean(self, values: Tensor) -> Tensor:
        """The expectation of values [rows, ...]."""
        return torch.einsum("r,r...->...", self.probabilities, values.double())


def table_of(target: Target) -> Table:
    """Enumerate a target."""
    states = target.num_states
    assert states is not None
    rows = torch.tensor(list(itertools.product(range(states), repeat=target.dim)))
    positions = rows.to(target.dtype)
    log_density = torch.cat(
        [target.evaluate(piece).log_density for piece in positions.split(4096)]
    ).double()
    return Table(target, positions, log_density.softmax(0))
