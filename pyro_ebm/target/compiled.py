"""A recorded function compiled ahead of time by torch's own compiler, and kept on disk.

Compilation takes half a minute, once: a later process finds the package by the recording's code,
shapes and all else that it depends on, and loads it in milliseconds without importing the compiler.
Data and parameters are not in it: they are given to it at every call, so that a change in place is
seen.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from pyro_ebm.cache import kept

# A package loads in a tenth of a second.
_SECONDS_TO_LOAD = 20.0
# Code that only hands tensors over takes most of the time to compile, and none to run.
_OPTIONS = {"aot_inductor.compile_wrapper_opt_level": "O0"}


def compiled(graph: GraphModule, example: Sequence[Tensor]) -> Callable | None:
    """The recording for tensors like the example's, compiled now if no earlier process has.

    None, with a warning, where it cannot be compiled (without a C++ compiler, say), or where the
    compiled code gives other results than the recording at the example.
    """
    try:
        made = _compiled(graph, example)
        differing = _differing(made, graph, example)
    except Exception as error:  # the compiler raises whatever its parts raise
        return _not_compiled((str(error).strip().splitlines() or [type(error).__name__])[0])
    if differing:
        return _not_compiled(f"the compiled code gives {differing} other results")
    return made


def _not_compiled(why: str) -> None:
    warnings.warn(
        f"What was recorded could not be compiled ({why}), and runs as it was recorded: the same "
        "answers, slower.",
        stacklevel=4,
    )


def _differing(made: Callable, graph: GraphModule, example: Sequence[Tensor]) -> int:
    """How many results at the example are not those of the recording, but for rounding."""
    with torch.no_grad():
        pairs = zip(made(*example), graph.forward(*example), strict=True)
        return sum(not close(found, right) for found, right in pairs)


def close(found: Tensor, right: Tensor) -> bool:
    """Whether a result is another but for rounding."""
    if found.dtype != right.dtype or found.shape != right.shape:
        return False
    if not right.is_floating_point():
        return torch.equal(found, right)
    tolerance = 1e4 * torch.finfo(right.dtype).eps
    scale = right.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp(min=1.0) if right.numel() else 1.0
    return torch.allclose(found / scale, right / scale, tolerance, tolerance, equal_nan=True)


def _compiled(graph: GraphModule, example: Sequence[Tensor]) -> Callable:
    graph, constants = _with_constants_given(graph)
    arguments = [*(leaf.detach() for leaf in example), *constants]
    loader = _load(graph, arguments)
    strides = [leaf.stride() for leaf in example]
    run = getattr(loader, "boxed_run", loader.run)

    def call(*tensors: Tensor) -> list[Tensor]:
        # The compiled code reads memory as the example's lay, whatever it is given.
        laid = [
            tensor if tensor.stride() == stride else torch.empty_like(like).copy_(tensor)
            for tensor, stride, like in zip(tensors, strides, arguments, strict=False)
        ]
        return run([*laid, *constants])

    return call


def _load(graph: GraphModule, arguments: Sequence[Tensor]) -> Any:
    kinds = [f"{tuple(a.shape)} {a.stride()} {a.dtype} {a.device}" for a in arguments]
    settings = (torch.get_num_threads(), torch.get_default_dtype(), torch.__version__, _OPTIONS)

    def make(path: Path) -> None:
        with warnings.catch_warnings(), _quiet("torch"):
            warnings.simplefilter("ignore")
            _compile(graph, arguments, str(path))
        _try_out(lambda: _loaded(path))

    return _loaded(kept("step", ".pt2", (graph.code, *kinds, *map(str, settings)), make))


def _loaded(path: Path) -> Any:
    # What the public loader does, without importing the compiler.
    private: Any = torch._C
    return private._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)


def _try_out(load: Callable[[], Any]) -> None:
    """Load in a copy of this process first, as some builds of torch end one that loads a package.

    Where processes cannot be copied, or the copy does not come to an end, nothing is known.

    :raises RuntimeError: it ended the copy.
    """
    if not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        # Other threads are not copied, which a process that only loads and ends can do without.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        try:
            load()
        finally:
            os._exit(0)
    status = _status_of(child)
    if status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        raise RuntimeError(f"a process that loads it ends with signal {number}")


def _status_of(child: int) -> int | None:
    """How the process ended; None, and it is ended, after too long a time."""
    deadline = time.monotonic() + _SECONDS_TO_LOAD
    ended, status = 0, 0
    try:
        while ended == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
            ended, status = os.waitpid(child, os.WNOHANG)
    finally:
        if ended == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return status if ended else None


def _compile(graph: GraphModule, arguments: Sequence[Tensor], path: str) -> None:
    from torch._inductor import aoti_compile_and_package

    with torch.no_grad():
        example = tuple(argument.clone() for argument in arguments)
        program = torch.export.export(graph, example, strict=False)
        aoti_compile_and_package(program, package_path=path, inductor_configs=dict(_OPTIONS))


class _quiet:
    """A logger that says only what is an error."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._before = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._before)


def _with_constants_given(graph: GraphModule) -> tuple[GraphModule, list[Tensor]]:
    """The graph with the tensors that it holds as further inputs, and those tensors."""
    copied = torch.fx.Graph()
    values: dict[Any, Any] = {}
    output = copied.graph_copy(graph.graph, values)
    copied.output(output)
    last = [node for node in copied.nodes if node.op == "placeholder"][-1]
    constants: list[Tensor] = []
    for node in [node for node in copied.nodes if node.op == "get_attr"]:
        constants.append(_attribute(graph, str(node.target)).detach())
        with copied.inserting_after(last):
            last = copied.placeholder(f"constant_{len(constants)}")
        node.replace_all_uses_with(last)
        copied.erase_node(node)
    return GraphModule(torch.nn.Module(), copied), constants


def _attribute(module: Any, path: str) -> Tensor:
    for name in path.split("."):
        module = getattr(module, name)
    return module
