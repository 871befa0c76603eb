"""A nest of tensors as one file: NumPy's npz, which is arrays with checksums, and no pickle.

Tensors are named by the way to them, ``chain.tree.position``. A file says nothing of classes: it is
read into the structure that the program has for it, by an example or by the types of the fields of
a NamedTuple, and refused where the two differ.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

_ABOUT = "about.json"
# Behind the name of a part that is None.
_NONE = ":none"


class Saved(NamedTuple):
    """The contents of a checkpoint: arrays by name, and what JSON can hold beside them."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]


def flatten(tree: Any, name: str = "") -> dict[str, np.ndarray]:
    """The tensors and numbers of nested NamedTuples, tuples and mappings by name.

    A list of floats, or of tensors of one shape, is one array.

    :raises TypeError: something else is among them.
    """
    if tree is None:
        return {name + _NONE: np.zeros(0)}
    if isinstance(tree, Tensor):
        return {name: tree.detach().cpu().numpy()}
    if isinstance(tree, bool | int | float):
        return {name: np.asarray(tree)}
    if isinstance(tree, list):
        tensors = bool(tree) and isinstance(tree[0], Tensor)
        value = torch.stack(tree).cpu().numpy() if tensors else np.asarray(tree, dtype=np.float64)
        return {name: value}
    found: dict[str, np.ndarray] = {}
    for key, branch in _branches(tree, name).items():
        found |= flatten(branch, _below(name, key))
    return found


def rebuild(
    structure: Any,
    arrays: Mapping[str, np.ndarray],
    name: str = "",
    *,
    free: Mapping[str, int] = {},
) -> Any:
    """The nest of which :func:`flatten` made arrays.

    :param structure: a nest of the same kind. Parts of it that were None become None.
    :param free: by a pattern of names, the axis whose size is that of the array.
    :raises ValueError: arrays of another dtype or shape, or more or fewer of them.
    """
    left = dict(arrays)
    tree = _rebuilt(structure, left, name, free)
    if left:
        raise ValueError(f"expected no {', '.join(sorted(left)[:3])}: this state has none.")
    return tree


def _rebuilt(
    structure: Any, left: dict[str, np.ndarray], name: str, free: Mapping[str, int]
) -> Any:
    if left.pop(name + _NONE, None) is not None:
        return None
    if structure is None or isinstance(structure, Tensor | bool | int | float):
        if structure is None or name not in left:
            raise ValueError(f"expected {'no ' if structure is None else ''}{name} in this state.")
        found = left.pop(name)
        if not isinstance(structure, Tensor):
            if found.ndim:
                raise ValueError(f"expected {name} as one number, got shape {found.shape}.")
            return type(structure)(found)
        tensor = torch.from_numpy(found.copy())
        if tensor.dtype != structure.dtype or tensor.dim() != structure.dim():
            raise ValueError(
                f"expected {name} as {structure.dtype} with {structure.dim()} axes, got "
                f"{tensor.dtype} with {tensor.dim()}."
            )
        expected = list(structure.shape)
        for axis in (axis for pattern, axis in free.items() if re.fullmatch(pattern, name)):
            expected[axis] = max(1, tensor.shape[axis])
        if list(tensor.shape) != expected:
            raise ValueError(f"expected {name} of shape {expected}, got {list(tensor.shape)}.")
        return tensor.to(structure.device)
    parts = {
        key: _rebuilt(branch, left, _below(name, key), free)
        for key, branch in _branches(structure, name).items()
    }
    if isinstance(structure, Mapping):
        return parts
    return type(structure)(*parts.values()) if hasattr(structure, "_fields") else (*parts.values(),)


def restored(kind: type, arrays: Mapping[str, np.ndarray], name: str, device: torch.device) -> Any:
    """The NamedTuple of which :func:`flatten` made arrays, by the types of its fields.

    :param kind: its class; fields are tensors, numbers, lists of these, NamedTuples, or None.
    :raises ValueError: more or fewer arrays, or an array where a number should be.
    """
    left = dict(arrays)
    tree = _of_kind(kind, left, name, device)
    if left:
        raise ValueError(f"expected no {', '.join(sorted(left)[:3])}: this state has none.")
    return tree


def _of_kind(kind: Any, left: dict[str, np.ndarray], name: str, device: torch.device) -> Any:
    choices = [choice for choice in get_args(kind) if choice is not NoneType]
    if NoneType in get_args(kind):
        if left.pop(name + _NONE, None) is not None:
            return None
        (kind,) = choices
    if hasattr(kind, "_fields"):
        types = get_type_hints(kind)
        parts = [_of_kind(types[key], left, _below(name, key), device) for key in kind._fields]
        return kind(*parts)
    if name not in left:
        raise ValueError(f"expected {name} in this state.")
    found = left.pop(name)
    if kind in (bool, int, float):
        if found.ndim:
            raise ValueError(f"expected {name} as one number, got shape {found.shape}.")
        return kind(found)
    if get_origin(kind) is list and choices == [float]:
        return found.tolist()
    tensor = torch.from_numpy(found.copy()).to(device)
    return list(tensor) if get_origin(kind) is list else tensor


def _branches(tree: Any, name: str) -> Mapping[str, Any]:
    if isinstance(tree, Mapping):
        return tree
    if isinstance(tree, tuple):
        keys = getattr(tree, "_fields", [str(i) for i in range(len(tree))])
        return dict(zip(keys, tree, strict=True))
    raise TypeError(f"expected tensors, numbers and tuples in a state, got {type(tree)} in {name}.")


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def write(path: Path, saved: Saved) -> None:
    """Write a checkpoint so that at any moment the file is the old one or the new one, whole.

    :raises OSError: the disk is full; the old file is then still there.
    """
    about = np.frombuffer(json.dumps(saved.about).encode(), dtype=np.uint8)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **{**saved.arrays, _ABOUT: about})
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a loss of power, where the system can."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> Saved:
    """Read a checkpoint whole.

    :raises ValueError: the file is cut off or damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is cut off or damaged ({type(error).__name__}: {error}): it cannot be read."
        ) from error
    return Saved(arrays, about)
