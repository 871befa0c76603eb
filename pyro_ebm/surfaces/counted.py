"""log Z over a box from estimated numbers of configurations at every level of an energy.

Where E(x; theta) = E_0(x) + sum_k theta_k s_k(x), log Z(theta) is a sum over the levels (E_0, s) of
how many configurations g have them, times exp(-E/T). Draws of a pool of states, read as draws of
their mixture m, estimate g as N_level / (N m), and log Z at every theta follows, kinks included.
Draws of a state count for as much as they are worth beside independent ones. The error is that of
leaving out one independent ladder of the pool after the other.

Source: Kumar, Bouzida, Swendsen, Kollman, Rosenberg (1992), The weighted histogram analysis method
for free-energy calculations on biomolecules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.annealing.multistate import log_mixture, log_normalizers

from .box import Box, Check, at_params, together
from .grid import Grid
from .linear import levels_among, log_z_of_levels
from .replicas import Pool, multipliers

# Levels of draws that never repeat: so many of them are kept.
_MOST_LEVELS = 2**14


class CountedSurface(NamedTuple):
    """log Z over a box, a function f(*params, temperature) for ``log_normalizer=``.

    ``statistics`` [levels, 1 + d] are E_0 and the s_k of every level, ``log_counts`` [levels] the
    estimated logarithms of how many configurations have them, and ``without_one`` [ladders, levels]
    those that all ladders but one give. Outside of the box log Z is infinite, so that the density
    is zero there: a prior should not have mass there that matters. ``max_error`` is the largest
    standard error within the box, ``check`` compares ladders that began alike with all others,
    ``reliable`` is whether all checks were passed, ``why`` a sentence.
    """

    box: Box
    statistics: Float[Tensor, "levels k"]
    log_counts: Float[Tensor, " levels"]
    without_one: Float[Tensor, "ladders levels"]
    check: Check
    reliable: bool
    why: str

    def __call__(self, *params_and_temperature: Tensor | float) -> Tensor:
        """log Z [*batch] of params [*batch] each, and last of all the temperature.

        :raises TypeError: another number of params.
        :raises ValueError: another temperature than that of the surface.
        """
        point = self.box.point(params_and_temperature)
        value = self._sums(point.double(), self.log_counts)
        return torch.where(self.box.holds(point.double()), value, torch.inf).to(point.dtype)

    def at(self, *params: Tensor | float) -> Callable[..., Tensor]:
        """The function of the temperature for an energy that is built from params, and takes none:
        ``EnergyDistribution(Ising.lattice(shape, j), log_normalizer=surface.at(j))``."""
        return at_params(self, params)

    def std_error(self, *params: Tensor | float) -> Tensor:
        """The standard error of log Z less that at the middle of the box, all that a posterior
        feels; infinite outside."""
        point = together(params).double()
        apart = self._sums(point, self.without_one)
        middle = self._sums(self.box.middle, self.without_one)
        apart = apart - middle.reshape(-1, *[1] * (apart.dim() - 1))
        ladders = len(self.without_one)
        error = (apart - apart.mean(0)).square().sum(0).mul((ladders - 1) / ladders).sqrt()
        return torch.where(self.box.holds(point), error, torch.inf)

    @property
    def max_error(self) -> float:
        """The largest standard error at a grid of points of the box."""
        return float(self.std_error(*self.box.grid().unbind(-1)).max())

    def __str__(self) -> str:
        return self.box.said(self.max_error, self.why, reliable=self.reliable)

    def _sums(self, point: Tensor, log_counts: Tensor) -> Tensor:
        """log Z at points [*batch, d], of log counts [*ways, levels]."""
        temperature = torch.tensor(self.box.temperature).to(point)
        return log_z_of_levels(self.statistics, log_counts, [*point.unbind(-1)], temperature)


class Levels(NamedTuple):
    """The levels of a pool: ``statistics`` [levels, k], how many draws have met them ``counts``
    [levels], ``log_counts`` [levels], and these of all ladders but one [ladders, levels]."""

    statistics: Tensor
    counts: Tensor
    log_counts: Tensor
    without_one: Tensor


def levels_of(pool: Pool, grid: Grid, temperature: float, log_states: float) -> Levels:
    """Count what a pool has met; NaN where its states do not overlap.

    :param log_states: the log of how many configurations there are.
    """
    chosen = multipliers(grid, temperature)
    worth = 1 / _inefficiency(pool.statistics)
    shares = torch.cat([torch.tensor([float(pool.uniform.shape[1])]).double(), worth])
    shares = shares / shares.sum()
    draws = torch.cat([pool.uniform, pool.statistics], 1)
    worth = torch.cat([torch.ones(pool.uniform.shape[1]).double(), worth])
    statistics, counts = _counted(draws, worth)
    if len(statistics) > _MOST_LEVELS:
        every = math.ceil(draws[..., 0].numel() / _MOST_LEVELS)
        statistics, counts = _counted(draws[::every], worth)
    ladders = counts.shape[1]
    log_f = torch.cat([statistics.new_zeros(1, len(statistics)), -chosen @ statistics.T])
    log_z = log_normalizers(log_f, shares, _along_scales(pool, grid, chosen), counts.sum(1))

    def log_counts(counts: Tensor, first: Tensor) -> Tensor:
        found = log_normalizers(log_f, shares, first, counts)
        mixture = log_mixture(log_f, shares, found)
        return (counts / counts.sum()).log() - mixture + log_states

    total = counts.sum(1)
    if not bool(log_z.isfinite().all()):
        nothing = torch.full_like(counts, math.nan)
        return Levels(statistics, total, nothing[:, 0], nothing.T)
    without = [log_counts(total - counts[:, ladder], log_z) for ladder in range(ladders)]
    return Levels(statistics, total, log_counts(total, log_z), torch.stack(without))


def _inefficiency(statistics: Tensor) -> Tensor:
    """How many draws of a state are worth one independent one [states]: what the variance from
    ladder to ladder is beside that of draws. Where two phases are alike a state seldom changes,
    and its many draws say little of how much each of them weighs."""
    sweeps = len(statistics)
    between = sweeps * statistics.mean(0).var(1)
    among_draws = statistics.transpose(1, 2).flatten(0, 1).var(0)
    return (between / among_draws.clamp(min=1e-12)).amax(-1).clamp(min=1.0)


def _counted(draws: Tensor, worth: Tensor) -> tuple[Tensor, Tensor]:
    """Levels among draws [sweeps, states, ladders, k], and how often each ladder has met them, a
    draw of each state for what it is worth [states]."""
    statistics, which = levels_among(draws.reshape(-1, draws.shape[-1]))
    number, ladders = len(statistics), draws.shape[2]
    ladder = torch.arange(ladders).expand(draws.shape[:3]).reshape(-1)
    weights = worth[:, None].expand(draws.shape[:3]).reshape(-1)
    counts = (which * ladders + ladder).bincount(weights, minlength=number * ladders)
    return statistics, counts.reshape(number, ladders).double()


def _along_scales(pool: Pool, grid: Grid, chosen: Tensor) -> Tensor:
    """log Z of all states, less that at s = 0, by integrals along s of the means."""
    rungs, nodes = len(grid.scales), len(grid.nodes)
    means = pool.statistics.mean((0, 2)).reshape(rungs, nodes, -1)
    first = pool.uniform.mean((0, 1, 2)).expand(1, nodes, -1)
    means = torch.cat([first, means])
    at = chosen.reshape(rungs, nodes, -1)
    at = torch.cat([torch.zeros_like(at[:1]), at])
    steps = -0.5 * ((at[1:] - at[:-1]) * (means[1:] + means[:-1])).sum(-1)
    return torch.cat([steps.new_zeros(1), steps.cumsum(0).reshape(-1)])
