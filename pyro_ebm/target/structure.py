"""Which entries of a log density depend on which units of its sampled discrete sites.

Three sources, each of them sound. What a site's log probability depends on at all is followed
through every operation of the model (:mod:`.dependence`). A plate that two sites share is the
user's word that their elements belong together one by one. And where units lie outside of plates,
one unit after the other is made NaN, which spreads to all that is computed from it
(:mod:`.spread`). Where none of these tells, every entry depends on every unit.

An energy with known ``interactions`` and ``energy_changes`` is no entry: it says itself which units
meet, and what their changes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import pyro
import torch
from torch import Tensor

from pyro_ebm.energies import Energy

from .layout import PlateFrame, Site, split, vectorised_plates
from .program import LOG_DET, ModelProgram
from .side import Side
from .spread import SpreadNaN

# Units that are NaN at once, each in a run of its own.
_CHUNK = 256


class OwnChanges(NamedTuple):
    """An energy that knows what its single changes do, as the prior of one sampled site.

    ``offset`` is the number of the site's first unit among all units, ``pairs`` [m, 2] those units
    that interact.
    """

    energy: Energy
    temperature: Tensor
    site: Site
    offset: int
    pairs: Tensor

    def added(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """Log probabilities [units, K, chains] with those of the energy added."""
        own = slice(self.offset, self.offset + self.site.size)
        values = self.site.value_of(numbers[own].T.unflatten(1, self.site.unconstrained_shape))
        rise = self.energy.energy_changes(values.to(logits.dtype))
        assert rise is not None
        rise = rise.reshape(len(values), self.site.size, -1).permute(1, 2, 0)
        rise = rise / self.temperature
        mine = logits[own]
        mine = torch.cat([mine[:, : rise.shape[1]] - rise, mine[:, rise.shape[1] :]], 1)
        return torch.cat([logits[: own.start], mine, logits[own.stop :]])


class Structure(NamedTuple):
    """Pairs of an entry [m] and a unit [m] that it depends on.

    ``sizes`` has the numbers of entries by site, in their order.
    """

    sizes: dict[str, int]
    entries: Tensor
    units: Tensor
    closed: tuple[OwnChanges, ...]

    @property
    def num_entries(self) -> int:
        """How many there are."""
        return sum(self.sizes.values())

    def joined(self, entries: Mapping[str, Tensor]) -> Tensor:
        """The entries of all sites as one vector; one zero where there are none."""
        parts = [entries[name].reshape(-1) for name in self.sizes]
        like = next(iter(entries.values()))
        return torch.cat(parts) if parts else like.new_zeros(1)


def structure_of(program: ModelProgram, *, like: Tensor) -> Structure:
    """The structure of the sampled sites of a program."""
    sites = program.sites[len(program.continuous) :]
    offsets, total = {}, 0
    for site in sites:
        offsets[site.name] = total
        total += site.size
    with torch.no_grad():
        first = program.entries(torch.zeros(0).new_zeros(_dim(program)).to(like))
    if program.marginalised:
        everything = torch.arange(total, device=like.device)
        return Structure({"": 1}, torch.zeros_like(everything), everything, ())
    behind = _behind(program, list(first))
    nodes = cast(Mapping[str, Any], program.first_trace.nodes)
    closed = tuple(
        own
        for site in sites
        if (own := _own_changes(site, nodes[site.name], behind[site.name], offsets[site.name]))
        is not None
    )
    aside = {own.site.name for own in closed}
    shapes = {
        name: entry.shape
        for name, entry in first.items()
        if name not in aside and behind[name] & offsets.keys()
    }
    seen = _Seen(program, like)
    entries, units, offset = [], [], 0
    for name, shape in shapes.items():
        for site in sites:
            if site.name in behind[name]:
                node = nodes[name.removeprefix(LOG_DET)]
                e, u = _pairs(site, node, shape, seen, name)
                entries.append(e + offset)
                units.append(u + offsets[site.name])
        offset += shape.numel()
    none = torch.zeros(0, dtype=torch.long)
    return Structure(
        {name: shape.numel() for name, shape in shapes.items()},
        torch.cat([none, *entries]).to(like.device),
        torch.cat([none, *units]).to(like.device),
        closed,
    )


def _dim(program: ModelProgram) -> int:
    return sum(site.size for site in program.sites)


def _behind(program: ModelProgram, names: list[str]) -> dict[str, frozenset[str]]:
    """By site the latent sites that its entries depend on; all where that cannot be seen."""
    try:
        return program.entry_parents()
    except Exception:  # vmap raises whatever the model's operations raise
        return dict.fromkeys(names, frozenset(site.name for site in program.sites))


def _own_changes(
    site: Site, node: Mapping[str, Any], parents: frozenset[str], offset: int
) -> OwnChanges | None:
    fn = node["fn"]
    energy = getattr(fn, "energy", None)
    plain = node["mask"] is None and not isinstance(node["scale"], Tensor) and node["scale"] == 1
    if not isinstance(energy, Energy) or not plain or fn.batch_shape or fn.params:
        return None
    # What else it depended on would move its temperature or its normaliser.
    if parents != {site.name} or energy.interactions is None:
        return None
    value = node["value"]
    if energy.energy_changes(value[None].to(torch.get_default_dtype())) is None:
        return None
    temperature = torch.as_tensor(fn.temperature).detach()
    return OwnChanges(energy, temperature, site, offset, energy.interactions + offset)


def _pairs(
    site: Site, node: Mapping[str, Any], shape: torch.Size, seen: _Seen, name: str
) -> tuple[Tensor, Tensor]:
    """Entries and units, numbered within their sites, that belong to each other."""
    depth = len(node["fn"].batch_shape)
    mine = {p: a for p in site.plates if (a := _axis(p, site)) is not None}
    plates = vectorised_plates(node["cond_indep_stack"])
    theirs = {p: depth + p.dim for p in plates if depth + p.dim >= 0}
    theirs = {p: a for p, a in theirs.items() if a < len(shape) and shape[a] == p.size}
    common = [p for p in mine if p in theirs and p.size > 1]
    if not common:
        table = seen.table(site, name)
        if table is not None:
            entries, units = table.nonzero(as_tuple=True)
            return entries.cpu(), units.cpu()
    entry_ids = _ids(shape, [theirs[p] for p in common])
    unit_ids = _ids(site.unconstrained_shape, [mine[p] for p in common])
    entries, units = (entry_ids[:, None] == unit_ids).nonzero(as_tuple=True)
    return entries, units


def _axis(plate: PlateFrame, site: Site) -> int | None:
    axis = len(site.shape) - site.event_dim + plate.dim
    shape = site.unconstrained_shape
    return axis if 0 <= axis < len(shape) and shape[axis] == plate.size else None


def _ids(shape: torch.Size, axes: list[int]) -> Tensor:
    """A number for every element of a shape, equal where it has the same places on some axes."""
    found = torch.zeros(tuple(shape), dtype=torch.long)
    for axis in axes:
        places = torch.arange(shape[axis]).reshape(
            [-1 if a == axis else 1 for a in range(len(shape))]
        )
        found = found * shape[axis] + places
    return found.reshape(-1)


class _Seen:
    """Where NaN in each unit of a site arrives among the entries."""

    def __init__(self, program: ModelProgram, like: Tensor) -> None:
        self._program, self._like = program, like
        self._tables: dict[str, dict[str, Tensor] | None] = {}

    def table(self, site: Site, name: str) -> Tensor | None:
        """Which entries of a site ``name`` depend on which units [entries, units]; None where NaN
        does not tell."""
        if site.name not in self._tables:
            self._tables[site.name] = self._look(site)
        found = self._tables[site.name]
        return None if found is None else found[name]

    def _look(self, site: Site) -> dict[str, Tensor] | None:
        if not site.dtype.is_floating_point or site.size < 2:
            return None
        parts = split(self._program.sites, self._like.new_zeros(_dim(self._program)))
        value = site.value_of(parts[site.name])
        places = torch.arange(site.size, device=value.device)
        units = site.unconstrained_shape

        # All are mapped over, so that none can become a number of Python's, out of sight.
        mapped = {name: part.expand(site.size, *part.shape) for name, part in parts.items()}

        def gone(place: Tensor, parts: dict[str, Tensor]) -> dict[str, Tensor]:
            here = (places == place).reshape(*units, *[1] * (value.dim() - len(units)))
            given = value.masked_fill(here, torch.nan)
            return self._program.entries_of(parts, Side(values={site.name: given}))

        try:
            with torch.no_grad(), pyro.validation_enabled(False), SpreadNaN() as spread:
                found = torch.func.vmap(gone, chunk_size=_CHUNK)(places, mapped)
        except Exception:  # vmap raises whatever the model's operations raise
            return None
        if spread.lost:
            return None
        return {name: entry.isnan().reshape(site.size, -1).T for name, entry in found.items()}
