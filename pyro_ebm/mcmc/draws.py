"""The draws that chains keep, in memory or, beyond a small buffer, on disk.

Every chain writes at its own row, as chains go at different paces. On disk a chain may be ahead of
the others by any number of rows: what it made is kept, and counts when the others have come there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

STATISTICS = (
    "lp",
    "acceptance_rate",
    "energy",
    "energy_error",
    "tree_depth",
    "n_steps",
    "diverging",
    "reached_max_treedepth",
    "step_size",
)
# Numbers that wait to be written to disk.
_BUFFERED = 2**24
# No fewer than the steps of a block: of those _NOISE_NUMBERS in run.py leaves fewer than _BUFFERED
# does of rows.
_LEAST_ROWS, _MOST_ROWS = 16, 4096


class Sink(NamedTuple):
    """Where a kernel that makes a whole block of steps writes its draws by itself, in place.

    ``buffer`` [chains, rows and more, coordinates + 9]; the next record of a chain belongs into row
    ``kept - written``, unless there are no more ``rows``, and is counted in ``kept`` [chains].
    """

    buffer: Tensor
    kept: Tensor
    written: Tensor
    rows: int


class Keeping(NamedTuple):
    """What such a kernel counts and keeps: every ``thinning``-th transition after ``keep_from``.

    ``transitions`` [chains] are counted in place. Records of transitions up to ``keep_from`` go to
    ``before``, if anywhere; ``coordinates`` are those that are kept, all unless given.
    """

    transitions: Tensor
    keep_from: Tensor
    thinning: int
    coordinates: Tensor | None
    draws: Sink
    before: Sink | None


class Draws:
    """What the chains have kept so far; filled by the loop and readable at any time.

    ``positions`` [rows, coordinates, chains] and ``statistics`` [rows, 9, chains] in the order of
    STATISTICS; ``kept`` [chains] counts the rows that are written.
    """

    def __init__(self, rows: int, coordinates: int, chains: int, like: Tensor) -> None:
        # A chain's records lie one after another, each as a whole. One row more takes the writes
        # of chains that have nothing to keep.
        self._buffer = like.new_empty(chains, rows + 1, coordinates + len(STATISTICS))
        self._coordinates = coordinates
        self.rows = rows
        self.kept = torch.zeros(chains, dtype=torch.long, device=like.device)

    @property
    def complete(self) -> int:
        """The number of draws that every chain has."""
        return min(self.rows, int(self.kept.min()))

    @property
    def positions(self) -> Tensor:
        """The first draws of every chain, [complete, coordinates, chains]."""
        return self._buffer[:, : self.complete, : self._coordinates].permute(1, 2, 0)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Per statistic [complete, chains]."""
        block = self._buffer[:, : self.complete, self._coordinates :]
        return {name: block[..., i].T for i, name in enumerate(STATISTICS)}

    def write(self, keep: Tensor, record: Tensor) -> None:
        """Append one record [coordinates + 9, chains] to the chains that keep it."""
        row = torch.where(keep & (self.kept < self.rows), self.kept, self.rows)
        _write(self._buffer, row, record)
        self.kept = self.kept + keep

    def sink(self, num_writes: int) -> Sink:
        """For at most so many writes a chain; counts that were read before stay as they were."""
        self.kept = self.kept.clone()
        return Sink(self._buffer, self.kept, torch.zeros_like(self.kept), self.rows)


def _write(buffer: Tensor, row: Tensor, record: Tensor) -> None:
    """A record [width, chains] into a row of each chain of a buffer [chains, rows, width]."""
    index = row[:, None, None].expand(-1, 1, buffer.shape[2])
    buffer.scatter_(1, index, record.T[:, None])


