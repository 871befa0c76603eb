"""Sweeps in C along a path: pairs of two-state sites at an inverse temperature for each chain.

Between independent sites q and a model of pairs p, the log odds of site i given the others are

    beta (offset_i + sum_j weight_ij x_j) + (1 - beta) base_i,

base_i those of q. A sweep goes through all sites and back, so that it is reversible; the difference
U = log p - log q is one of pairs too, and is summed in double precision.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.c_compiler import NoLibrary

from .couplings import BinaryPairs
from .native.library import library
from .native_gibbs import BLOCK, Sweep, called, neighbours_of


class _Sum(ctypes.Structure):
    """Neighbours and what is summed over them, as gibbs.c declares it."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("dim", "chains")),
        *(
            (name, ctypes.c_void_p)
            for name in ("offset", "first", "middle", "neighbour", "weight", "position", "sum")
        ),
    )


class TemperedGibbs:
    """Sweeps at an inverse temperature for each chain, and the slope U of the path.

    :param base_odds: log q_i(1) - log q_i(0) of every site [dim], finite.
    :param base_constant: log q of the configuration of zeros.
    :raises NoLibrary: where no C compiler makes the code.
    """

    def __init__(
        self, pairs: BinaryPairs, base_odds: Float[Tensor, " dim"], base_constant: float
    ) -> None:
        self._made_of = pairs, base_odds, base_constant
        code = library("gibbs")
        self._sweep: Any = code.tempered
        self._sums: Any = code.sums
        for function in (self._sweep, self._sums):
            function.argtypes, function.restype = [ctypes.c_void_p], None
        odds = base_odds.double().cpu()
        slope = pairs._replace(offsets=pairs.offsets.double().cpu() - odds)
        self._rows = neighbours_of(pairs)
        self._slope_rows = neighbours_of(slope, torch.double)
        self._base = odds.float().contiguous()
        self._constant = pairs.constant - base_constant
        self._work = torch.empty(len(odds), BLOCK)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of

    def sweep(self, positions: Tensor, betas: Tensor, key: int, *, number: int) -> Tensor:
        """Positions [dim, chains] after so many sweeps there and back.

        :param betas: of every chain [chains].
        :param key: from which all random numbers are made.
        """
        before = positions.float().contiguous()
        after, betas = torch.empty_like(before), betas.float().contiguous()
        parts = (*self._rows, before, after, None, self._work, betas, self._base)
        pointers = (None if part is None else part.data_ptr() for part in parts)
        called(self._sweep, Sweep(*before.shape, number, key, *pointers))
        return after.to(positions.dtype)

    def slope(self, positions: Float[Tensor, "dim chains"]) -> Float[Tensor, " chains"]:
        """U of every chain, in double precision."""
        position = positions.float().contiguous()
        total = position.new_empty(position.shape[1], dtype=torch.double)
        parts = (*self._slope_rows, position, total)
        called(self._sums, _Sum(*position.shape, *(part.data_ptr() for part in parts)))
        return total + self._constant


def tempered_gibbs(
    pairs: BinaryPairs | None, base_odds: Tensor, base_constant: float
) -> TemperedGibbs | None:
    """The sweeps; None for what are no pairs on the CPU, or without a compiler."""
    if pairs is None or pairs.weights.device.type != "cpu":
        return None
    numbers = torch.cat([pairs.offsets, pairs.weights, base_odds.to(pairs.offsets)])
    if not bool(numbers.isfinite().all()):
        return None
    try:
        return TemperedGibbs(pairs, base_odds, base_constant)
    except NoLibrary:
        return None
