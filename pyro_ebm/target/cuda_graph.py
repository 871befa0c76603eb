"""A recorded function captured as one CUDA graph: launched as a whole, not kernel by kernel.

A step has some hundreds of small kernels, whose launches from Python cost far more than the work
that they do. Captured, it reads and writes memory of its own: arguments are copied in and results
out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

    It must be a fixed list of tensor operations without random numbers.
    """
    held = [leaf.clone() for leaf in example]
    try:
        graph, outputs = _capture(function, held)
    except RuntimeError:
        # An operation that waits for the device, or a tensor on the CPU, cannot be captured.
        return function

    def replay(*tensors: Tensor) -> list[Tensor]:
        if is_recording():
            # Being recorded itself: what is replayed would be taken for a constant.
            return [*function(*tensors)]
        torch._foreach_copy_(held, [*tensors])  # pyright: ignore[reportPrivateImportUsage]
        graph.replay()
        return [output.clone() for output in outputs]

    return replay


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
