"""Draws of one stage of a run on disk: coordinates, statistics, and the sites that they stand for.

Sites are written beside the coordinates, so that whoever has the folder can read the posterior
without the model. They are evaluated in pieces of one size: then their rounding does not depend on
when a buffer happened to be full. Where the model cannot be evaluated, positions and statistics are
there without them, and ``derived`` [chains] says how many rows of every chain have theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from ..draws import STATISTICS
from .inputs import as_array
from .zarr_array import ZarrArray, consolidate, write_metadata

TYPES = {
    "diverging": torch.bool,
    "reached_max_treedepth": torch.bool,
    "tree_depth": torch.int64,
    "n_steps": torch.int64,
}
# What is said of a transition between states; there is no Hamiltonian, no tree and no divergence.
DISCRETE_STATISTICS = ("lp", "acceptance_rate", "n_steps", "step_size")
_NUMBERS = 2**22
_LARGEST_PIECE = 1024

Constrain = Callable[[Tensor], Mapping[str, Tensor]]


class SiteLayout(NamedTuple):
    """The shape of a site's value, its type, and the names of its axes."""

    shape: list[int]
    dtype: str
    axes: list[str]


class Layout(NamedTuple):
    """How wide the rows are: chains, coordinates of this type, and sites by name.

    ``rows`` and ``warmup_rows`` are as many as were expected at first; there may be more.
    """

    chains: int
    coordinates: int
    dtype: str
    sites: dict[str, SiteLayout]
    rows: int
    warmup_rows: int

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Layout:
        """The layout of which JSON has kept ``_asdict()``."""
        sites = {name: SiteLayout(*site) for name, site in plain["sites"].items()}
        return cls(**{**plain, "sites": sites})


