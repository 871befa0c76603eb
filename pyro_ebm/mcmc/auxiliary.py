"""Data drawn from a model at proposed parameters, for the exchange algorithm.

A draw at theta' is exact where all configurations of an event can be listed; else it is the end of
a Markov chain that begins at the observed data, which is right in the limit of a long one. From
there the bridge to theta goes on: at each of K densities between the two the chain makes one
transition. These have to be reversible, or in pairs with their reverse: sweeps of Gibbs go up or
down through the blocks, which is drawn anew for every bridge. Continuous data are drawn by
:mod:`.auxiliary_reals`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.target.auxiliary import AuxiliarySite
from pyro_ebm.target.observed_energy import ObservedEnergy

from .discrete import drawn

# Data that chains may begin at, of any kind, and where units have states.
RANDOM = "random data"
_FIRST, _LAST = "data all in the first state", "data all in the last state"
# Blocks that one recorded piece of a sweep draws.
_PIECE = 16


class StateDraws(NamedTuple):
    """How discrete data are drawn: exactly from a list, or by ``sweeps`` from the observed ones;
    then over ``bridges`` densities to the present parameters. ``batch`` chains are evaluated at a
    time, all unless given."""

    site: AuxiliarySite
    sweeps: int
    bridges: int
    listed: bool
    batch: int | None = None

    @property
    def uniforms(self) -> int:
        """How many uniform numbers of a chain a draw and its bridge take."""
        first = self.site.rows if self.listed else self.sweeps * self.uniforms_of_sweep
        return first + 1 + self.bridges * self.uniforms_of_sweep

    @property
    def uniforms_of_sweep(self) -> int:
        """How many of them a sweep takes."""
        return self.site.dim

    @property
    def starts(self) -> tuple[str, ...]:
        """Names of the data that chains may begin at, elsewhere than at the observed ones."""
        return (RANDOM, _FIRST, _LAST)

    def start(self, name: str, positions: Tensor, uniform: Tensor) -> Tensor:
        """Data of that name, made from uniform numbers [dim, chains]; random if there are none."""
        if name in (_FIRST, _LAST):
            return torch.full_like(uniform, 0 if name == _FIRST else self.site.num_states - 1)
        return (self.site.num_states * uniform).floor()

    def log_ratio(self, new: Tensor, old: Tensor, uniform: Tensor) -> Tensor:
        """The log of an estimate of Z(old) / Z(new), from data drawn at ``new`` [dim, chains]."""
        return in_batches(self._log_ratio, self.batch, new, old, uniform)

    def _log_ratio(self, new: Tensor, old: Tensor, uniform: Tensor) -> Tensor:
        bridge = self.bridges * self.site.dim
        for_draw, for_order, for_bridge = uniform.split([len(uniform) - 1 - bridge, 1, bridge])
        upwards = for_order[0] < 0.5

        def moved(share: Tensor, y: Tensor, numbers: Tensor) -> Tensor:
            return self._swept(_bridged, (new, old, share), y, numbers, upwards=upwards)

        numbers = for_bridge.split(self.site.dim) if bridge else ()
        return over_bridge(self.site, new, old, self.draw(new, for_draw), numbers, moved)

    def draw(self, positions: Tensor, uniform: Tensor) -> Tensor:
        """Data [dim, chains] at positions."""
        if self.listed:
            table = self.site.table(positions).movedim(0, 1)
            return self.site.listed(drawn(table, uniform[: self.site.rows]))
        y = self.site.observed[:, None].expand(-1, positions.shape[1]).contiguous()
        return self.swept(positions, y, uniform)

    def swept(self, positions: Tensor, y: Tensor, uniform: Tensor) -> Tensor:
        """Data after as many sweeps as there are uniform numbers for [sweeps * dim, chains]."""
        upwards = torch.ones(y.shape[1], dtype=torch.bool, device=y.device)
        for numbers in uniform.split(self.site.dim):
            y = self._swept(_alone, (positions,), y, numbers, upwards=upwards)
        return y

    def _swept(
        self,
        piece: Callable,
        at: tuple[Tensor, ...],
        y: Tensor,
        numbers: Tensor,
        *,
        upwards: Tensor,
    ) -> Tensor:
        """Every block once, in the order of their numbers where ``upwards`` [chains], else back."""
        last = self.site.num_blocks - 1
        direction = torch.where(upwards, 1, -1)
        for first in range(0, last + 1, _PIECE):
            block = torch.where(upwards, first, last - first)
            y = self.site.mapped(piece, *at, y, numbers, block, direction)
        return y


def in_batches(
    log_ratio: Callable[[Tensor, Tensor, Tensor], Tensor], size: int | None, *args: Tensor
) -> Tensor:
    """A log ratio [chains] of arguments [..., chains], so many chains at a time."""
    size = args[0].shape[-1] if size is None else size
    parts = zip(*(each.split(size, -1) for each in args), strict=True)
    return torch.cat([log_ratio(*part) for part in parts])


def over_bridge(
    site: ObservedEnergy,
    new: Tensor,
    old: Tensor,
    y: Tensor,
    numbers: Sequence[Tensor],
    moved: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The log of an estimate of Z(old) / Z(new), from data y drawn at ``new``.

    :param numbers: of each density between the two, from ``new`` to ``old``.
    :param moved: of the share that ``old`` has in a density [chains], y, and the numbers the data
        after a reversible transition there.
    """

    def fall(y: Tensor) -> Tensor:
        return site.log_factor(old, y) - site.log_factor(new, y)

    total = fall(y)
    for number, each in enumerate(numbers):
        share = torch.full_like(total, (number + 1) / (len(numbers) + 1))
        y = moved(share, y, each)
        total = total + fall(y)
    return total / (len(numbers) + 1)


def _alone(
    site: AuxiliarySite,
    position: Tensor,
    y: Tensor,
    uniform: Tensor,
    first: Tensor,
    direction: Tensor,
) -> Tensor:
    return _piece(site, site.at(position).conditionals, y, uniform, first, direction)


def _bridged(
    site: AuxiliarySite,
    new: Tensor,
    old: Tensor,
    share: Tensor,
    y: Tensor,
    uniform: Tensor,
    first: Tensor,
    direction: Tensor,
) -> Tensor:
    here, there = site.at(new), site.at(old)

    def conditionals(y: Tensor, block: Tensor) -> Tensor:
        return (1 - share) * here.conditionals(y, block) + share * there.conditionals(y, block)

    return _piece(site, conditionals, y, uniform, first, direction)


def _piece(
    site: AuxiliarySite,
    conditionals: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    uniform: Tensor,
    first: Tensor,
    direction: Tensor,
) -> Tensor:
    """The data [dim] of one chain with some blocks drawn anew; numbers of none draw nothing."""
    blocks = site.blocks.to(y.device)
    for place in range(min(_PIECE, site.num_blocks)):
        block = first + place * direction
        anew = drawn(conditionals(y, block)[..., None], uniform[:, None])[:, 0]
        y = torch.where(blocks == block, anew, y)
    return y
