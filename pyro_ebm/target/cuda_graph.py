"""A recorded function captured as one CUDA graph: launched as a whole, not kernel by kernel.

A step has some hundreds of small kernels, whose launches from Python cost far more than the work
that they do. Captured, it reads and writes memory of its own: arguments are copied in and results
out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.recording import is_recording

# Runs before the capture: libraries allocate their workspaces, which no capture may.
_WARM_UP = 2

Flat = Callable[..., Sequence[Tensor]]


def on_cuda(tensors: Sequence[Tensor]) -> bool:
    """Whether any of them is on a CUDA device."""
    return any(tensor.is_cuda for tensor in tensors)


def captured(function: Flat, example: Sequence[Tensor]) -> Flat:
    """The function as a CUDA graph for tensors shaped as the example's; itself where that fails.

    It must be a fixed list of tensor operations without random numbers. Tensors of other shapes
    (a tree that goes deeper keeps more rows of checkpoints) have a graph of their own, captured
    when they first come.
    """
    graphs: dict[tuple[torch.Size, ...], _Captured | None] = {}
    first = _captured(function, example)
    if first is None:
        return function
    graphs[_shapes(example)] = first

    def replay(*tensors: Tensor) -> Sequence[Tensor]:
        if is_recording():
            # Being recorded itself: what is replayed would be taken for a constant.
            return [*function(*tensors)]
        shapes = _shapes(tensors)
        if shapes not in graphs:
            graphs[shapes] = _captured(function, tensors)
        found = graphs[shapes]
        if found is None:
            return function(*tensors)
        torch._foreach_copy_(found.held, [*tensors])  # pyright: ignore[reportPrivateImportUsage]
        found.graph.replay()
        return [output.clone() for output in found.outputs]

    return replay


class _Captured(NamedTuple):
    """A graph, and the memory that it reads and writes."""

    held: list[Tensor]
    graph: torch.cuda.CUDAGraph
    outputs: Sequence[Tensor]


def _shapes(tensors: Sequence[Tensor]) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape for tensor in tensors)


def _captured(function: Flat, example: Sequence[Tensor]) -> _Captured | None:
    held = [leaf.clone() for leaf in example]
    try:
        return _Captured(held, *_capture(function, held))
    except RuntimeError:
        # An operation that waits for the device, or a tensor on the CPU, cannot be captured.
        return None


def _capture(
    function: Flat, held: Sequence[Tensor]
) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
    with torch.no_grad():
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                function(*held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = [*function(*held)]
    return graph, outputs
