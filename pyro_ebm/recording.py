"""Records a function of tensors as a flat list of their operations.

What ``make_fx`` does with real tensors. That imports torch's compiler first, which takes longer
than all the rest of a short run; here nothing is imported that torch has not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

_LIFTED, _COPIED = torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default


def recorded(function: Callable[..., Sequence[Tensor]], example: Sequence[Tensor]) -> GraphModule:
    """The operations that the function does on tensors like the example's.

    Other tensors that it reads are held, not copied, so that a change in place is seen.

    :raises RuntimeError: a number is taken out of a tensor, which no recording can hold.
    """
    recorder = _Recorder(example)
    with recorder:
        outputs = function(*example)
    return recorder.ended(outputs)


def is_recording() -> bool:
    """Whether the operations of tensors are recorded now, here or by ``make_fx``."""
    return _recorder() is not None or get_proxy_mode() is not None


def moving() -> Callable[[Tensor], bool]:
    """Tells whether a tensor hangs on what enters the function that is recorded now, if any is."""
    recorder, proxies = _recorder(), get_proxy_mode()

    def moves(tensor: Tensor) -> bool:
        if recorder is not None and recorder.moves(tensor):
            return True
        if proxies is None:
            return False
        proxy: Any = get_proxy_slot(tensor, proxies.tracer, None)
        return proxy is not None and proxy.constant is None

    return moves


def hangs_on_inputs(tensor: Tensor) -> bool:
    """Whether a tensor was computed from what enters a recording that is made now, here, by
    ``make_fx`` or by ``torch.jit.trace``, or drawn in it: its numbers are of this run alone."""
    if torch._C._is_tracing():
        return _hangs_in_trace(tensor)
    recorder, proxies = _recorder(), get_proxy_mode()
    nodes = [] if recorder is None else [recorder.node_of(tensor)]
    if proxies is not None:
        slot: Any = get_proxy_slot(tensor, proxies.tracer, None)
        nodes.append(None if slot is None else slot.proxy.node)
    todo = [node for node in nodes if node is not None]
    seen = set(todo)
    while todo:
        node = todo.pop()
        tags = getattr(node.target, "tags", ())
        if node.op == "placeholder" or torch.Tag.nondeterministic_seeded in tags:
            return True
        new = [parent for parent in node.all_input_nodes if parent not in seen]
        seen.update(new)
        todo.extend(new)
    return False


def is_recording_here() -> bool:
    """Whether ``recorded`` is at work."""
    return _recorder() is not None


def _hangs_in_trace(tensor: Tensor) -> bool:
    tracer: Any = torch._C
    try:
        todo = [tracer._get_value_trace(tensor)]
    except RuntimeError:  # a leaf with gradient that did not enter, which a trace refuses anyhow
        return True
    seen: set[str] = set()
    while todo:
        node = todo.pop().node()
        if node.kind() == "prim::Param" or node.isNondeterministic():
            return True
        for value in node.inputs():
            if value.debugName() not in seen:
                seen.add(value.debugName())
                todo.append(value)
    return False


def _recorder() -> _Recorder | None:
    modes = _get_current_dispatch_mode_stack()
    return next((mode for mode in reversed(modes) if isinstance(mode, _Recorder)), None)


class _Recorder(TorchDispatchMode):
    """Sees every operation below vmap and autograd, does it, and writes it down as a node.

    ``_nodes`` has the node that gives a tensor; ``_numbers`` the tensors among them that are
    numbers written in the code, whose values may be looked at; ``_names`` the tensors held.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._graph, self._held = Graph(), nn.Module()
        self._nodes, self._numbers = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
        self._names = WeakTensorKeyDictionary()
        for i, tensor in enumerate(inputs):
            self._nodes[tensor] = self._graph.placeholder(f"input_{i}")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Being skipped by the compiler is what imports the compiler.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if torch.Tag.data_dependent_output in func.tags:
            if any(map(self.moves, tensors)):
                raise RuntimeError(f"{func} takes a number out of a tensor that is recorded.")
            return func(*args, **kwargs)
        if func is _LIFTED:
            func = _COPIED  # what is written in the code stays as it is there
        found = func(*args, **kwargs)
        if _is_same_view(func, args, found):
            self._write_down(found, self._node(args[0]), args[0] in self._numbers)
            return found
        node = self._graph.call_function(func, *tree_map(self._node, (args, kwargs)))
        is_number = func is _COPIED or (
            bool(tensors)
            and all(tensor in self._numbers for tensor in tensors)
            and torch.Tag.nondeterministic_seeded not in func.tags
        )
        self._write_down(found, node, is_number)
        return found

    def moves(self, tensor: Tensor) -> bool:
        """Whether a tensor was made by what is recorded, and is no number written in the code."""
        return tensor in self._nodes and tensor not in self._numbers

    def node_of(self, tensor: Tensor) -> Node | None:
        """What gave a tensor, None for one that was there before."""
        return self._nodes.get(tensor)

    def ended(self, outputs: Sequence[Tensor]) -> GraphModule:
        """What was recorded, giving these."""
        self._graph.output([self._node(output) for output in outputs])
        return GraphModule(self._held, self._graph)

    def _node(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        found = self._nodes.get(value)
        if found is not None:
            return found
        if value not in self._names:
            self._names[value] = f"held_{len(self._names)}"
            setattr(self._held, self._names[value], value)
        return self._graph.get_attr(self._names[value])

    def _write_down(self, found: Any, node: Node, is_number: bool) -> None:
        if isinstance(found, Tensor):
            self._nodes[found] = node
            self._numbers.pop(found, None)
            if is_number and found.numel() == 1:
                self._numbers[found] = True
        elif isinstance(found, (tuple, list)):
            for i, part in enumerate(found):
                if isinstance(part, Tensor):
                    self._write_down(part, self._graph.call_function(getitem, (node, i)), is_number)


def _is_same_view(func: Any, args: tuple[Any, ...], found: Any) -> bool:
    """Whether an operation only looks at its first operand, as it lies."""
    if not (args and isinstance(args[0], Tensor) and isinstance(found, Tensor)):
        return False
    given, alias = args[0], func._schema.returns[0].alias_info
    return (
        alias is not None
        and not alias.is_write
        and found.dtype == given.dtype
        and found.shape == given.shape
        and found.stride() == given.stride()
        and found.storage_offset() == given.storage_offset()
        and (found.is_conj(), found.is_neg()) == (given.is_conj(), given.is_neg())
    )