class StoredGroup:
    """The arrays of one stage; ``prefix`` is ``warmup_`` for that of warm-up.

    :param constrain: from positions [n, coordinates] to sites; needed for writing only.
    :param create: make the arrays.
    :param derived: [chains] rows whose sites are there already.
    :raises ValueError: an array is missing.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        *,
        prefix: str = "",
        constrain: Constrain | None = None,
        create: bool = False,
        derived: np.ndarray | None = None,
    ) -> None:
        self._path, self._constrain = path, constrain
        chains = layout.chains
        self.derived = np.zeros(chains, dtype=np.int64) if derived is None else derived
        rows = max(1, layout.warmup_rows if prefix else layout.rows)

        if constrain is not None or create:
            # Anew also where they are: they may be damaged, and nothing else is said in them.
            for group in ("unconstrained", "sample_stats", *(["posterior"] * bool(layout.sites))):
                write_metadata(path / f"{prefix}{group}", {"node_type": "group"})

        def array(
            group: str, name: str, shape: Sequence[int], dtype: str, axes: Sequence[str]
        ) -> ZarrArray:
            return ZarrArray(
                path / f"{prefix}{group}" / _file_name(name),
                (chains, *shape),
                np.dtype(dtype),
                axes=("chain", *axes),
                rows=rows,
                create=create,
            )

        width = layout.coordinates
        self._position = array("unconstrained", "position", [width], layout.dtype, ["coordinate"])
        self._statistics = {
            name: array("sample_stats", name, [], _type_of(name, layout.dtype), [])
            for name in STATISTICS
        }
        self._sites = {name: array("posterior", name, *site) for name, site in layout.sites.items()}

    def write(
        self, rows: Tensor, chains: Tensor, positions: Tensor, statistics: Mapping[str, Tensor]
    ) -> None:
        """Write records by row and chain: positions [n, coordinates], each statistic [n].

        :raises OSError: the disk is full.
        """
        at = as_array(rows), as_array(chains)
        grown = [self._position.write(*at, as_array(positions))]
        grown += [self._statistics[name].write(*at, as_array(v)) for name, v in statistics.items()]
        if any(grown):
            consolidate(self._path)

    def derive(self, rows: Tensor) -> None:
        """Write the sites of the first ``rows`` [chains] of every chain that are not there yet.

        :raises Exception: the model cannot be evaluated, or the disk is full.
        """
        wanted = as_array(rows)
        if not self._sites:
            self.derived = wanted.copy()
            return
        at_once = max(1, _NUMBERS // max(1, prod(self._position.shape)))
        while bool((self.derived < wanted).any()):
            until = np.clip(wanted, self.derived, self.derived + at_once)
            count = until - self.derived
            row, chain = np.nonzero(np.arange(int(count.max()))[:, None] < count)
            row += self.derived[chain]
            positions = self._position.read(int(until.max()))[row, chain]
            if any(self._write_sites(row, chain, torch.from_numpy(positions))):
                consolidate(self._path)
            self.derived = until

    def _write_sites(self, rows: np.ndarray, chains: np.ndarray, positions: Tensor) -> list[bool]:
        if not self._sites:
            return []
        assert self._constrain is not None
        grown = []
        for first in range(0, len(rows), _LARGEST_PIECE):
            here = slice(first, first + _LARGEST_PIECE)
            values = self._constrain(positions[here])
            grown += [
                array.write(rows[here], chains[here], as_array(values[name]))
                for name, array in self._sites.items()
            ]
        return grown

    def positions(self, rows: int) -> Tensor:
        """The first rows, [rows, coordinates, chains]."""
        return torch.from_numpy(self._position.read(rows)).permute(0, 2, 1)

    def statistics(self, rows: int) -> dict[str, Tensor]:
        """Of the first rows, per statistic [rows, chains]."""
        return {name: torch.from_numpy(a.read(rows)) for name, a in self._statistics.items()}

    def sites(self, rows: int) -> dict[str, np.ndarray]:
        """Of the first rows, per site [chain, draw, *shape]."""
        return {name: array.read(rows).swapaxes(0, 1) for name, array in self._sites.items()}

    def check(self, rows: int) -> None:
        """Refuse arrays that do not hold so many rows.

        :raises ValueError: a file is cut off.
        """
        for array in self._arrays:
            array.check(rows)
        for array in self._sites.values():
            array.check(min(rows, int(self.derived.max())))

    def sync(self, rows: int) -> None:
        """Make what is written survive a loss of power; of it so many rows are complete."""
        for array in self._arrays:
            array.sync(rows)
        for array in self._sites.values():
            array.sync(min(rows, int(self.derived.min())))

    @property
    def _arrays(self) -> list[ZarrArray]:
        return [self._position, *self._statistics.values()]


def constrain_in_pieces(target: Target, coordinates: Tensor | None) -> Constrain:
    """The map from stored coordinates to sites, always evaluated for as many positions at once."""
    size = max(1, min(_LARGEST_PIECE, _NUMBERS // target.numbers_in_memory))
    if size >= 64:
        # No vector instruction is then left with fewer numbers than it takes.
        size = size // 64 * 64

    def constrain(stored: Tensor) -> dict[str, Tensor]:
        pieces = [whole(piece) for piece in stored.to(target.device).split(size)]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}

    def whole(piece: Tensor) -> dict[str, Tensor]:
        positions = target.complete(piece, coordinates)
        if target.vectorized:
            last = positions[-1:].expand(size - len(positions), -1)
            positions = torch.cat([positions, last])
        found = target.constrain(positions)
        return {name: value[: len(piece)] for name, value in found.items()}

    return constrain


def _type_of(statistic: str, dtype: str) -> str:
    return str(TYPES[statistic]).removeprefix("torch.") if statistic in TYPES else dtype


def _file_name(site: str) -> str:
    """A name that every file system and Zarr take: letters, digits and a few signs."""
    name = quote(site, safe=" ()[],+=@")
    return f"%{ord(name[0]):02X}{name[1:]}" if name[:1] in (".", "_") else name or "%"
