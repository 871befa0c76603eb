"""An array on disk whose rows are written in any order, and that grows: a Zarr array, uncompressed.

The whole array is one file in C order, [draw, chain, *event], so that it can be mapped into memory:
what is not looked at is not read, and every function of NumPy, torch and ArviZ takes it. Readers of
Zarr see one shard of chunks of some megabytes, whose index stands at the end of the file; what is
written for them alone is never read here.

Room is taken from the disk before it is mapped, as a full disk then raises an error in place of
killing the process.

Source: the Zarr core specification, version 3, and its sharding codec.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..checkpoint import sync_folder

# Bytes of one chunk, which readers of Zarr read at once.
_CHUNK_BYTES = 2**22
# It grows by this part of what it is at least.
_GROWTH = 8
_FILE = "c/0"
_METADATA = "zarr.json"
_INDEX_ENTRY = 16


class ZarrArray:
    """One variable: draws of an event for a number of chains.

    :param shape: [chain, *event].
    :param axes: their names.
    :param rows: how many draws were expected when it was made; more may be written.
    :param create: make the array if it is not there.
    :raises ValueError: it is not there, or of a type that arrays on disk do not have.
    """

    def __init__(
        self,
        folder: Path,
        shape: Sequence[int],
        dtype: np.dtype,
        *,
        axes: Sequence[str],
        rows: int,
        create: bool,
    ) -> None:
        if dtype.kind not in "biuf":
            raise ValueError(
                f"{folder.name} is of {dtype.name}, and store= keeps booleans, integers and floats "
                "only. Leave it out with sites=."
            )
        self.folder, self.shape, self.dtype = folder, tuple(shape), dtype
        self._axes = ("draw", *axes)
        self._row_bytes = prod(self.shape) * dtype.itemsize
        self._chunk = max(1, min(rows, _CHUNK_BYTES // max(1, self._row_bytes)))
        self._file = folder.joinpath(_FILE, *["0"] * len(self.shape))
        self._capacity = 0
        self._changed = self._described = False
        if self._file.exists():
            # Of what a kill left behind the index may be missing.
            per_chunk = self._chunk * self._row_bytes + _INDEX_ENTRY
            self._capacity = self._file.stat().st_size // per_chunk * self._chunk
        elif not create:
            raise ValueError(f"{self._file} is missing: a part of the run has been removed.")
        else:
            self._file.parent.mkdir(parents=True)
            self._file.touch()

    def write(self, rows: np.ndarray, chains: np.ndarray, values: np.ndarray) -> bool:
        """Write values [n, *event] at their draws and chains.

        :returns: whether the array has grown for it, so that its metadata are others.
        :raises OSError: the disk is full.
        """
        if len(rows) == 0:
            return False
        needed = int(rows.max()) + 1
        grows = needed > self._capacity
        if grows:
            needed = max(needed, self._capacity + self._capacity // _GROWTH)
            self._grow(-(-needed // self._chunk) * self._chunk)
        self._changed = True
        self._map(self._capacity, "r+")[rows, chains] = values
        return grows

    def read(self, rows: int) -> np.ndarray:
        """The first rows [rows, chain, *event], mapped: changes to them stay in memory."""
        if rows == 0 or self._row_bytes == 0:
            return np.zeros((rows, *self.shape), self.dtype)
        self.check(rows)
        return self._map(rows, "c")

    def check(self, rows: int) -> None:
        """Refuse an array that cannot hold so many rows.

        :raises ValueError: the file is cut off.
        """
        if rows > self._capacity:
            raise ValueError(
                f"{self._file} is cut off: it has room for {self._capacity} of {rows} draws. Copy "
                "it anew from where it is whole."
            )

    def sync(self, rows: int) -> None:
        """Make what is written survive a loss of power, and say that so many rows are complete."""
        if self._changed or not self._described:
            with self._file.open("rb+") as file:
                if not self._described:
                    # A kill while it grew may have left anything behind the rows.
                    self._end(file)
                os.fsync(file.fileno())
            sync_folder(self._file.parent)
            self._describe(min(rows, self._capacity))
            self._changed, self._described = False, True

    def _map(self, rows: int, mode: Any) -> np.ndarray:
        if self._row_bytes == 0:
            return np.zeros((rows, *self.shape), self.dtype)
        return np.memmap(self._file, self.dtype, mode, shape=(rows, *self.shape))

    def _grow(self, capacity: int) -> None:
        before, after = self._capacity * self._row_bytes, capacity * self._row_bytes
        index_bytes = capacity // self._chunk * _INDEX_ENTRY
        with self._file.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                take_room(file, before, after + index_bytes - before)
            except OSError:
                # Some file systems keep what they had room for; the index has to be the end.
                file.truncate(size)
                raise
            # Where the index was there are rows now.
            file.seek(before)
            file.write(bytes(min(index_bytes, after - before)))
            self._capacity = capacity
            self._end(file)
        self._describe(0)

    def _end(self, file: BinaryIO) -> None:
        """Let the file end with the index behind the rows that there is room for."""
        chunk = self._chunk * self._row_bytes
        index = np.arange(self._capacity // self._chunk, dtype="<u8") * chunk
        entries = np.stack([index, np.full_like(index, chunk)], axis=1).tobytes()
        end = self._capacity * self._row_bytes
        file.seek(end)
        file.write(entries)
        file.truncate(end + len(entries))
        file.flush()

    def _describe(self, rows: int) -> None:
        """Write the metadata of an array of so many rows."""
        chunk = [self._chunk, *self.shape]
        numbers = {"name": "bytes", "configuration": {"endian": "little"}}
        sharding = {
            "chunk_shape": chunk,
            "codecs": [numbers],
            "index_codecs": [numbers],
            "index_location": "end",
        }
        shard = [max(self._capacity, self._chunk), *self.shape]
        write_metadata(
            self.folder,
            {
                "node_type": "array",
                "shape": [rows, *self.shape],
                "data_type": self.dtype.name,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": False if self.dtype == bool else 0,
                "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
                "dimension_names": list(self._axes),
            },
        )


def take_room(file: BinaryIO, offset: int, length: int) -> None:
    """Take room from the disk, filled with zeros.

    :raises OSError: there is none.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), offset, length)
        return
    file.seek(offset)
    for begin in range(0, length, _CHUNK_BYTES):
        file.write(bytes(min(_CHUNK_BYTES, length - begin)))


def write_metadata(folder: Path, contents: Mapping[str, Any]) -> None:
    """Write the ``zarr.json`` of an array or a group, at one stroke."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{_METADATA}.unfinished"
    with unfinished.open("w") as file:
        json.dump({"zarr_format": 3, "attributes": {}, **contents}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, folder / _METADATA)


def consolidate(folder: Path) -> None:
    """Write into the metadata of a group those of all that it contains.

    Readers then look at nothing else in the folder, and are not surprised by files of other kinds.
    """
    inside = {
        file.parent.relative_to(folder).as_posix(): json.loads(file.read_text())
        for file in sorted(folder.glob(f"*/{_METADATA}")) + sorted(folder.glob(f"*/*/{_METADATA}"))
    }
    consolidated = {"kind": "inline", "must_understand": False, "metadata": inside}
    write_metadata(folder, {"node_type": "group", "consolidated_metadata": consolidated})
