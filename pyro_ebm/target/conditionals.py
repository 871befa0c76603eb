"""The sampled discrete sites of a model: the distribution of every unit given all the rest.

A log density is a sum of entries: one number for every element of every site's log probability,
and of its log |Jacobian|, which a discrete site changes where it sets a support.
Which units an entry depends on is known from the model's structure (:mod:`.structure`). Units
that share no entry are independent given all others, and make up a block. A whole block is put into
state k at once; what an entry then is belongs to the one unit of the block it depends on:

    log p(unit i = k | rest) = sum of the entries of unit i, its block in state k, + a constant.

So K evaluations give the distributions of a block, however many units it has. An energy that knows
what its single changes do gives its own part of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_ebm.energies import blocks_of

from .program import ModelProgram
from .side import NO_SIDE
from .structure import Structure, structure_of
from .vectorize import RecordedDensity

_CHECKS, _CHECKED_UNITS, _CHECKED_STATES, _CHECK_SEED = 3, 8, 4, 23


class Conditionals:
    """Distributions of the units of sampled sites, block after block.

    Attributes: ``blocks`` [units] the number of the block of each unit, ``num_blocks``,
    ``num_states`` K, the most of any unit.

    :param like: gives the dtype and device of positions.
    :raises ValueError: elements of a plate that are not independent.
    """

    def __init__(self, program: ModelProgram, *, like: Tensor, vectorized: bool) -> None:
        self._program, self._like, self._vectorized = program, like, vectorized
        sites = program.sites[len(program.continuous) :]
        self._continuous = sum(site.size for site in program.continuous)
        states = [len(site.states) for site in sites if site.states is not None]
        sizes = torch.tensor([site.size for site in sites])
        self._last = torch.repeat_interleave(torch.tensor(states), sizes).to(like.device) - 1
        self.num_states = max(states)
        found = structure_of(program, like=like)
        self._structure = found
        units = len(self._last)
        self.blocks: Int[Tensor, " units"] = _blocks(found, units).to(like.device)
        self.num_blocks = int(self.blocks.max()) + 1
        # Where each entry has one unit at most, that does not depend on the block.
        several = bool((torch.bincount(found.entries, minlength=1) > 1).any())
        shape = (self.num_blocks if several else 1, max(1, found.num_entries))
        self._owner = torch.full(shape, units, device=like.device)
        rows = self.blocks[found.units] if several else torch.zeros_like(found.units)
        self._owner[rows, found.entries] = found.units
        self._entries = RecordedDensity(self._evaluated)
        self._check()

    def __call__(
        self, positions: Float[Tensor, "dim chains"], block: Int[Tensor, " chains"]
    ) -> Float[Tensor, "units states chains"]:
        """Log probabilities, up to a constant, of the units of the block of every chain; what is
        given for other units means nothing."""
        first, numbers = positions[: self._continuous], positions[self._continuous :]
        chains = positions.shape[1]
        every = torch.arange(self.num_states, device=positions.device, dtype=positions.dtype)
        inside = self.blocks[:, None] == block
        moved = torch.where(inside[:, None], every[:, None], numbers[:, None])
        moved = torch.minimum(moved, self._last.to(positions.dtype)[:, None, None])
        fixed = first[:, None].expand(-1, self.num_states, -1)
        entries = self._entries(torch.cat([fixed, moved]).flatten(1))
        logits = self._added(entries.unflatten(1, (self.num_states, chains)), block)
        for own in self._structure.closed:
            logits = own.added(logits, numbers)
        beyond = every > self._last.to(every.dtype)[:, None]
        return logits.nan_to_num(-torch.inf, torch.inf).masked_fill(beyond[..., None], -torch.inf)

    def _added(self, entries: Tensor, block: Tensor) -> Tensor:
        """The sums of the entries [entries, K, chains] of each unit of the blocks."""
        units = len(self._last)
        logits = entries.new_zeros(units + 1, *entries.shape[1:])
        if len(self._owner) == 1:
            return logits.index_add(0, self._owner[0], entries)[:units]
        owner = self._owner.index_select(0, block).T
        return logits.scatter_add(0, owner[:, None].expand_as(entries), entries)[:units]

    def recorded_for(self, positions: Float[Tensor, "dim chains"]) -> Callable:
        """The recording that calls for as many chains go through from now on."""
        return self._entries.at(positions.repeat(1, self.num_states))

    def _evaluated(self, positions: Tensor) -> Tensor:
        """The entries [entries, columns] at positions [dim, columns]."""

        def single(position: Tensor) -> Tensor:
            return self._structure.joined(self._program.entries(position)).to(position.dtype)

        with torch.no_grad():
            if self._vectorized:
                # A column a row: what a model computes then lies together.
                return torch.func.vmap(single)(positions.T.contiguous()).T.contiguous()
            return torch.stack([single(position) for position in positions.T], dim=1)

    def _check(self) -> None:
        """Compare with differences of the whole log density, at some units of a few positions."""
        generator = torch.Generator(self._like.device).manual_seed(_CHECK_SEED)
        shape = (self._continuous, _CHECKS)
        unit = torch.rand(shape, generator=generator, device=generator.device).to(self._like)
        states = self._program.random_states(_CHECKS, generator, unit)
        positions = torch.cat([2 * unit - 1, states])
        units = len(self._last)
        for at in torch.linspace(0, units - 1, min(units, _CHECKED_UNITS)).long().tolist():
            given = self(positions, self.blocks[at].expand(_CHECKS))[at]
            states = min(int(self._last[at]) + 1, _CHECKED_STATES)
            moved = positions.repeat(1, states)
            moved[self._continuous + at] = torch.arange(states).repeat_interleave(_CHECKS).to(moved)
            right = self._whole(moved).unflatten(0, (states, _CHECKS))
            given = given[:states]
            scale = 1.0 + right.abs()
            both = right.isfinite().all(0) & given.isfinite().all(0)
            wrong = ((given - given[:1]) - (right - right[:1])).abs() > 1e-3 * scale
            if bool((wrong & both).any()):
                raise ValueError(self._dependent(at))

    def _whole(self, positions: Tensor) -> Tensor:
        def single(position: Tensor) -> Tensor:
            return self._program.run(position, NO_SIDE).log_density

        with torch.no_grad():
            if self._vectorized:
                return torch.func.vmap(single, in_dims=1)(positions)
            return torch.stack([single(position) for position in positions.T])

    def _dependent(self, at: int) -> str:
        for site in self._program.sites[len(self._program.continuous) :]:
            if site.slice.start <= self._continuous + at < site.slice.stop:
                plates = ", ".join(repr(plate.name) for plate in site.plates)
                return (
                    f"The elements of the discrete site {site.name!r} in the plate {plates} are "
                    "not independent given all else: what stands in the plate looks at other "
                    "elements. Take the site, or that statement, out of the plate, or state it as "
                    "an energy_factor outside."
                )
        raise AssertionError


def _blocks(structure: Structure, units: int) -> Tensor:
    """Colour the units so that no two of a block share an entry."""
    alone = torch.arange(units)
    counts = torch.bincount(structure.entries.cpu(), minlength=1)
    if int(counts.max()) >= units:
        return alone
    order = structure.entries.argsort().cpu()
    meeting = structure.units.cpu()[order]
    pairs = [own.pairs.cpu() for own in structure.closed]
    for count in counts.unique().tolist():
        # Those units that the entries of so many depend on, a row an entry.
        inside = counts.index_select(0, structure.entries.cpu()[order]) == count
        rows = meeting[inside].reshape(-1, max(1, count)).sort(-1).values.unique(dim=0)
        first, second = torch.triu_indices(max(1, count), max(1, count), 1)
        pairs.append(torch.stack([rows[:, first], rows[:, second]], -1).reshape(-1, 2))
    pairs = torch.cat(pairs).unique(dim=0)
    found = alone.clone()
    for number, block in enumerate(blocks_of(pairs, units)):
        found[block] = number
    return found
