"""Families of energies with known parameters, from which exact data can be drawn."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pyro_ebm as ebm
from pyro_ebm.learning.exact_likelihood import all_configurations


class Precision(ebm.Energy):
    """1/2 (x - m)' L L' (x - m): a Gaussian by its mean and a root of its precision."""

    def __init__(self, mean, root):
        super().__init__((len(mean),))
        self.mean_of, self.root = nn.Parameter(mean.clone()), nn.Parameter(root.clone())

    def forward(self, x):
        return 0.5 * ((x - self.mean_of) @ self.root.tril()).square().sum(-1)

    def log_normalizer(self, temperature=1.0):
        dim = len(self.mean_of)
        return 0.5 * dim * math.log(2 * math.pi) - self.root.diagonal().abs().log().sum()

    def exact_sample(self, shape=(), *, temperature=1.0, generator=None):
        with torch.no_grad():
            noise = torch.randn(*shape, len(self.mean_of), generator=generator)
            return self.mean_of + noise @ torch.linalg.inv(self.root.tril())


class TwoBumps(ebm.Energy):
    """A mixture of two unit Gaussians on the line, by the means and the log odds."""

    def __init__(self, means, log_odds):
        super().__init__(())
        self.means, self.log_odds = nn.Parameter(means.clone()), nn.Parameter(log_odds.clone())

    def forward(self, x):
        share = torch.stack([self.log_odds, -self.log_odds]).log_softmax(0)
        return -(share - 0.5 * (x[:, None] - self.means).square()).logsumexp(-1)

    def log_normalizer(self, temperature=1.0):
        return 0.5 * math.log(2 * math.pi) + 0.0 * self.log_odds


class Lattice(ebm.Energy):
    """An Ising model on a torus, by its one coupling and its one field."""

    def __init__(self, coupling, field, shape=(4, 4)):
        super().__init__((shape[0] * shape[1],), support=ebm.spin)
        self.coupling, self.field = nn.Parameter(coupling.clone()), nn.Parameter(field.clone())
        self.shape = shape

    def forward(self, x):
        s = x.reshape(-1, *self.shape)
        bonds = (s * s.roll(1, 1) + s * s.roll(1, 2)).sum((1, 2))
        return -self.coupling * bonds - self.field * x.sum(-1)


class Case(NamedTuple):
    energy: ebm.Energy
    data: Tensor


def draws_by_list(energy, number, generator):
    """Exact draws of a small discrete energy from the list of its configurations."""
    every = all_configurations(energy)
    with torch.no_grad():
        share = (-energy(every)).softmax(0)
    return every[torch.multinomial(share, number, True, generator=generator)]


def gaussian(number, generator):
    root = torch.tensor([[1.2, 0.0, 0.0], [-0.5, 0.8, 0.0], [0.3, 0.4, 1.5]])
    mean = torch.tensor([0.5, -1.0, 0.2])
    noise = torch.randn(number, 3, generator=generator)
    return Case(Precision(mean, root), mean + noise @ torch.linalg.inv(root))


def bumps(number, generator):
    means, log_odds = torch.tensor([-1.5, 2.0]), torch.tensor(0.3)
    share = torch.stack([log_odds, -log_odds]).softmax(0)
    which = torch.multinomial(share, number, True, generator=generator)
    return Case(TwoBumps(means, log_odds), means[which] + torch.randn(number, generator=generator))


def lattice(number, generator):
    energy = Lattice(torch.tensor(0.25), torch.tensor(0.1))
    return Case(energy, draws_by_list(energy, number, generator))


def machine(number, generator):
    # The same machine at every call.
    fixed = torch.Generator().manual_seed(7)
    weights = 1.5 * torch.randn(8, 4, generator=fixed)
    visible = -0.5 * weights.sum(1) + 0.3 * torch.randn(8, generator=fixed)
    hidden = -0.5 * weights.sum(0) + 0.3 * torch.randn(4, generator=fixed)
    rbm = ebm.RBM(nn.Parameter(weights), nn.Parameter(visible), nn.Parameter(hidden))
    energy = rbm.marginal()
    return Case(energy, energy.exact_sample((number,), generator=generator))


FAMILIES = {"gaussian": gaussian, "mixture": bumps, "ising_4x4": lattice, "rbm_8x4": machine}
