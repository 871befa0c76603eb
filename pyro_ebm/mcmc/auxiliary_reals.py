"""Continuous data drawn from a model at proposed parameters, for the exchange algorithm.

A draw at theta' is the end of a chain of Hamiltonian transitions from the observed data, in
unconstrained coordinates y. Events are independent, so that each has a step size and an acceptance
of its own. A transition takes a few leapfrog steps of size e = u s, u log-uniform between 0.1
and 1, and s the length of a step over which the slope of log f turns once:

    s^2 |g(x + s v) - g(x - s v)| / (2 s) = 1,  g = d log f / dy,

root mean squares over the event, x its observed data, v a fixed vector of signs. So s depends on
the density but not on where the chain is, and a transition is reversible. Between theta' and theta
the curvature 1 / s^2 goes in a line, as the Hessian does; backwards the path has the same ones.

Source: Neal (2011), MCMC using Hamiltonian dynamics; Mackenzie (1989), An improved hybrid Monte
Carlo method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.target.auxiliary_reals import AuxiliaryReals

from .auxiliary import RANDOM, in_batches, over_bridge

_LEAPS = 8
# The smallest step as a share of the largest.
_SMALLEST = 0.1
# Rounds in which s is found, from 1 on, and the most that one of them changes it by.
_ROUNDS, _MOST = 6, 1e3
# By how much log f may be lower than at the data, for each coordinate, where a chain begins, and
# the halvings of the way there.
_LOWER, _HALVINGS = 10.0, 30
_WIDE = "data three times as wide"


class RealDraws(NamedTuple):
    """How continuous data are drawn: by ``sweeps`` transitions from the observed ones; then over
    ``bridges`` densities to the present parameters. ``batch`` chains are evaluated at a time, all
    unless given."""

    site: AuxiliaryReals
    sweeps: int
    bridges: int
    batch: int | None = None

    @property
    def listed(self) -> bool:
        """Whether draws are exact, which these never are."""
        return False

    @property
    def uniforms(self) -> int:
        """How many uniform numbers of a chain a draw and its bridge take."""
        return (self.sweeps + self.bridges) * self.uniforms_of_sweep

    @property
    def uniforms_of_sweep(self) -> int:
        """How many of them a sweep takes: for momenta, acceptances and step sizes."""
        return self.site.dim + 2 * self.site.rows

    @property
    def starts(self) -> tuple[str, ...]:
        """Names of the data that chains may begin at, elsewhere than at the observed ones."""
        return (RANDOM, _WIDE)

    def start(self, name: str, positions: Tensor, uniform: Tensor) -> Tensor:
        """Data of that name, made from uniform numbers [dim, chains]; random if there are none.

        Events without any weight, where no step would fit, are drawn towards the observed ones.
        """
        y = _normal(uniform) * (3.0 if name == _WIDE else 1.0)
        return self.site.mapped(_with_weight, positions, y)

    def log_ratio(self, new: Tensor, old: Tensor, uniform: Tensor) -> Tensor:
        """The log of an estimate of Z(old) / Z(new), from data drawn at ``new`` [dim, chains]."""
        return in_batches(self._log_ratio, self.batch, new, old, uniform)

    def _log_ratio(self, new: Tensor, old: Tensor, uniform: Tensor) -> Tensor:
        size = self.uniforms_of_sweep
        here, there = self._scale(new), self._scale(old)
        for_draw, for_bridge = uniform.split([self.sweeps * size, self.bridges * size])

        def moved(share: Tensor, y: Tensor, numbers: Tensor) -> Tensor:
            scale = ((1 - share) * here**-2 + share * there**-2).rsqrt()
            return self.site.mapped(_bridged, new, old, share, scale, y, numbers)

        numbers = for_bridge.split(size) if self.bridges else ()
        return over_bridge(self.site, new, old, self.draw(new, for_draw), numbers, moved)

    def draw(self, positions: Tensor, uniform: Tensor) -> Tensor:
        """Data [dim, chains] at positions."""
        y = self.site.observed[:, None].expand(-1, positions.shape[1]).contiguous()
        return self.swept(positions, y, uniform)

    def swept(self, positions: Tensor, y: Tensor, uniform: Tensor) -> Tensor:
        """Data after as many sweeps as there are uniform numbers for."""
        scale = self._scale(positions)
        for numbers in uniform.split(self.uniforms_of_sweep):
            y = self.site.mapped(_alone, positions, scale, y, numbers)
        return y

    def _scale(self, positions: Tensor) -> Tensor:
        """The largest step of every event [rows, chains]."""
        generator = torch.Generator().manual_seed(0)
        sides = torch.randint(2, (self.site.dim, 1), generator=generator, device=generator.device)
        signs = 2.0 * sides - 1.0
        return self.site.mapped(
            _scale, positions, signs.to(positions).expand(-1, positions.shape[1])
        )


def _normal(uniform: Tensor) -> Tensor:
    smallest = torch.finfo(uniform.dtype).eps
    return torch.special.ndtri(uniform.clamp(smallest, 1 - smallest))


def _scale(site: AuxiliaryReals, position: Tensor, signs: Tensor) -> Tensor:
    slope = _slope(site.at(position).by_row)
    x = site.observed
    units = site.dim // site.rows
    scale = x.new_ones(site.rows)
    for _ in range(_ROUNDS):
        step = scale.repeat_interleave(units) * signs
        turn = (slope(x + step) - slope(x - step)).reshape(site.rows, units)
        curvature = turn.square().mean(1).sqrt() / (2 * scale)
        # Half of the way in the logarithm: all of it would overshoot where curvature grows.
        change = (scale * curvature.sqrt()).rsqrt().clamp(1 / _MOST, _MOST)
        change = torch.where(curvature.isfinite(), change, _SMALLEST)
        scale = scale * torch.where(curvature == 0, 1.0, change)
    return scale


def _with_weight(site: AuxiliaryReals, position: Tensor, y: Tensor) -> Tensor:
    by_row, units = site.at(position).by_row, site.dim // site.rows
    least = by_row(site.observed) - _LOWER * units
    for _ in range(_HALVINGS):
        enough = (by_row(y) > least).repeat_interleave(units)
        y = torch.where(enough, y, 0.5 * (y + site.observed))
    return y


def _alone(
    site: AuxiliaryReals, position: Tensor, scale: Tensor, y: Tensor, numbers: Tensor
) -> Tensor:
    return _transition(site, site.at(position).by_row, scale, y, numbers)


def _bridged(
    site: AuxiliaryReals,
    new: Tensor,
    old: Tensor,
    share: Tensor,
    scale: Tensor,
    y: Tensor,
    numbers: Tensor,
) -> Tensor:
    here, there = site.at(new), site.at(old)

    def by_row(y: Tensor) -> Tensor:
        return (1 - share) * here.by_row(y) + share * there.by_row(y)

    return _transition(site, by_row, scale, y, numbers)


def _transition(
    site: AuxiliaryReals,
    by_row: Callable[[Tensor], Tensor],
    scale: Tensor,
    y: Tensor,
    numbers: Tensor,
) -> Tensor:
    """The data [dim] of one chain after a Hamiltonian transition of every event."""
    rows, units = site.rows, site.dim // site.rows
    for_momentum, for_acceptance, for_size = numbers.split([site.dim, rows, rows])
    size = (scale * _SMALLEST ** (1 - for_size)).repeat_interleave(units)
    slope = _slope(by_row)

    def log_joint(y: Tensor, momentum: Tensor) -> Tensor:
        return by_row(y) - 0.5 * momentum.square().reshape(rows, units).sum(1)

    start = _normal(for_momentum)
    momentum, end = start + 0.5 * size * slope(y), y
    for leap in range(_LEAPS):
        end = end + size * momentum
        momentum = momentum + (0.5 if leap == _LEAPS - 1 else 1.0) * size * slope(end)
    # Where either is not a number the comparison is false, and the event stays.
    accept = for_acceptance.log() < log_joint(end, momentum) - log_joint(y, start)
    return torch.where(accept.repeat_interleave(units), end, y)


def _slope(by_row: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return torch.func.grad(lambda y: by_row(y).sum())
