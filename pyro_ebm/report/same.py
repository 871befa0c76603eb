"""Whether runs can be merged: of one distribution, of one shape, and of chains that differ."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyro_ebm.inference_data import DATA_GROUPS
from pyro_ebm.mcmc.api.diagnose_data import numeric_draws
from pyro_ebm.mcmc.api.fingerprint import another_distribution

from .read import BadInput, Run


def check_same(first: Run, other: Run) -> None:
    """Refuse a run of another distribution, or of another length.

    :raises BadInput: saying what is different.
    """
    _refuse(first, other, _other_variables(first, other))
    lengths = [run.groups["posterior"].sizes["draw"] for run in (first, other)]
    if lengths[0] != lengths[1]:
        raise BadInput(
            f"{other.path} has chains of {lengths[1]} draws and {first.path} of {lengths[0]}: "
            "only chains of one length can be merged."
        )
    _refuse(first, other, _other_data(first, other) or _another_distribution(first, other))
    for name in [name for name in first.groups if name in other.groups]:
        why = difference(name, first, other)
        if why is not None and not name.startswith("prior"):
            raise BadInput(f"{other.path} cannot be merged with {first.path}: {why}.")
    thinned = [run.attrs.get("thinning", 1) for run in (first, other)]
    if thinned[0] != thinned[1]:
        raise BadInput(
            f"{other.path} keeps every {thinned[1]}th transition and {first.path} every "
            f"{thinned[0]}th: they cannot be merged."
        )


def difference(group: str, first: Run, other: Run) -> str | None:
    """In words what keeps a group of two runs from being put together along chains."""
    one, two = first.groups[group], other.groups[group]
    # Warm-ups may be of any length; the shortest counts.
    free = ("chain", "draw") if group.startswith("warmup_") else ("chain",)
    for name in sorted(map(str, one.data_vars.keys() & two.data_vars.keys())):
        shapes = [_shape(part[name], free) for part in (one, two)]
        if shapes[0] != shapes[1]:
            return f"its {name!r} in {group} is of shape {shapes[1]}, not {shapes[0]}"
    for axis in sorted(map(str, one.coords.keys() & two.coords.keys())):
        if axis not in ("chain", "draw") and not _equal(one[axis], two[axis]):
            return f"its labels of the axis {axis!r} in {group} are others"
    return None


def check_fresh(runs: Sequence[Run]) -> None:
    """Refuse chains that two runs share: they would count double.

    :raises BadInput: there are some.
    """
    seen: dict[bytes, Run] = {}
    for run in runs:
        chains = _chains(run)
        twice = chains & seen.keys()
        if twice:
            other = seen[min(twice)]
            raise BadInput(
                f"{run.path} and {other.path} hold the same draws: they would count double."
            )
        seen |= dict.fromkeys(chains, run)


def unchecked(runs: Sequence[Run]) -> str | None:
    """A sentence on runs that do not say what they drew from."""
    silent = [str(run.path) for run in runs if "distribution" not in run.attrs]
    if not silent:
        return None
    return (
        f"Not checked: whether {' and '.join(silent)} drew from the same density as the others, as "
        "only names, shapes and data tell. An earlier version, or another package, wrote them."
    )


def _refuse(first: Run, other: Run, why: str | None) -> None:
    if why is not None:
        raise BadInput(f"{other.path} is a run of another model than {first.path}: {why}.")


def _other_variables(first: Run, other: Run) -> str | None:
    one, two = first.groups["posterior"], other.groups["posterior"]
    for name in sorted({*map(str, one.data_vars), *map(str, two.data_vars)}):
        if name not in two.data_vars:
            return f"it has no variable {name!r}"
        if name not in one.data_vars:
            return f"it has a variable {name!r} too"
        shapes = [_shape(group[name], ("chain", "draw")) for group in (one, two)]
        if shapes[0] != shapes[1]:
            return f"its {name!r} is of shape {shapes[1]}, not {shapes[0]}"
    return None


def _other_data(first: Run, other: Run) -> str | None:
    for group in DATA_GROUPS:
        held = [run.groups.get(group, {}) for run in (first, other)]
        for name in sorted({*map(str, held[0]), *map(str, held[1])}):
            if name not in held[0] or name not in held[1]:
                return f"only one of them has the data {name!r}"
            if not _equal(held[0][name], held[1][name]):
                return f"its data {name!r} are others"
    graphs = [run.attrs.get("model_graph") for run in (first, other)]
    if None not in graphs and graphs[0] != graphs[1]:
        return "its sites or their distributions are others"
    return None


def _another_distribution(first: Run, other: Run) -> str | None:
    known = [run.attrs.get("distribution") for run in (first, other)]
    if known[0] is None or known[1] is None:
        return None
    return another_distribution(known[0], known[1])


def _shape(variable: Any, free: tuple[str, ...]) -> dict[str, int]:
    return {axis: size for axis, size in variable.sizes.items() if axis not in free}


def _equal(one: Any, two: Any) -> bool:
    first, second = np.asarray(one), np.asarray(two)
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))


def _chains(run: Run) -> set[bytes]:
    """A hash of the draws of each chain."""
    drawn = sorted(numeric_draws(run.groups["posterior"]).items())
    found = set()
    for chain in range(run.groups["posterior"].sizes["chain"]):
        digest = hashlib.sha256()
        moves = False
        for name, values in drawn:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values[chain]).tobytes())
            moves = moves or bool((values[chain] != values[chain, :1]).any())
        if not moves:
            # In a ground state chains of different runs stand still alike.
            digest.update(str(run.attrs.get("seed")).encode())
        found.add(digest.digest())
    return found
