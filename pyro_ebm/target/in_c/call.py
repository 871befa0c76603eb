"""One recorded operation, its arguments looked up by name."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from .expressions import NotInC

# Arguments that say where a result lies, and not what it is.
_OF_STORAGE = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"}


class Call:
    """One recorded operation with its arguments looked up by name."""

    def __init__(self, node: Node) -> None:
        target: Any = node.target
        self.node, self.function = node, target
        self.schema = target._schema
        self.name = self.schema.name.split("::")[-1]
        self.overload = self.schema.overload_name
        self.in_place = any(
            argument.alias_info is not None and argument.alias_info.is_write
            for argument in self.schema.arguments
        )
        self.base_name = self.name.rstrip("_") if self.in_place else self.name
        self._given = dict(
            zip((argument.name for argument in self.schema.arguments), node.args, strict=False)
        ) | dict(node.kwargs)
        self._read: set[str] = set()

    def given(self, name: str, default: Any = None) -> Any:
        """An argument by its name in the schema."""
        self._read.add(name)
        value = self._given.get(name)
        if value is not None:
            return value
        for argument in self.schema.arguments:
            if argument.name == name and argument.has_default_value():
                found = argument.default_value
                return default if found is None else found
        return default

    def at(self, index: int) -> Any:
        """An argument by its position."""
        return self.given(self.schema.arguments[index].name)

    def check_all_read(self) -> None:
        """No argument that changes the result was passed over."""
        left = set(self._given) - self._read - _OF_STORAGE
        defaults = {a.name: a.default_value for a in self.schema.arguments if a.has_default_value()}
        left = {
            name
            for name in left
            if self._given[name] not in (None, False, defaults.get(name, False))
        }
        if left:
            raise NotInC(f"{self.name} with {', '.join(sorted(left))}")
