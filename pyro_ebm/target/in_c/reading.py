"""From the operations that torch recorded to the steps that C does.

Every operation is done once on examples whose results lie in C's order: so torch itself tells the
shapes, and how views of them lie. Changes in place become new arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from .arrays import Array, Step, Store, contiguous
from .assembling import assembled
from .building import Build, constant_like
from .call import Call
from .elementwise import elementwise
from .expressions import NotInC
from .indexing import indexed
from .linear import linear
from .reductions import reduced

# Results that are one number all over, by the position of that number among the arguments, or it.
_CONSTANTS = {
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros", "zero"), 0),
    **dict.fromkeys(("empty", "empty_like", "new_empty", "empty_strided"), 0),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), 1),
}
_FULL = {"full": 1, "full_like": 1, "new_full": 2, "fill": 1, "scalar_tensor": 0}
# Changes of a shape in place, which are views of the same numbers.
_RESHAPED = {"squeeze", "unsqueeze", "t", "transpose"}


class Program(NamedTuple):
    """Steps in an order in which they can be done, and what they give.

    ``checked`` are indices, each with the length of the axis that they must lie within.
    """

    position: Store
    held: list[Tensor]
    steps: list[Step]
    outputs: list[Array]
    checked: list[tuple[Array, int]]


def read(graph: GraphModule, position: Tensor) -> Program:
    """The program of a recording of one position [dim].

    :raises NotInC: it has an operation that is not written in C.
    """
    return _Reader(graph, position).program()


class _Reader:
    def __init__(self, graph: GraphModule, position: Tensor) -> None:
        self._graph, self._position = graph, position
        self._build = Build()
        # Of a view the node that it looks at.
        self._looked_at: dict[Node, Node] = {}

    def program(self) -> Program:
        nodes = list(self._graph.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        if len(placeholders) != 1:
            raise NotInC("more than positions")
        input_store = Store("x", self._position.dtype, self._position.numel(), per_chain=True)
        outputs: list[Array] = []
        with torch.no_grad():
            for node in nodes:
                if node.op == "placeholder":
                    self._keep(node, self._position.contiguous(), input_store)
                elif node.op == "get_attr":
                    self._hold(node)
                elif node.op == "call_function":
                    self._do(node)
                elif node.op == "output":
                    outputs = [self._build.array(each) for each in node.args[0]]
        return Program(
            input_store, self._build.held, self._build.steps, outputs, self._build.checked
        )

    # What nodes stand for.

    def _keep(self, node: Node, example: Tensor, store: Store) -> None:
        self._build.examples[node] = example
        self._build.arrays[node] = Array(
            store, example.dtype, tuple(example.shape), contiguous(example.shape)
        )

    def _hold(self, node: Node) -> None:
        tensor: Any = self._graph
        for part in str(node.target).split("."):
            tensor = getattr(tensor, part)
        if tensor.device.type != "cpu" or tensor.is_conj() or tensor.is_neg():
            raise NotInC("data that are not plain numbers in this machine's memory")
        self._build.examples[node] = tensor.detach()
        self._build.arrays[node] = self._build.given(tensor)

    # Operations.

    def _do(self, node: Node) -> None:
        if not hasattr(node.target, "_schema"):
            source, place = cast(tuple[Node, int], node.args)
            self._build.examples[node] = self._build.example(source)[place]
            found = self._build.arrays[source]
            self._build.arrays[node] = found[place] if isinstance(found, list) else None
            self._looked_at[node] = source
            return
        call = Call(node)
        if call.in_place and call.base_name not in _RESHAPED:
            self._check_in_place(call)
        if call.base_name in ("_linalg_check_errors",):
            self._build.examples[node] = self._build.arrays[node] = None
            return
        if self._is_known(call):
            self._build.known.add(node)
        if self._view(call):
            if call.in_place:
                self._build.replaced[self._looked_at[node]] = node
            return
        example = self._done(call)
        if node in self._build.known and isinstance(example, Tensor):
            array = self._value(example)
        else:
            array = self._made(call, example)
            call.check_all_read()
            self._bound(call, array)
        if isinstance(array, Array):
            if (array.shape, array.dtype) != (tuple(example.shape), example.dtype):
                raise NotInC(f"{call.name} giving {array.shape}")
            if array.store is not None and not array.whole:
                # What is looked at later lies as the example does.
                array = self._build.pointwise("{0}", array.dtype, [array], array.shape)
        self._build.arrays[node], self._build.examples[node] = array, example
        if call.in_place:
            self._build.replaced[self._build.root(call.node.args[0])] = node

    def _bound(self, call: Call, array: Any) -> None:
        """Between what whole numbers lie, where that is seen easily."""
        if call.base_name not in ("sub", "add", "relu", "clone") or array.store is None:
            return
        source = self._build.array(call.at(0)).store
        if source is None or source not in self._build.bounds:
            return
        low, high = self._build.bounds[source]
        if call.base_name == "relu":
            low, high = max(low, 0), max(high, 0)
        elif call.base_name in ("sub", "add"):
            shift = call.at(1)
            if not isinstance(shift, int) or call.given("alpha", 1) != 1:
                return
            shift = -shift if call.base_name == "sub" else shift
            low, high = low + shift, high + shift
        self._build.bounds[array.store] = (low, high)

    def _is_known(self, call: Call) -> bool:
        if torch.Tag.nondeterministic_seeded in call.function.tags:
            raise NotInC(f"{call.name}, which is random")
        # A number written in the code is copied from where it is held, and stays as it is there.
        copied = call.name == "lift_fresh_copy"
        like_others = call.base_name in _CONSTANTS and not call.in_place
        return (
            copied
            or like_others
            or all(
                self._build.root(node) in self._build.known for node in call.node.all_input_nodes
            )
        )

    def _value(self, tensor: Tensor) -> Array:
        """An array whose numbers are known: one number all over, or data of the code's own."""
        if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
            like = Array(None, tensor.dtype, (), ())
            return constant_like(like, tensor, tensor.flatten()[0].item())
        return self._build.given(tensor)

    def _done(self, call: Call) -> Any:
        """What torch makes of the examples, in C's order; changes in place change a copy."""
        args = list(self._build.example(call.node.args))
        if call.in_place:
            args[0] = args[0].clone()
        kwargs = {name: self._build.example(value) for name, value in call.node.kwargs.items()}
        try:
            found = call.function(*args, **kwargs)
        except Exception as error:  # as it may at this example
            raise NotInC(f"{call.name}: {error}") from error
        if isinstance(found, Tensor):
            # Memory of its own, as others are told by it.
            return found.clone(memory_format=torch.contiguous_format)
        if isinstance(found, (tuple, list)):
            return [each.clone(memory_format=torch.contiguous_format) for each in found]
        raise NotInC(f"{call.name} giving no tensor")

    def _check_in_place(self, call: Call) -> None:
        """A change in place is a new array where nothing else looks at the memory it changes."""
        changed = self._build.root(call.node.args[0])
        if changed.op != "call_function" or changed in self._looked_at:
            raise NotInC(f"{call.name} of what is given, or of a part of an array")
        for node in self._looked_at:
            if self._origin(node) is changed and _used_after(node, call.node):
                raise NotInC(f"{call.name} of an array that others look at")

    def _origin(self, node: Node) -> Node:
        while node in self._looked_at:
            node = self._looked_at[node]
        return node

    def _view(self, call: Call) -> bool:
        """Whether an operation only looks at its first operand; then it is done."""
        returns = call.schema.returns
        alias = returns[0].alias_info if returns else None
        if call.in_place:
            if call.base_name not in _RESHAPED:
                return False
        elif (alias is None or alias.is_write) and call.name != "_unsafe_view":
            return False
        source = self._build.root(call.node.args[0])
        array = self._build.array(source)
        self._looked_at[call.node] = source
        args = [self._build.example(each) for each in call.node.args]
        # Another face of the same memory, as its shape may change in place.
        args[0] = args[0].detach()
        kwargs = {name: self._build.example(value) for name, value in call.node.kwargs.items()}
        if array.store is None:
            # One number all over, whatever the view.
            found = call.function(args[0].contiguous(), *args[1:], **kwargs)
            self._build.examples[call.node] = found
            self._build.arrays[call.node] = constant_like(array, found)
            return True
        try:
            found = call.function(*args, **kwargs)
        except RuntimeError:
            array = self._build.pointwise("{0}", array.dtype, [array], array.shape)
            example = args[0].clone(memory_format=torch.contiguous_format)
            found = call.function(example, *args[1:], **kwargs)
            args[0] = example
        tensors = found if isinstance(found, (list, tuple)) else [found]
        if call.name == "as_strided" or not all(_same_memory(each, args[0]) for each in tensors):
            raise NotInC(call.name)
        base = args[0].storage_offset() - array.offset
        looked = [
            array._replace(
                dtype=each.dtype,
                shape=tuple(each.shape),
                strides=tuple(each.stride()),
                offset=each.storage_offset() - base,
            )
            for each in tensors
        ]
        if any(each.dtype != array.dtype for each in looked):
            raise NotInC(f"{call.name} to another type")
        self._build.examples[call.node] = found
        self._build.arrays[call.node] = looked if isinstance(found, (list, tuple)) else looked[0]
        return True

    def _made(self, call: Call, example: Any) -> Any:
        name = call.base_name
        if isinstance(example, Tensor) and example.numel() == 0:
            raise NotInC("arrays without elements")
        if name in _CONSTANTS or name in _FULL:
            return self._constant(call, example)
        for written in (elementwise, reduced, indexed, assembled, linear):
            array = written(self._build, call, example)
            if array is not None:
                return array
        raise NotInC(f"{call.schema.name.removeprefix('aten::')}.{call.overload}".rstrip("."))

    def _constant(self, call: Call, example: Tensor) -> Array:
        name = call.base_name
        for argument in call.schema.arguments:
            call.given(argument.name)
        if name in _CONSTANTS:
            value: Any = _CONSTANTS[name]
        else:
            value = call.at(_FULL[name])
        if isinstance(value, Node):
            return self._build.pointwise(
                "{0}", example.dtype, [self._build.array(value)], example.shape
            )
        return constant_like(Array(None, example.dtype, (), ()), example, value)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return _memory(a) == _memory(b)


def _used_after(node: Node, change: Node) -> bool:
    order = {each: i for i, each in enumerate(change.graph.nodes)}
    return any(order[user] > order[change] for user in node.users)