@runtime_checkable
class Archive(Protocol):
    """Where stored draws lie: draw ``rows[i]`` of chain ``chains[i]``, written again or anew."""

    def write(
        self, rows: Tensor, chains: Tensor, positions: Tensor, statistics: Mapping[str, Tensor]
    ) -> None:
        """Write records by row and chain: positions [n, coordinates], each statistic [n]."""
        ...

    def derive(self, rows: Tensor) -> None:
        """Write what follows from the positions of the first ``rows`` [chains] of every chain."""
        ...

    def positions(self, rows: int) -> Tensor:
        """The first rows, [rows, coordinates, chains]."""
        ...

    def statistics(self, rows: int) -> dict[str, Tensor]:
        """Of the first rows, per statistic [rows, chains]."""
        ...


class StoredDraws:
    """Draws with the interface of :class:`Draws` that live in an archive.

    A buffer holds the next rows of every chain, whichever rows those are, and goes to the archive
    when a chain's part of it is full. Chains that are ahead write on, also beyond ``rows``.

    :param kept: [chains] rows that the archive holds already.
    """

    def __init__(
        self, rows: int, coordinates: int, like: Tensor, archive: Archive, kept: Tensor
    ) -> None:
        width, chains = coordinates + len(STATISTICS), len(kept)
        self._room = max(_LEAST_ROWS, min(_BUFFERED // (width * chains), _MOST_ROWS))
        self._buffer = like.new_empty(chains, self._room + 1, width)
        self._archive, self._coordinates = archive, coordinates
        self._writes_before_look = self._room
        self.rows = rows
        self.written = kept
        self.kept = kept

    @property
    def complete(self) -> int:
        """The number of draws that every chain has."""
        return min(self.rows, int(self.kept.min()))

    @property
    def positions(self) -> Tensor:
        """The first draws of every chain, [complete, coordinates, chains]."""
        self.flush()
        return self._archive.positions(self.complete)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Per statistic [complete, chains]."""
        self.flush()
        return self._archive.statistics(self.complete)

    def write(self, keep: Tensor, record: Tensor) -> None:
        """Append one record [coordinates + 9, chains] to the chains that keep it.

        :raises OSError: the disk is full.
        """
        self._make_room(1)
        row = torch.where(keep, self.kept - self.written, self._room)
        _write(self._buffer, row, record)
        self.kept = self.kept + keep

    def sink(self, num_writes: int) -> Sink:
        """For at most so many writes a chain; counts that were read before stay as they were.

        :raises OSError: the disk is full.
        """
        if num_writes > self._room:
            raise ValueError(f"expected at most {self._room} writes at once, got {num_writes}.")
        self._make_room(num_writes)
        self.kept = self.kept.clone()
        return Sink(self._buffer, self.kept, self.written, self._room)

    def _make_room(self, num_writes: int) -> None:
        # A chain adds at most one row a write, so that most writes need not look.
        if self._writes_before_look < num_writes:
            fullest = int((self.kept - self.written).max())
            if 2 * fullest > self._room or self._room - fullest < num_writes:
                self.flush()
                self.derive()
                fullest = 0
            self._writes_before_look = self._room - fullest
        self._writes_before_look -= num_writes

    def flush(self) -> None:
        """Write out what waits. Interrupted or failed, it may be called again.

        :raises OSError: the disk is full.
        """
        waiting = self.kept - self.written
        fullest = int(waiting.max())
        if fullest == 0:
            return
        place = torch.arange(fullest, device=waiting.device)[:, None]
        row, chain = (place < waiting).nonzero(as_tuple=True)
        records = self._buffer[chain, row]
        values = records[:, self._coordinates :]
        self._archive.write(
            self.written[chain] + row,
            chain,
            records[:, : self._coordinates],
            {name: values[:, i] for i, name in enumerate(STATISTICS)},
        )
        self.written = self.kept
        self._writes_before_look = self._room

    def derive(self) -> None:
        """Write what follows from the positions that are written; these count without it.

        :raises Exception: the model cannot be evaluated. It may be called again.
        """
        self._archive.derive(self.written)

    def close(self) -> None:
        """Write out what waits, or else forget it.

        :raises Exception: as the archive does; what had been written before is all there is then.
        """
        try:
            self.flush()
        except Exception:
            self.kept = self.written
            raise
