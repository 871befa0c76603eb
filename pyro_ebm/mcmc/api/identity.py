"""What a stored run was a run of, so that another model, other data or another kernel are refused.

Sites are compared by name, shape and support, data and arguments by a hash, a kernel by its
settings. What none of these sees, a constant within the model or the weights of a net, changes the
log density, its gradient or the values of sites, which are compared at stored points.

Arguments of unknown classes are hashed by what they convert to (``to_numpy()``, ``__array__``), or
by their attributes. Of what has neither, as functions, only the class counts.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram
from pyro_ebm.target.program import ModelProgram
from pyro_ebm.target.simple_programs import EnergyProgram

from .inputs import by_parameter
from .sites import site_facts

# What a kernel takes that is no setting: what it samples is compared by itself, and how its step is
# run is kept from the beginning of a run.
_NO_SETTINGS = ("model", "potential_fn", "transforms", "init_strategy", "jit_compile", "why")
# Roundings of a log density that differ between machines and versions.
_ROUNDINGS = 1e3

# Whose repr() is all that they are.
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    datetime.date,
    datetime.time,
    datetime.timedelta,
)
# What names the columns and the rows of a table.
_LABELS = ("columns", "index")

Identity = dict[str, dict[str, Any]]


def identity(
    target: Target,
    args: tuple,
    kwargs: Mapping[str, Any],
    **settings: Mapping[str, Any],
) -> Identity:
    """What identifies a run, by group and name, in values that JSON keeps as they are.

    :param settings: those of the method, by a word for what they are settings of.
    """
    program = target.described
    observed: dict[str, Any] = {}
    given: dict[str, Any] = {}
    determined: dict[str, Any] = {}
    if isinstance(program, ModelProgram):
        facts = site_facts(program)
        observed = {n: digest(fact.value) for n, fact in facts.items() if fact.value is not None}
        determined = {n: list(f.shape) for n, f in facts.items() if f.kind == "deterministic"}
        given = by_parameter(program.user_model, args, kwargs)
    supports = _supports(target)
    return {
        "site": {
            site.name: [list(site.shape), list(site.unconstrained_shape), supports[site.name]]
            for site in target.sites
        },
        "deterministic site": determined,
        "data of site": observed,
        "argument": {name: digest(value) for name, value in given.items()},
        **{
            group: {name: _plain(value) for name, value in sorted(named.items())}
            for group, named in settings.items()
        },
        "numbers": {"dtype": str(target.dtype), "device": target.device.type},
    }


def differences(before: Identity, now: Identity) -> list[str]:
    """In what two identities differ, a few words each."""
    found = []
    for group in [name for name in now if name in before]:
        old, new = before[group], now[group]
        if group == "kernel":
            # What is no setting may have been one when the run was begun.
            old = {name: value for name, value in old.items() if name not in _NO_SETTINGS}
        for name in sorted({*old, *new}):
            if name not in new:
                found.append(f"{group} {name!r} is gone")
            elif name not in old:
                found.append(f"{group} {name!r} is new")
            elif old[name] != new[name]:
                hashed = group in ("data of site", "argument")
                was = "" if hashed else f": it was {old[name]} and is {new[name]}"
                found.append(f"{group} {name!r} is another{was}")
    return found


def density_differs(before: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> str | None:
    """In words how log densities [points] and gradients [dim, points] at the same points differ."""
    (old, old_gradient), (new, new_gradient) = before, now
    tolerance = _ROUNDINGS * torch.finfo(old.dtype).eps
    # Written so that a number that is none differs from every other.
    apart = ~((new - old).abs() <= tolerance * (1 + old.abs())) & (new != old)
    if bool(apart.any()):
        point = int(apart.long().argmax())
        return f"the log density at a stored point was {float(old[point])}, is {float(new[point])}"
    finite = old.isfinite()
    if not bool(finite.any()):
        return None
    old_gradient, new_gradient = old_gradient[..., finite], new_gradient[..., finite]
    scale = 1 + old_gradient.nan_to_num(0.0, 0.0, 0.0).abs().amax(1, keepdim=True)
    near = (new_gradient - old_gradient).abs() <= tolerance * scale
    # What a discrete target rules out is infinitely far down.
    if not bool((near | (new_gradient == old_gradient)).all()):
        return "the gradient of the log density at a stored point is another"
    return None


def values_differ(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[str]:
    """In words in which sites values [points, *shape] at the same points differ."""
    found = []
    for name, old in before.items():
        new = now.get(name)
        if new is None:
            found.append(f"site {name!r} is gone")
        elif new.shape != old.shape or new.dtype != old.dtype:
            found.append(
                f"site {name!r} is another: it was {old.dtype} of shape {list(old.shape[1:])} and "
                f"is {new.dtype} of shape {list(new.shape[1:])}"
            )
        elif not agree(old, new):
            found.append(f"site {name!r} has other values at a stored point")
    return found


def agree(old: Tensor, new: Tensor) -> bool:
    """Whether values are the same up to rounding, and numbers that are none in the same places."""
    if not old.is_floating_point():
        return torch.equal(old, new)
    finite = old.isfinite()
    if not torch.equal(finite, new.isfinite()):
        return False
    old, new = old[finite], new[finite]
    scale = 1 + old.abs().max() if old.numel() else 1
    return bool(((new - old).abs() <= _ROUNDINGS * torch.finfo(old.dtype).eps * scale).all())


def _supports(target: Target) -> dict[str, str]:
    program = target.described
    if isinstance(program, EnergyProgram | DiscreteProgram):
        return {"x": _support(program.energy.support)}
    if not isinstance(program, ModelProgram):
        return {site.name: "" for site in target.sites}
    nodes: Any = program.first_trace.nodes
    return {site.name: _support(nodes[site.name]["fn"].support) for site in target.sites}


def _support(constraint: Any) -> str:
    """The classes of a constraint; its bounds may depend on other sites."""
    name = getattr(type(constraint), "__name__", str(constraint))
    inner = getattr(constraint, "base_constraint", None)
    return name if inner is None else f"{name}({_support(inner)})"


def settings_of(kernel: Any) -> dict[str, Any]:
    """What sets a kernel, its class among it."""
    found = {name: value for name, value in vars(kernel).items() if name not in _NO_SETTINGS}
    return {"class": type(kernel).__name__, **found}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        return digest(value)
    if isinstance(value, tuple | list):
        parts = [_plain(part) for part in value]
        return [type(value).__name__, *parts] if hasattr(value, "_fields") else parts
    return type(value).__name__


def digest(value: Any) -> str:
    """A hash of nested tensors, arrays, plain values and attributes."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any, within: tuple[int, ...] = ()) -> Iterator[bytes]:
    """The bytes of nested tensors, arrays, plain values and attributes; else of the class.

    :param within: objects that contain this one, as attributes may lead back to them.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        # Types that NumPy does not know have bytes too.
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        if value.dtype.hasobject:
            yield from _parts(value.tolist(), within)
        else:
            yield value.tobytes()
    elif value is None or isinstance(value, _PLAIN):
        yield f"{type(value).__name__}{value!r}".encode()
    elif id(value) not in within:
        yield from _nested(value, (*within, id(value)))


def _nested(value: Any, within: tuple[int, ...]) -> Iterator[bytes]:
    """The bytes of what consists of other things."""
    if isinstance(value, nn.Module):
        yield from _parts(value.state_dict(), within)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield repr(name).encode()
            yield from _parts(part, within)
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__}{len(value)}".encode()
        for part in value:
            yield from _parts(part, within)
    elif isinstance(value, set | frozenset):
        yield f"set{len(value)}".encode()
        yield from sorted(digest(part).encode() for part in value)
    else:
        kind = value if isinstance(value, type) else type(value)
        yield f"{kind.__module__}.{kind.__qualname__}".encode()
        if kind is value:
            return
        if hasattr(value, "to_numpy"):
            # Of a table the names of its columns and rows too.
            yield from _parts([list(getattr(value, name, ())) for name in _LABELS], within)
            yield from _parts(value.to_numpy(), within)
        elif hasattr(value, "__array__"):
            yield from _parts(np.asarray(value), within)
        else:
            for name, part in sorted(getattr(value, "__dict__", {}).items()):
                yield name.encode()
                yield from _parts(part, within)
