"""Stein's identity for discrete energies: differences in the place of gradients.

Let x+i be x with site i moved to its next state, the last to the first, and x-i with site i moved
back. With s_i(x) = 1 - p(x+i)/p(x) every function f has E[s_i(x) f(x) - (f(x) - f(x-i))] = 0. The
kernel exp(-(number of sites that differ)/scale) gives, for two samples, the sum over sites i of

    u_i(x, y) = s_i(x) s_i(y) k(x, y) - s_i(x) [k(x, y) - k(x, y-i)] - s_i(y) [k(x, y) - k(x-i, y)]
                + 2 k(x, y) - k(x-i, y) - k(x, y-i),

for moving both back leaves k as it is. Moving one changes the number by one at most, so that all of
it is products of matrices of indicators.

Source: Yang, Liu, Rao, Neville (2018), Goodness-of-fit testing for discrete distributions via Stein
discrepancy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.energies import Energy, changes_by_enumeration
from pyro_ebm.energies.changes import checked_states

from .rows import check_scores


class DifferenceStein:
    """u(x, y) = sum_i u_i(x, y) of samples of a discrete energy.

    :param energy: on a support of finitely many states, at least two.
    :param x: samples [n, *event] within it.
    :param temperature: T.
    :param scale: of the kernel; the number of sites for None.
    :param chunk_size: how many samples are evaluated at once.
    :raises ValueError: a support without states that can be listed; samples at which the density of
        a neighbour is beyond all numbers.
    """

    def __init__(
        self, energy: Energy, x: Tensor, temperature: float, scale: float | None, chunk_size: int
    ) -> None:
        states = checked_states(energy, x)
        if len(states) < 2:
            raise ValueError(f"expected sites of at least two states, got {energy.support}.")
        n = len(x)
        indicator = x.reshape(n, -1, 1) == states
        with torch.no_grad():
            parts = [_changes(energy, part) for part in x.split(chunk_size)]
        changes = torch.cat(parts).reshape(n, -1, len(states)).double()
        following = changes[indicator.roll(1, -1)].reshape(n, -1)
        self.scores = 1 - (-following / temperature).exp()
        check_scores("samples", self.scores)
        sites = indicator.shape[1]
        self.scale = float(sites) if scale is None else scale
        self.here = indicator.double()
        self.before = indicator.roll(-1, -1).double()

    def block(self, left: slice, right: slice) -> Tensor:
        here, there = self.here[left], self.here[right]
        sx, sy = self.scores[left], self.scores[right]
        agree = _product(here, there)
        k = ((agree - here.shape[1]) / self.scale).exp()
        # By what part of k a move changes it: where two sites agree they do not any more, and
        # where they are one state apart they do.
        parting, meeting = -math.expm1(-1 / self.scale), -math.expm1(1 / self.scale)
        # [k - k(x, y-i)] / k and [k - k(x-i, y)] / k, summed over i with weights of x or of y.
        moved_y = _moved(here, there, self.before[right], 1 - sx, parting, meeting)
        moved_x = _moved(there, here, self.before[left], 1 - sy, parting, meeting).mT
        return k * (sx @ sy.mT + moved_y + moved_x)


def _moved(
    fixed: Tensor, moving: Tensor, moved: Tensor, weights: Tensor, parting: float, meeting: float
) -> Tensor:
    weighted = fixed * weights.unsqueeze(-1)
    return parting * _product(weighted, moving) + meeting * _product(weighted, moved)


def _product(first: Tensor, second: Tensor) -> Tensor:
    return first.flatten(1) @ second.flatten(1).mT


def _changes(energy: Energy, x: Tensor) -> Tensor:
    known = energy.energy_changes(x)
    return changes_by_enumeration(energy, x) if known is None else known
