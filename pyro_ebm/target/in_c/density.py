"""A log density and its gradient in C, made from the recording of one position.

Torch's own compiler makes code in half a minute; most densities of Pyro models are long lists of
plain arithmetic, for which a C compiler takes a second. What torch recorded is written as C
(:mod:`.reading`, :mod:`.writing`), with the processor's vectors across chains, compiled, and kept
on disk for later processes. Data are read where they lie at every call.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_ebm.c_compiler import NoLibrary, made_from_text
from pyro_ebm.recording import recorded

from ..compiled import close
from .expressions import NotInC
from .placing import ALIGNED
from .reading import Program, read
from .writing import source

# A block of chains fills two of the widest vectors of today.
_BLOCK_BYTES = 128
_LEAST_LANES = 4
# Bytes for what a block of chains has on its way, where fewer chains can do with them.
_MOST_MEMORY = 2**28
# A thousand take the compiler a second.
_MOST_STEPS = 20_000
# Positions at which results are compared with torch's.
_COMPARED = 32


class DensityInC:
    """A log density and its gradient, written in C and compiled for numbers of chains that ask.

    :param single: value and gradient at one position [dim].
    :param position: one like those.
    :raises NotInC: an operation that has no counterpart in C.
    """

    def __init__(self, single: Callable[[Tensor], tuple[Tensor, Tensor]], position: Tensor) -> None:
        if position.dtype not in (torch.float32, torch.float64) or position.device.type != "cpu":
            raise NotInC(f"positions of {position.dtype} on {position.device}")
        with torch.no_grad():
            try:
                graph = recorded(lambda z: list(single(z)), [position])
            except Exception as error:  # whatever the model's operations raise
                raise NotInC(str(error)) from error
        graph.graph.eliminate_dead_code()
        self._program = read(graph, position)
        if len(self._program.steps) > _MOST_STEPS:
            raise NotInC("more operations than are compiled in seconds")
        value, gradient = self._program.outputs
        if value.shape != () or gradient.shape != position.shape:
            raise NotInC("a density of other shapes")

    def at(
        self, positions: Tensor, reference: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> CompiledDensity | None:
        """Compiled for as many chains as these [dim, chains], and good for more.

        :param reference: the same function as torch computes it.
        :returns: None, with a warning, where its results at some of the positions are others, or
            the code cannot be compiled.
        """
        lanes = _LEAST_LANES
        while lanes < positions.shape[1] and lanes * positions.dtype.itemsize < _BLOCK_BYTES:
            lanes *= 2
        try:
            made = CompiledDensity(self._program, lanes)
            while lanes > _LEAST_LANES and made.num_bytes > _MOST_MEMORY:
                lanes //= 2
                made = CompiledDensity(self._program, lanes)
        except NoLibrary as error:
            return _not_used(f"is not compiled ({error})")
        some = positions[:, :_COMPARED]
        pairs = zip(made(some), reference(some), strict=True)
        if not all(close(found, right) for found, right in pairs):
            return _not_used("differs from what torch computes")
        return made


def _not_used(why: str) -> None:
    warnings.warn(
        f"The density as written in C {why}, and is not used: the same answers, slower. Please "
        "report the model.",
        stacklevel=4,
    )


class CompiledDensity:
    """Log density [chains] and gradient [dim, chains] of positions [dim, chains].

    :param lanes: of so many chains at a time, for which it holds ``num_bytes`` in memory.
    :raises NoLibrary: no C compiler, or one that fails.
    """

    compiled = True

    def __init__(self, program: Program, lanes: int) -> None:
        text, chain_bytes, common_bytes = source(program, lanes)
        self._function: Any = made_from_text("density", text).density
        self._function.argtypes = [ctypes.c_void_p, ctypes.c_long, *[ctypes.c_void_p] * 5]
        self._function.restype = ctypes.c_int
        self._held = program.held
        self._lie = [_lie(tensor) for tensor in program.held]
        self._pointers = (ctypes.c_void_p * max(1, len(program.held)))()
        self._memory = [
            torch.empty(size + ALIGNED, dtype=torch.uint8, device="cpu")
            for size in (chain_bytes, common_bytes)
        ]
        self.num_bytes = chain_bytes
        # Not owned: addresses in what is.
        self._work = [-(-part.data_ptr() // ALIGNED) * ALIGNED for part in self._memory]
        self._dtype, self._dim = program.position.dtype, program.position.size

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        positions = positions.contiguous()
        if positions.dtype != self._dtype or positions.shape[0] != self._dim:
            raise ValueError(
                f"expected positions [{self._dim}, chains] of {self._dtype}, got "
                f"{tuple(positions.shape)} of {positions.dtype}."
            )
        for i, tensor in enumerate(self._held):
            if _lie(tensor) != self._lie[i]:
                raise RuntimeError(
                    "Data of the model have another shape or type than when its density was "
                    "compiled. Make the kernel anew."
                )
            self._pointers[i] = tensor.data_ptr()
        values, gradients = positions.new_empty(positions.shape[1]), torch.empty_like(positions)
        failed = self._function(
            positions.data_ptr(),
            positions.shape[1],
            values.data_ptr(),
            gradients.data_ptr(),
            ctypes.addressof(self._pointers),
            *self._work,
        )
        if failed:
            raise IndexError("An index in the data of the model lies outside of what it indexes.")
        return values, gradients


def _lie(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype
