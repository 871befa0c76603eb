"""Arrays of many parts as one, copied part by part, so that one part at a time has to be open.

Chains stand one after another, draw after draw as on disk. A large array is a file without a name
in the folder of the run, mapped into memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from .zarr_array import take_room

# Bytes from which on an array is kept on disk.
_LARGE = 2**28

Key = tuple[str, str]


class Joined:
    """Variables [chain, draw, *event] by group and name, of all parts together.

    :param num_chains: of all parts.
    :param folder: where large arrays go; they stay in memory unless given.
    """

    def __init__(self, num_chains: int, folder: Path | None) -> None:
        self._num_chains, self._folder = num_chains, folder
        self._arrays: dict[Key, np.ndarray] = {}
        self._draws: dict[Key, int] = {}
        self._chains: dict[Key, int] = {}

    def add(self, group: str, part: Mapping[str, np.ndarray]) -> None:
        """Copy what a part has of a group behind what there is.

        :raises OSError: the disk is full.
        """
        for name, values in part.items():
            key = (group, name)
            if key not in self._arrays:
                shape = (values.shape[1], self._num_chains, *values.shape[2:])
                self._arrays[key] = self._new(shape, values.dtype)
                self._draws[key], self._chains[key] = shape[0], 0
            first, draws = self._chains[key], min(self._draws[key], values.shape[1])
            until = first + len(values)
            self._arrays[key][:draws, first:until] = values[:, :draws].swapaxes(0, 1)
            self._draws[key], self._chains[key] = draws, until

    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """What all parts have, as many draws as the shortest has."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for (group, name), array in self._arrays.items():
            if self._chains[group, name] == self._num_chains:
                draws = self._draws[group, name]
                found.setdefault(group, {})[name] = array[:draws].swapaxes(0, 1)
        return found

    def _new(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = prod(shape) * dtype.itemsize
        if self._folder is None or size < _LARGE:
            return np.empty(shape, dtype)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            take_room(file, 0, size)
            return np.memmap(file, dtype, "r+", shape=shape)
